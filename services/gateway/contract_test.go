package gateway

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestDocumentIsValid(t *testing.T) {
	err := contract().doc.Validate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
}

func TestRoutesAndDocumentAgree(t *testing.T) {
	settings := testSettings()
	settings.Storefront = true
	s := newShopWith(t, settings, 1)
	routes, documented := map[string]bool{}, map[string]bool{}
	for _, rt := range s.routes() {
		routes[strings.TrimSuffix(rt.pattern, "{$}")] = true
	}
	for path, item := range contract().doc.Paths.Map() {
		for method := range item.Operations() {
			documented[method+" "+path] = true
		}
	}
	if !maps.Equal(routes, documented) {
		t.Errorf("routes %v\ndocument %v", slices.Sorted(maps.Keys(routes)), slices.Sorted(maps.Keys(documented)))
	}
}

// Every object in the document must be closed, or a mutated answer would pass.
func TestSchemasAreClosed(t *testing.T) {
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["type"] == "object" && v["properties"] != nil && v["additionalProperties"] != false {
				t.Errorf("%s is open", path)
			}
			for k, x := range v {
				walk(path+"/"+k, x)
			}
		case []any:
			for _, x := range v {
				walk(path+"/-", x)
			}
		}
	}
	var doc any
	err := json.Unmarshal(openAPIDocument, &doc)
	if err != nil {
		t.Fatal(err)
	}
	walk("", doc)
}

func TestMutatedAnswersFailTheContract(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	resp := c.do("POST", "/v1/cart/items", `{"items":[{"sku":"mug-01","quantity":2}]}`)
	body := string(resp.body)
	check := func(status int, h http.Header, body string) error {
		r, err := http.NewRequest("POST", "http://shop.test/v1/cart/items", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		return contract().check(r, []byte(`{"items":[{"sku":"mug-01","quantity":2}]}`), status, h, []byte(body))
	}
	err := check(200, resp.Header, body)
	if err != nil {
		t.Fatalf("the answer itself fails: %v", err)
	}
	for name, mutated := range map[string]string{
		"extra member":        strings.Replace(body, `"version"`, `"extra":1,"version"`, 1),
		"extra nested member": strings.Replace(body, `"sku"`, `"extra":1,"sku"`, 1),
		"missing member":      strings.Replace(body, `"version":1,`, ``, 1),
		"missing total":       body[:strings.Index(body, `"total"`)] + `"expires_at":"2026-11-23T00:00:00Z"}`,
		"wrong type":          strings.Replace(body, `"quantity":2`, `"quantity":"2"`, 1),
		"wrong currency":      strings.ReplaceAll(body, `"EUR"`, `"euro"`),
		"not a time":          strings.Replace(body, `"expires_at":"`, `"expires_at":"x`, 1),
		"not JSON":            "ok",
	} {
		if mutated == body {
			t.Errorf("%s: nothing was mutated", name)
		}
		if check(200, resp.Header, mutated) == nil {
			t.Errorf("%s: passes: %s", name, mutated)
		}
	}
	for _, status := range []int{201, 204, 202, 404, 405, 502} {
		if check(status, resp.Header, body) == nil {
			t.Errorf("status %d passes", status)
		}
	}
	for _, name := range []string{"ETag", "Cache-Control", "Served-By"} {
		h := resp.Header.Clone()
		h.Del(name)
		if check(200, h, body) == nil {
			t.Errorf("passes without %s", name)
		}
	}
	read := c.do("GET", "/v1/cart", "")
	for _, name := range []string{"", "ETag", "Vary", "Cache-Control", "Served-By"} {
		h := read.Header.Clone()
		h.Del(name)
		r, err := http.NewRequest("GET", "http://shop.test/v1/cart", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := contract().check(r, nil, 200, h, read.body); (err == nil) != (name == "") {
			t.Errorf("a reading without %q: %v", name, err)
		}
	}
}

func TestAcceptedRequestsMustBeDocumented(t *testing.T) {
	s := newShop(t)
	resp := s.client(t).do("POST", "/v1/cart/items", `{"items":[{"sku":"mug-01","quantity":2}]}`)
	r, err := http.NewRequest("POST", "http://shop.test/v1/cart/items", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if contract().check(r, []byte(`{"items":[]}`), 200, resp.Header, resp.body) == nil {
		t.Error("a request that the document forbids may be answered 200")
	}
}
