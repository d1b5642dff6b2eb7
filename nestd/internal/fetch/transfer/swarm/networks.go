package swarm

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/anacrolix/torrent/iplist"
)

// networks are those that peers may be in.
type networks []netip.Prefix

// Private are the networks that are nobody's in the Internet (RFC 1918, RFC
// 4193), this host and its links: what is allowed if nothing is said.
func Private() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range []string{
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128",
	} {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// allow reports whether a peer may be there.
func (n networks) allow(at netip.Addr) bool {
	at = at.Unmap().WithZone("")
	for _, network := range n {
		if network.Contains(at) {
			return true
		}
	}
	return false
}

// Lookup implements [iplist.Ranger]: it finds what is blocked.
func (n networks) Lookup(ip net.IP) (iplist.Range, bool) {
	at, ok := netip.AddrFromSlice(ip)
	if ok && n.allow(at) {
		return iplist.Range{}, false
	}
	return iplist.Range{First: ip, Last: ip, Description: "not an allowed network"}, true
}

// NumRanges implements [iplist.Ranger].
func (n networks) NumRanges() int { return len(n) }

// addressOf returns where a connection's other end is.
func addressOf(a fmt.Stringer) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return at, fmt.Errorf("%q is no address", a)
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}
