package gateway

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func storefrontClient(t *testing.T) *client {
	t.Helper()
	settings := testSettings()
	settings.Storefront = true
	return newShopWith(t, settings, 1).client(t)
}

// Off, / answers as any path that there is nothing at.
func TestStorefrontIsOffUnlessAskedFor(t *testing.T) {
	c := newShop(t).client(t)
	for _, method := range []string{"GET", "HEAD", "POST"} {
		if got := c.do(method, "/", ""); got.status != 404 {
			t.Errorf("%s /: %d", method, got.status)
		}
	}
	c.want(404, "no_such_route", "GET", "/", "")
}

func TestStorefront(t *testing.T) {
	c := storefrontClient(t)
	page := c.want(200, "", "GET", "/", "")
	if got := page.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	if len(c.cookies) != 0 {
		t.Error("a look at the page makes a guest")
	}
	for _, path := range []string{"/index.html", "/style.css", "/storefront/style.css", "/shop.js"} {
		c.want(404, "no_such_route", "GET", path, "")
	}
	c.want(405, "method_not_allowed", "POST", "/", "")
	if got := c.want(200, "", "HEAD", "/", ""); got.Get("ETag") != page.Get("ETag") {
		t.Error("HEAD has another ETag")
	}
}

// Two encodings are two representations: a tag of one must not stand for the other.
func TestStorefrontEncodingsAndTags(t *testing.T) {
	c := storefrontClient(t)
	plain := c.want(200, "", "GET", "/", "")
	zipped := c.want(200, "", "GET", "/", "", "Accept-Encoding: br;q=1.0, gzip;q=0.8")
	if plain.Get("Content-Encoding") != "" || zipped.Get("Content-Encoding") != "gzip" {
		t.Fatalf("encodings %q and %q", plain.Get("Content-Encoding"), zipped.Get("Content-Encoding"))
	}
	if plain.Get("ETag") == zipped.Get("ETag") {
		t.Error("both encodings have one ETag")
	}
	reader, err := gzip.NewReader(bytes.NewReader(zipped.body))
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := io.ReadAll(reader)
	if err != nil || !bytes.Equal(unzipped, plain.body) {
		t.Errorf("zipped it is another page: %v", err)
	}
	for _, tt := range []struct {
		accept, tag string
		status      int
	}{
		{"", plain.Get("ETag"), 304},
		{"", "W/" + plain.Get("ETag"), 304},
		{"", zipped.Get("ETag"), 200},
		{"gzip", zipped.Get("ETag"), 304},
		{"gzip", plain.Get("ETag"), 200},
		{"gzip", `"other"`, 200},
	} {
		headers := []string{"If-None-Match: " + tt.tag}
		if tt.accept != "" {
			headers = append(headers, "Accept-Encoding: "+tt.accept)
		}
		got := c.want(tt.status, "", "GET", "/", "", headers...)
		if got.Get("Vary") != "Accept-Encoding" || got.Get("Cache-Control") != "no-cache" || got.Get("ETag") == "" {
			t.Errorf("%+v: headers %v", tt, got.Header)
		}
		if tt.status == 304 && got.Get("Content-Encoding") != "" {
			t.Error("a 304 has an encoding")
		}
	}
	for accept, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "deflate, gzip": true, "gzip;q=0": false, "gzip; q=0.001": true, "gzip;q=x": false, "identity": false, "x-gzipped": false,
	} {
		if got := acceptsGzip(http.Header{"Accept-Encoding": {accept}}); got != want {
			t.Errorf("Accept-Encoding %q takes gzip: %v", accept, got)
		}
	}
}

// The policy must name each script and style of the page and let nothing else
// in; the page must need nothing else.
func TestStorefrontPolicy(t *testing.T) {
	page := storefrontClient(t).want(200, "", "GET", "/", "")
	policy := page.Get("Content-Security-Policy")
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") || strings.Contains(policy, "http") || !strings.HasPrefix(policy, "default-src 'none'; ") {
		t.Errorf("policy %s", policy)
	}
	elements := regexp.MustCompile(`(?s)<(style|script)>(.*?)</(?:style|script)>`).FindAllSubmatch(page.body, -1)
	for _, e := range elements {
		sum := sha256.Sum256(e[2])
		source := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		if !strings.Contains(policy, source) {
			t.Errorf("the policy does not know the %s that begins with %.60q", e[1], e[2])
		}
		policy = strings.Replace(policy, source, "", 1)
	}
	if len(elements) != 5 || strings.Contains(policy, "sha256") {
		t.Errorf("%d styles and scripts; left of the policy: %s", len(elements), policy)
	}
	markup := regexp.MustCompile(`(?s)<(style|script)>.*?</(?:style|script)>`).ReplaceAll(page.body, nil)
	for _, forbidden := range []string{`<script`, `<style`, `<link rel="stylesheet"`, ` style="`, `<iframe`, `<img`} {
		if bytes.Contains(markup, []byte(forbidden)) {
			t.Errorf("the page has %s", forbidden)
		}
	}
	if on := regexp.MustCompile(`<[^>]+\son[a-z]+=`).Find(markup); on != nil {
		t.Errorf("the page has a handler in its markup: %s", on)
	}
	for _, m := range regexp.MustCompile(`(?:src|href|action|srcset)="([^"]*)"`).FindAllSubmatch(markup, -1) {
		if link := string(m[1]); !strings.HasPrefix(link, "#") && !strings.HasPrefix(link, "data:") && link != "/docs" && link != "/openapi.json" {
			t.Errorf("the page refers to %s", link)
		}
	}
	for _, e := range elements {
		for _, sink := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "url(", "@import"} {
			if bytes.Contains(e[2], []byte(sink)) {
				t.Errorf("a %s has %s", e[1], sink)
			}
		}
	}
}

func TestStorefrontSize(t *testing.T) {
	const budget = 20 << 10 // of the 60 KB that the first meaningful page may take
	page := storefrontClient(t).want(200, "", "GET", "/", "", "Accept-Encoding: gzip")
	if len(page.body) > budget {
		t.Errorf("%d bytes on the wire, want at most %d", len(page.body), budget)
	}
}
