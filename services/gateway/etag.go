package gateway

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"coatcheck/chassis/fault"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// incarnations matches what can stand before the version in a tag of ours. What
// does not is another's tag and must not reach the cart.
var incarnations = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// etagOf is the tag of a cart's state; "0" stands for the incarnation of an
// absent cart.
func etagOf(c *gotCart) string {
	incarnation := c.incarnation
	if incarnation == "" {
		incarnation = "0"
	}
	return `"` + incarnation + "." + strconv.FormatUint(c.Version, 10) + "." + c.revision + `"`
}

// versionOf reads the version out of a tag's opaque part; ok is false for a tag
// that was never one of ours.
func versionOf(opaque string) (*cartv1.CartVersion, bool) {
	incarnation, rest, ok := strings.Cut(opaque, ".")
	if !ok || !incarnations.MatchString(incarnation) {
		return nil, false
	}
	digits, _, ok := strings.Cut(rest, ".")
	if !ok {
		return nil, false
	}
	version, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || strconv.FormatUint(version, 10) != digits {
		return nil, false
	}
	if incarnation == "0" {
		incarnation = ""
	}
	return &cartv1.CartVersion{Incarnation: incarnation, Version: version}, true
}

// tag is an entity tag; opaque is what stands between the quotes.
type tag struct {
	opaque string
	weak   bool
}

// parseTags reads the lines of a header that is a list of entity tags or "*".
// ok is false if it is malformed or empty.
func parseTags(lines []string) (tags []tag, star, ok bool) {
	rest := strings.Trim(strings.Join(lines, ","), " \t")
	if rest == "*" {
		return nil, true, true
	}
	for rest != "" {
		if rest[0] == ',' {
			rest = strings.TrimLeft(rest[1:], " \t") // lists may have empty elements
			continue
		}
		var t tag
		rest, t.weak = strings.CutPrefix(rest, "W/")
		if rest == "" || rest[0] != '"' {
			return nil, false, false
		}
		t.opaque, rest, ok = strings.Cut(rest[1:], `"`)
		if !ok || strings.ContainsFunc(t.opaque, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
			return nil, false, false
		}
		tags = append(tags, t)
		rest = strings.TrimLeft(rest, " \t")
		if rest != "" && rest[0] != ',' {
			return nil, false, false
		}
	}
	return tags, false, len(tags) > 0
}

// ifMatch reads the If-Match header. It returns nil when there is no condition
// (none, or "*"); weak tags and tags that are not ours are left out, since they
// match nothing.
func ifMatch(h http.Header) (*cartv1.Precondition, error) {
	lines := h.Values("If-Match")
	if len(lines) == 0 {
		return nil, nil
	}
	tags, star, ok := parseTags(lines)
	if !ok {
		return nil, fault.New(fault.Invalid, "invalid_if_match", `If-Match must be "*" or a list of entity tags in double quotes, as ETag has them.`)
	}
	if star {
		return nil, nil
	}
	precondition := &cartv1.Precondition{}
	for _, t := range tags {
		if t.weak {
			continue
		}
		if version, ours := versionOf(t.opaque); ours {
			precondition.AnyOf = append(precondition.AnyOf, version)
		}
	}
	return precondition, nil
}

// notModified reports whether If-None-Match names the tag, weak or not. A
// malformed header is as none: the whole answer is never wrong.
func notModified(h http.Header, etag string) bool {
	tags, star, ok := parseTags(h.Values("If-None-Match"))
	if !ok {
		return false
	}
	for _, t := range tags {
		if `"`+t.opaque+`"` == etag {
			return true
		}
	}
	return star
}
