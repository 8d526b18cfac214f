package gateway

import (
	"net/http"
	"net/netip"
	"strings"
)

// proxies are the addresses that the shop's own proxies call from.
type proxies []netip.Prefix

// client returns the address that a request is counted under.
//
// The hazard is X-Forwarded-For, which a client can send as well as a proxy: an
// address is believed only if one of the proxies has written it. So the header is
// read from its end, where the last hop wrote, for as long as the hop that wrote
// is one of them; with no proxies it is not read at all.
func (p proxies) client(r *http.Request) netip.Addr {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr) // else nobody's, which is one address too
	hop := peer.Addr().Unmap()
	lines := r.Header["X-Forwarded-For"]
	for i := len(lines) - 1; i >= 0 && p.include(hop); i-- {
		for rest := lines[i]; rest != "" && p.include(hop); {
			comma := strings.LastIndexByte(rest, ',')
			said, ok := parseHop(rest[comma+1:])
			if !ok {
				return network(hop) // what stands before nobody vouches for
			}
			hop, rest = said, rest[:max(comma, 0)]
		}
	}
	return network(hop)
}

func (p proxies) include(addr netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// parseHop reads an address as proxies write it, some with the port.
func parseHop(text string) (netip.Addr, bool) {
	text = strings.Trim(text, " \t")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		with, portErr := netip.ParseAddrPort(text)
		if portErr != nil {
			return netip.Addr{}, false
		}
		addr = with.Addr()
	}
	return addr.WithZone("").Unmap(), true
}

// network is the address itself, or of IPv6 the /64 that it is in: whoever has one
// address there has all of them.
func network(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return addr
	}
	prefix, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return addr
	}
	return prefix.Addr()
}
