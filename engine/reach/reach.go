// Package reach bounds where requests go that the repositories ask for: those of gates, and those to webhooks (R53).
// Whoever may write to a repository must not make the control plane ask what only its own machine or network reaches.
//
// A List says which addresses may be dialled. The address that is checked is the one that is dialled, so that a name
// server that changes its answer gains nothing. The package follows no redirect, sends nothing by itself, and logs
// nothing. A List is immutable, and may be used at once.
package reach

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// List is where requests may go. The zero value allows nothing.
type List struct {
	classes []class
	ranges  []netip.Prefix
	hosts   []string // names, in lower case
}

// class is a word of a list for many addresses.
type class string

const (
	public   class = "public"
	private  class = "private"
	loopback class = "loopback"
)

// Default is the list where none is given.
const Default = string(public)

// Parse reads a list. An entry is public, private or loopback, an address, a range such as 10.1.0.0/16, or the name of
// a host.
func Parse(entries []string) (List, error) {
	var l List
	for _, entry := range entries {
		entry = strings.ToLower(strings.TrimSpace(entry))
		switch c := class(entry); c {
		case public, private, loopback:
			l.classes = append(l.classes, c)
			continue
		}
		if prefix, err := netip.ParsePrefix(entry); err == nil {
			if inner := actual(prefix.Addr()); inner != prefix.Addr() {
				return List{}, fmt.Errorf("%q is a range of addresses that stand for others: list those", entry)
			}
			l.ranges = append(l.ranges, prefix.Masked())
			continue
		}
		if addr, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil && addr.Zone() == "" {
			addr = actual(addr)
			l.ranges = append(l.ranges, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		if !isHostName(entry) {
			return List{}, fmt.Errorf("%q is none of public, private, loopback, an address, a range such as 10.1.0.0/16, "+
				"or the name of a host without a port", entry)
		}
		l.hosts = append(l.hosts, strings.TrimSuffix(entry, "."))
	}
	return l, nil
}

func isHostName(s string) bool {
	last := s[strings.LastIndexByte(strings.TrimSuffix(s, "."), '.')+1:]
	isNumber := strings.Trim(last, "0123456789.") == "" // of an address that is not complete
	return !isNumber && len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	})
}

// Lists reports whether the list has a host by itself: by its name, its address or a range. What such a host answers
// may be shown.
func (l List) Lists(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return l.listsAddr(actual(addr))
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for _, h := range l.hosts {
		if h == host {
			return true
		}
	}
	return false
}

func (l List) listsAddr(addr netip.Addr) bool {
	for _, p := range l.ranges {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// ErrOutside means that a list does not allow an address.
var ErrOutside = errors.New("may not be reached")

// Check returns an error unless addr, to which host resolved, may be dialled. A host that the list names may be in a
// private network. Loopback, link-local addresses and those of a cloud's metadata must be listed themselves. The error
// does not say what the host resolved to.
func (l List) Check(host string, addr netip.Addr) error {
	addr = actual(addr)
	if l.listsAddr(addr) {
		return nil
	}
	is := classOf(addr)
	for _, c := range l.classes {
		if c == is {
			return nil
		}
	}
	if l.Lists(host) && (is == public || is == private || is == loopback && strings.EqualFold(host, "localhost")) {
		return nil
	}
	return fmt.Errorf("%s %w", host, ErrOutside)
}

// classOf returns the class of an address; empty: in none, as link-local, multicast and reserved addresses are.
func classOf(addr netip.Addr) class {
	switch {
	case isIn(addr, metadata):
		return ""
	case addr.IsLoopback():
		return loopback
	case isIn(addr, privateRanges):
		return private
	case addr.Is4() && !isIn(addr, special4), addr.Is6() && isIn(addr, global6) && !isIn(addr, special6):
		return public
	}
	return ""
}

// actual returns the IPv4 address that an IPv6 address stands for, else the address itself, without its zone.
func actual(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	bytes := addr.As16()
	switch {
	case !addr.Is6():
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(bytes[12:]))
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(bytes[2:6]))
	}
	return addr
}

func isIn(addr netip.Addr, ranges []netip.Prefix) bool {
	for _, p := range ranges {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
