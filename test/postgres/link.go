package postgres

import (
	"testing"

	"github.com/sluice-cd/sluice/test/proxy"
)

// Link is a path to a server that can be cut.
type Link struct{ proxy *proxy.Proxy }

// NewLink opens a link to the server of an address, and returns the address over the link. It closes with the test.
func NewLink(t testing.TB, address string) (string, *Link) {
	t.Helper()
	u, err := parseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{proxy.New(t, u.Host, proxy.Impairment{})}
	u.Host = l.proxy.Address()
	return u.String(), l
}

// Cut makes a partition: nothing passes in either direction, and neither side gets an error. Bytes that were sent wait,
// and new connections are accepted but not answered.
func (l *Link) Cut() { l.proxy.Impair(proxy.Impairment{BlockUp: true, BlockDown: true}) }

// Restore ends the partition: bytes that waited pass.
func (l *Link) Restore() { l.proxy.Impair(proxy.Impairment{}) }

// ResetConns resets every existing connection.
func (l *Link) ResetConns() { l.proxy.ResetConns() }
