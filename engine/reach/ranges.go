package reach

import "net/netip"

// The ranges of the registries of special-purpose addresses (RFC 6890), and what clouds added.
var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixToFour = netip.MustParsePrefix("2002::/16")    // RFC 3056

	privateRanges = prefixes(
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", // RFC 1918
		"100.64.0.0/10",  // shared by carriers, and used within clouds: RFC 6598
		"fc00::/7",       // unique local: RFC 4193
		"64:ff9b:1::/48", // NAT64 of a site's own: RFC 8215
	)
	special4 = prefixes(
		"0.0.0.0/8",                      // this network
		"169.254.0.0/16",                 // link-local
		"192.0.0.0/24", "192.88.99.0/24", // protocols, relays of 6to4
		"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", // for documents
		"198.18.0.0/15",              // for benchmarks
		"224.0.0.0/4", "240.0.0.0/4", // multicast, reserved, broadcast
	)
	global6  = prefixes("2000::/3")
	special6 = prefixes(
		"2001::/23",                  // protocols, Teredo among them, which stands for an IPv4 address
		"2001:db8::/32", "3fff::/20", // for documents
	)
	// metadata are the addresses at which clouds tell a machine its credentials, link-local ones apart.
	metadata = prefixes(
		"169.254.0.0/16", "fe80::/10",
		"100.100.100.200/32",            // Alibaba
		"168.63.129.16/32",              // Azure
		"192.0.0.192/32",                // Oracle
		"fd00:ec2::/32", "fd20:ce::/32", // AWS, Google
	)
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, p := range list {
		out[i] = netip.MustParsePrefix(p)
	}
	return out
}
