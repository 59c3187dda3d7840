package identity

import "testing"

// R57: http:// goes to loopback only, whatever the name in the address.
func TestR57PlainTrafficStaysHere(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.8.9.1": true, "::1": true, "localhost": true, "LocalHost": true,
		"::ffff:127.0.0.1": true,
		"":                 false, "0.0.0.0": false, "::": false, "192.0.2.1": false, "10.0.0.1": false,
		"fe80::1":           false,
		"localhost.example": false, "127.0.0.1.example": false, "2130706433": false, "example.com": false,
		"::ffff:192.0.2.1": false,
	} {
		if got := IsLocalHost(host); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
	for address, want := range map[string]bool{
		"127.0.0.1:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true,
		"192.0.2.1:80": false, "0.0.0.0:80": false, "[fe80::1%eth0]:80": false, "localhost:80": false, "": false,
	} {
		if err := DialLocalOnly("tcp", address, nil); (err == nil) != want {
			t.Errorf("dial %q: %v", address, err)
		}
	}
}
