package plane

import (
	"strings"
	"testing"
)

// R57: the agent takes http:// to this machine only, and says what to use elsewhere.
func TestR57PlainServersAreLocal(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"http://127.0.0.1:7600", "http://localhost:7600/", "http://[::1]:7600",
		"HTTP://127.0.0.1:7600", "unix:///run/s.sock", "https://192.0.2.1:7601"} {
		if _, _, _, err := parseServer(server); err != nil {
			t.Errorf("%s: %v", server, err)
		}
	}
	for _, server := range []string{"http://192.0.2.1:7600", "http://sluice.example.com", "HTTP://192.0.2.1:7600",
		"http://0.0.0.0:7600", "http://[2001:db8::1]:7600", "http://127.0.0.1.example:7600", "http://10.0.0.1"} {
		_, _, _, err := parseServer(server)
		if err == nil || !strings.Contains(err.Error(), "goes over the network") ||
			!strings.Contains(err.Error(), "https://HOST:PORT") {
			t.Errorf("%s: %v", server, err)
		}
	}
}
