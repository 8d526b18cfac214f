package gateway

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestClientAddress(t *testing.T) {
	inside := proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, test := range map[string]struct {
		proxies proxies
		peer    string
		lines   []string
		want    string
	}{
		"no proxies, no header":                {nil, "192.0.2.1:5000", nil, "192.0.2.1"},
		"no proxies, a client's own header":    {nil, "192.0.2.1:5000", []string{"198.51.100.7"}, "192.0.2.1"},
		"past the proxies, with a header":      {inside, "192.0.2.1:5000", []string{"198.51.100.7"}, "192.0.2.1"},
		"a proxy without a header":             {inside, "10.1.1.1:5000", nil, "10.1.1.1"},
		"a proxy":                              {inside, "10.1.1.1:5000", []string{"192.0.2.1"}, "192.0.2.1"},
		"a proxy, a client's own header":       {inside, "10.1.1.1:5000", []string{"198.51.100.7, 192.0.2.1"}, "192.0.2.1"},
		"a client that claims to be a proxy":   {inside, "10.1.1.1:5000", []string{"10.9.9.9, 192.0.2.1"}, "192.0.2.1"},
		"two proxies":                          {inside, "10.1.1.1:5000", []string{"198.51.100.7, 192.0.2.1, 10.2.2.2"}, "192.0.2.1"},
		"two proxies, two lines":               {inside, "10.1.1.1:5000", []string{"198.51.100.7, 192.0.2.1", "10.2.2.2"}, "192.0.2.1"},
		"a client's own line before":           {inside, "10.1.1.1:5000", []string{"198.51.100.7", "192.0.2.1"}, "192.0.2.1"},
		"none but proxies":                     {inside, "10.1.1.1:5000", []string{"10.3.3.3,10.2.2.2"}, "10.3.3.3"},
		"nonsense by the client":               {inside, "10.1.1.1:5000", []string{"unknown, 192.0.2.1"}, "192.0.2.1"},
		"nonsense by a proxy":                  {inside, "10.1.1.1:5000", []string{"192.0.2.1, unknown"}, "10.1.1.1"},
		"nonsense behind a proxy":              {inside, "10.1.1.1:5000", []string{"192.0.2.1, _hidden, 10.2.2.2"}, "10.2.2.2"},
		"an empty line":                        {inside, "10.1.1.1:5000", []string{"192.0.2.1", ""}, "192.0.2.1"},
		"an empty part":                        {inside, "10.1.1.1:5000", []string{"192.0.2.1, "}, "10.1.1.1"},
		"a comma alone":                        {inside, "10.1.1.1:5000", []string{"192.0.2.1", ","}, "10.1.1.1"},
		"with ports":                           {inside, "10.1.1.1:5000", []string{"192.0.2.1:1234, 10.2.2.2:80"}, "192.0.2.1"},
		"a tab":                                {inside, "10.1.1.1:5000", []string{"198.51.100.7,\t192.0.2.1"}, "192.0.2.1"},
		"IPv6 is its network":                  {nil, "[2001:db8:1:2:3:4:5:6]:5000", nil, "2001:db8:1:2::"},
		"IPv6 by a proxy of IPv6":              {inside, "[fd00::1]:5000", []string{"2001:db8:1:2:3:4:5:6"}, "2001:db8:1:2::"},
		"IPv6 with a port":                     {inside, "[fd00::1]:5000", []string{"[2001:db8:1:2:3:4:5:6]:80"}, "2001:db8:1:2::"},
		"IPv4 as IPv6 is IPv4":                 {nil, "[::ffff:192.0.2.1]:5000", nil, "192.0.2.1"},
		"a proxy of IPv4 as IPv6":              {inside, "[::ffff:10.1.1.1]:5000", []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		"a zone":                               {nil, "[fe80::1%eth0]:5000", nil, "fe80::"},
		"no address at all":                    {inside, "@", []string{"192.0.2.1"}, "invalid IP"},
		"an address that is none of a network": {inside, "10.1.1.1:5000", []string{"192.0.2.1/24"}, "10.1.1.1"},
		"more lines than anybody has":          {inside, "10.1.1.1:5000", []string{strings.Repeat("10.2.2.2,", 1000) + "10.2.2.2"}, "10.2.2.2"},
	} {
		r := &http.Request{RemoteAddr: test.peer, Header: http.Header{"X-Forwarded-For": test.lines}}
		if got := test.proxies.client(r).String(); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// Whatever a client writes in front of what its proxy writes changes nothing.
func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{"", "10.1.1.1", "192.0.2.9,", ",,,", "[::1]:80, 10.0.0.1", "unknown", "\x00", strings.Repeat("10.1.1.1, ", 50)} {
		f.Add(seed)
	}
	inside := proxies{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, own string) {
		for _, lines := range [][]string{{own + ", 192.0.2.1"}, {own, "192.0.2.1"}, {own, own + ",192.0.2.1", "10.4.4.4"}} {
			r := &http.Request{RemoteAddr: "10.1.1.1:5000", Header: http.Header{"X-Forwarded-For": lines}}
			if got := inside.client(r).String(); got != "192.0.2.1" {
				t.Errorf("%q: %s", lines, got)
			}
		}
	})
}
