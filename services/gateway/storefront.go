package gateway

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

//go:embed storefront
var storefrontFiles embed.FS

var (
	pageStyles  = regexp.MustCompile(`<link rel="stylesheet" href="([a-z]+\.css)">`)
	pageScripts = regexp.MustCompile(`<script src="([a-z]+\.js)"></script>`)
)

// storefront is the page at /: a shop for people, and beside it which replicas
// answered. Style and scripts are put into the page when the gateway starts, so
// that all of it comes in one answer: while a new version rolls out, a page must
// not get its parts from replicas of two. The policy sent with it runs these
// scripts and no other, lets the page ask this shop only, and lets no text
// become markup.
type storefront struct {
	plain, zipped variant
	policy        string
}

// variant is the page in one encoding, with a tag of its own.
type variant struct {
	body []byte
	etag string
}

func newStorefront() (storefront, error) {
	page, err := storefrontFiles.ReadFile("storefront/index.html")
	if err != nil {
		return storefront{}, err
	}
	page, styles, err := inline(page, pageStyles, "style")
	if err != nil {
		return storefront{}, err
	}
	page, scripts, err := inline(page, pageScripts, "script")
	if err != nil {
		return storefront{}, err
	}
	var zipped bytes.Buffer
	w, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	if err != nil {
		return storefront{}, err
	}
	_, _ = w.Write(page) // a buffer takes it
	_ = w.Close()
	return storefront{
		plain:  newVariant(page),
		zipped: newVariant(zipped.Bytes()),
		policy: "default-src 'none'; connect-src 'self'; img-src data:; style-src " + strings.Join(styles, " ") + "; script-src " + strings.Join(scripts, " ") +
			"; require-trusted-types-for 'script'; trusted-types 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	}, nil
}

func newVariant(body []byte) variant {
	sum := sha256.Sum256(body)
	return variant{body: body, etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:15]) + `"`}
}

// inline puts the files that the page names into it, each in an element of its
// own, and returns the sources by which a policy allows them.
func inline(page []byte, references *regexp.Regexp, element string) ([]byte, []string, error) {
	var out bytes.Buffer
	var sources []string
	end := 0
	for _, m := range references.FindAllSubmatchIndex(page, -1) {
		name := string(page[m[2]:m[3]])
		content, err := storefrontFiles.ReadFile("storefront/" + name)
		if err != nil {
			return nil, nil, err
		}
		if bytes.Contains(content, []byte("</")) || bytes.Contains(content, []byte("<!--")) {
			return nil, nil, fmt.Errorf("%s has what would end its element early", name)
		}
		sum := sha256.Sum256(content)
		sources = append(sources, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
		out.Write(page[end:m[0]])
		fmt.Fprintf(&out, "<%s>%s</%s>", element, content, element)
		end = m[1]
	}
	if len(sources) == 0 {
		return nil, nil, fmt.Errorf("the page names no file for a %s", element)
	}
	out.Write(page[end:])
	return out.Bytes(), sources, nil
}

func (g *Gateway) storefrontPage(w *answer, r *http.Request) error {
	page := g.storefront.plain
	if acceptsGzip(r.Header) {
		page = g.storefront.zipped
	}
	w.set("Vary", "Accept-Encoding")
	w.set("Cache-Control", "no-cache")
	w.set("ETag", page.etag)
	w.set("Content-Security-Policy", g.storefront.policy)
	w.set("Referrer-Policy", "no-referrer")
	if notModified(r.Header, page.etag) {
		return replyEmpty(w, http.StatusNotModified)
	}
	if page.etag == g.storefront.zipped.etag {
		w.set("Content-Encoding", "gzip")
	}
	send(w, http.StatusOK, "text/html; charset=utf-8", page.body)
	return nil
}

// acceptsGzip reports whether the client names gzip among what it takes.
func acceptsGzip(h http.Header) bool {
	for coding := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, weight, weighed := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		if !weighed {
			return true
		}
		_, value, _ := strings.Cut(weight, "=")
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		return err == nil && q > 0
	}
	return false
}
