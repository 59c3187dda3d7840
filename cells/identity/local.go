package identity

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
)

// IsLocalHost reports whether the host of an address is this machine's loopback: the only one to which http:// may go,
// as others on the network could read and change the traffic (R57).
func IsLocalHost(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// DialLocalOnly is a net.Dialer's Control that refuses every address but loopback: the machine may map localhost to
// any.
func DialLocalOnly(_, address string, _ syscall.RawConn) error {
	if at, err := netip.ParseAddrPort(address); err != nil || !at.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s is not loopback, and http:// must not go over the network", address)
	}
	return nil
}
