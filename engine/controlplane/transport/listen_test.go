package transport_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/engine/controlplane/transport"
)

// Listeners for other machines use TLS.
func TestListenPeople(t *testing.T) {
	t.Parallel()
	k, err := transport.OpenKeys(filepath.Join(t.TempDir(), "tls"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := transport.ListenPeople("0.0.0.0:0", k.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if at := transport.ListenerURL(l); !strings.HasPrefix(at, "https://") {
		t.Error(at)
	}
	for _, bad := range []string{"", "localhost", "127.0.0.1:nope"} {
		for _, listen := range []func() (net.Listener, error){
			func() (net.Listener, error) { return transport.ListenPeople(bad, k.Certificate()) },
			func() (net.Listener, error) { return transport.ListenCells(bad, k) },
		} {
			if l, err := listen(); err == nil {
				l.Close()
				t.Errorf("listened on %q", bad)
			}
		}
	}
}
