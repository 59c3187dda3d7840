package postgres

import (
	"testing"

	"github.com/sluice-cd/sluice/test/proxy"
)

// Link is a path to a server that can be cut.
type Link struct{ proxy *proxy.Proxy }

// Through opens a link to the server of an address, and returns the address over the link. It closes with the test.
func Through(t testing.TB, address string) (string, *Link) {
	t.Helper()
	u, err := parseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{proxy.New(t, u.Host, proxy.Fault{})}
	u.Host = l.proxy.Address()
	return u.String(), l
}

// Cut makes a partition: nothing passes in either direction, and neither side gets an error. Bytes that were sent wait,
// and new connections are accepted but not answered.
func (l *Link) Cut() { l.proxy.SetFault(proxy.Fault{BlockUp: true, BlockDown: true}) }

// Mend ends the partition: bytes that waited pass.
func (l *Link) Mend() { l.proxy.SetFault(proxy.Fault{}) }

// Break resets every existing connection.
func (l *Link) Break() { l.proxy.ResetConns() }
