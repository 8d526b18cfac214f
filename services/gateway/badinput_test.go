package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// No change of the fake cart or auth may come of any of these, and no 5xx.
func TestBadInput(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	c.want(200, "", "GET", "/v1/cart", "")
	refused := func(status int, code, method, path, body string, headers ...string) {
		t.Helper()
		before := s.cartStore.changes() + s.authStore.count("Register", "LogIn", "ChangePassword")
		c.want(status, code, method, path, body, headers...)
		if after := s.cartStore.changes() + s.authStore.count("Register", "LogIn", "ChangePassword"); after != before {
			t.Errorf("%s %s %s reached a service", method, path, cut(body, 80))
		}
	}
	for _, body := range []string{
		"", " ", "{", `{"items"`, `{"items":[{"sku":"mug-01","quantity":2}]`, "nonsense", "[]", "null", "1", `"x"`, `{"items":[{"sku":"mug-01","quantity":2}]} {}`,
		`{"items":[{"sku":"mug-01","quantity":2}]}` + "\x00", `{"items":[{"sku":"mug-01","quantity":02}]}`, `{"items":[{"sku":"mug-01","quantity":NaN}]}`,
		`{"items":[{"sku":"mug-01","quantity":Infinity}]}`, `{"items":[{"sku":"mug-01","quantity":0x10}]}`, `{items:[]}`, `{"items":[],}`,
		`{"items":[{"sku":"mug-01","quantity":2}],"items":[]}`, `{"items":[{"sku":"a","sku":"b","quantity":2}]}`, `{"items":[{"sku":"mug-01","quantity":1,"quantity":2}]}`,
		`{"items":[{"sku":"mug-01","quantity":2}],"extra":1}`, `{"items":[{"sku":"mug-01","quantity":2,"price":1}]}`, `{"Items":[{"sku":"mug-01","quantity":2}]}`,
		`{"items":[{"SKU":"mug-01","quantity":2}]}`, `{}`, `{"items":null}`, `{"items":[]}`, `{"items":{}}`, `{"items":"mug-01"}`, `{"items":[1]}`, `{"items":[{"sku":1,"quantity":2}]}`,
		"{\"items\":[{\"sku\":\"mug\xff\",\"quantity\":2}]}", `{"items":[{"sku":"\ud800","quantity":2}]}`, "\xef\xbb\xbf" + addMugs,
		strings.Repeat("[", 30_000), strings.Repeat(`{"items":`, 6_000), `{"items":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}",
	} {
		if body == "" {
			refused(400, "invalid_body", "POST", "/v1/cart/items", "", "Content-Type: application/json")
			continue
		}
		refused(400, "invalid_body", "POST", "/v1/cart/items", body)
	}
	for _, sku := range []string{`""`, `" "`, `"-mug"`, `".mug"`, `"mug 01"`, `"mug/01"`, `"müg"`, `"mug\u0000"`, `"mug\n"`, `"../x"`, `"{mug}"`, `null`, `"` + strings.Repeat("x", 65) + `"`} {
		refused(400, "invalid_sku", "POST", "/v1/cart/items", `{"items":[{"sku":`+sku+`,"quantity":1}]}`)
	}
	refused(400, "invalid_sku", "POST", "/v1/cart/items", `{"items":[{"quantity":1}]}`)
	refused(400, "invalid_sku", "POST", "/v1/cart/items", `{"items":[null]}`)
	for _, sku := range []string{"%20", "-mug", "m%C3%BCg", "%ff", "%2e%2e", "a%2Fb", "mug%00", strings.Repeat("x", 65)} {
		refused(400, "invalid_sku", "PUT", "/v1/cart/items/"+sku, `{"quantity":1}`)
		refused(400, "invalid_sku", "DELETE", "/v1/cart/items/"+sku, "")
	}
	for _, quantity := range []string{"0", "-1", "-0", "1.5", "1.0", "1e3", `"2"`, "null", "true", "[]", "{}", "-99999999999999999999999"} {
		refused(400, "invalid_quantity", "POST", "/v1/cart/items", `{"items":[{"sku":"mug-01","quantity":`+quantity+`}]}`)
		if quantity != "0" && quantity != "-0" {
			refused(400, "invalid_quantity", "PUT", "/v1/cart/items/mug-01", `{"quantity":`+quantity+`}`)
		}
	}
	refused(400, "invalid_quantity", "POST", "/v1/cart/items", `{"items":[{"sku":"mug-01"}]}`)
	refused(400, "invalid_quantity", "PUT", "/v1/cart/items/mug-01", `{}`)
	for _, quantity := range []string{"1000000001", "9223372036854775807", "9223372036854775808", strings.Repeat("9", 1000)} {
		refused(422, "quantity_limit", "POST", "/v1/cart/items", `{"items":[{"sku":"mug-01","quantity":`+quantity+`}]}`)
		refused(422, "quantity_limit", "PUT", "/v1/cart/items/mug-01", `{"quantity":`+quantity+`}`)
	}
	big := `{"items":[` + strings.Repeat(`{"sku":"mug-01","quantity":1},`, 2500) + `{"sku":"mug-01","quantity":1}]}`
	refused(413, "body_too_large", "POST", "/v1/cart/items", big)
	refused(413, "body_too_large", "DELETE", "/v1/cart", big)
	refused(413, "body_too_large", "GET", "/v1/cart", strings.Repeat(" ", 1<<20))

	for _, contentType := range []string{"", "text/plain", "application/xml", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "application/json; charset=utf-8; x=y", "application/json; x=y", "application/problem+json", ";", "application/json, text/plain"} {
		refused(415, "unsupported_media_type", "POST", "/v1/cart/items", addMugs, "Content-Type:"+contentType)
	}
	refused(415, "unsupported_media_type", "POST", "/v1/cart/items", addMugs, "Content-Encoding: gzip")
	refused(415, "unsupported_media_type", "POST", "/v1/cart/items", addMugs, "Content-Type: application/json", "Content-Type: application/json")

	for _, key := range []string{" ", `""`, strings.Repeat("k", 129), `"` + strings.Repeat("k", 129) + `"`, "a b", "caf\xc3\xa9", "tab\tkey"} {
		refused(400, "invalid_idempotency_key", "POST", "/v1/cart/items", addMugs, "Idempotency-Key: "+key)
	}
	refused(400, "invalid_idempotency_key", "DELETE", "/v1/cart", "", "Idempotency-Key: a", "Idempotency-Key: a")
	refused(400, "invalid_idempotency_key", "POST", "/v1/cart/checkout", "", "Idempotency-Key: a b")

	for path, bodies := range map[string][]string{
		"POST /v1/users":            {`{}`, `{"email":"a@example.org"}`, `{"password":"correct horse"}`, `{"email":null,"password":"correct horse"}`, `{"email":1,"password":"x"}`, `{"email":"a","password":"b","id":"u_x"}`, "{\"email\":\"\xff\",\"password\":\"b\"}"},
		"POST /v1/sessions":         {`{}`, `[]`, `{"email":"a@example.org","password":["x"]}`, `{"email":"a@example.org","password":"x","password":"y"}`},
		"PUT /v1/users/me/password": {`{}`, `{"current_password":"x"}`, `{"current_password":"x","new_password":null}`},
	} {
		method, path, _ := strings.Cut(path, " ")
		for _, body := range bodies {
			refused(400, "invalid_body", method, path, body)
		}
	}
}

func TestGoodInputAtTheEdges(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	c.want(422, "unknown_sku", "POST", "/v1/cart/items", `{"items":[{"sku":"unknown","quantity":1}]}`)
	c.want(422, "quantity_limit", "POST", "/v1/cart/items", `{"items":[{"sku":"mug-01","quantity":1000000000}]}`)
	c.want(200, "", "PUT", "/v1/cart/items/mug-01", `{"quantity":-0}`)
	c.want(200, "", "POST", "/v1/cart/items", addMugs, "Content-Type: Application/JSON; charset=UTF-8", "Content-Encoding: identity")
	c.want(200, "", "POST", "/v1/cart/items", "\r\n "+addMugs+"\n")
	c.want(200, "", "PUT", "/v1/cart/items/"+strings.Repeat("x", 64), `{"quantity":1}`)
	c.want(200, "", "DELETE", "/v1/cart/items/mug%2D01", "")
	c.want(200, "", "DELETE", "/v1/cart", "", "Idempotency-Key: "+strings.Repeat("~", 128))
	c.want(200, "", "DELETE", "/v1/cart", "ignored")
}

func TestFaultsSayWhere(t *testing.T) {
	c := newShop(t).client(t)
	for body, detail := range map[string]string{
		`{"items":[{"sku":"a","price":1}]}`:           `There is no such member: leave out "/items/0/price".`,
		`{"items":[{"sku":7}]}`:                       `The value at "/items/0/sku" is of the wrong type; /openapi.json has the right one.`,
		`{"items":[],"items":[]}`:                     "A member is named twice; name it once.",
		`{"items":]`:                                  "The body is not one valid JSON value in UTF-8: look at byte 9.",
		`"secret"`:                                    "The value at the top is of the wrong type; /openapi.json has the right one.",
		`{"` + strings.Repeat("secret", 100) + `":1}`: `There is no such member: leave out "/` + strings.Repeat("secret", 16) + `sec".`,
	} {
		if got := c.want(400, "invalid_body", "POST", "/v1/cart/items", body).json(t)["detail"]; got != detail {
			t.Errorf("%s\n got %s\nwant %s", body, got, detail)
		}
	}
}

// listen serves the shop on a real listener, with what the test changes about
// the server.
func (s *shop) listen(t *testing.T, change func(*http.Server)) (*Server, string) {
	t.Helper()
	srv := NewServer(s.Gateway)
	if change != nil {
		change(srv.http)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return srv, lis.Addr().String()
}

// remote is a client over the network.
func (s *shop) remote(t *testing.T, addr string, change func(*http.Transport)) *client {
	transport := &http.Transport{}
	if change != nil {
		change(transport)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{t: t, base: "http://" + addr, cookies: map[string]string{}, send: (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do}
}

func TestServerBounds(t *testing.T) {
	h := NewServer(newShop(t).Gateway).http
	for name, got := range map[string][2]any{
		"ReadHeaderTimeout": {h.ReadHeaderTimeout, 5 * time.Second}, "ReadTimeout": {h.ReadTimeout, 10 * time.Second},
		"IdleTimeout": {h.IdleTimeout, time.Minute}, "MaxHeaderBytes": {h.MaxHeaderBytes, 16 << 10},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is %v, want %v", name, got[0], got[1])
		}
	}
	if h.WriteTimeout <= h.ReadTimeout+testSettings().RequestTimeout {
		t.Errorf("WriteTimeout %v would cut answers to slow clients", h.WriteTimeout)
	}
	if h.HTTP2.MaxConcurrentStreams < 1 || h.HTTP2.MaxConcurrentStreams > 250 {
		t.Errorf("%d streams a connection", h.HTTP2.MaxConcurrentStreams)
	}
}

// Slow clients are cut off, hold no slot, and others are served meanwhile.
func TestSlowClients(t *testing.T) {
	settings := testSettings()
	settings.MaxInFlight, settings.RequestTimeout, settings.TryTimeout = 1, 2*time.Second, 2*time.Second
	s := newShopWith(t, settings, 1)
	_, addr := s.listen(t, func(h *http.Server) { h.ReadHeaderTimeout, h.ReadTimeout = 300*time.Millisecond, 600*time.Millisecond })
	c := s.remote(t, addr, nil)
	c.want(200, "", "GET", "/v1/cart", "")

	const head = "POST /v1/cart/items HTTP/1.1\r\nHost: shop.test\r\nContent-Type: application/json\r\n"
	started := time.Now()
	conns := map[string]net.Conn{}
	for name, begin := range map[string]string{
		"no bytes": "", "slow headers": head, "slow body": head + "Content-Length: 41\r\n\r\n{\"items\":", "slow chunks": head + "Transfer-Encoding: chunked\r\n\r\n9\r\n{\"items\":\r\n",
		"slow unknown route": "POST /nowhere HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 9\r\n\r\n", "slow first line": "GET /v1/c",
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = io.WriteString(conn, begin)
		if err != nil {
			t.Fatal(err)
		}
		conns[name] = conn
	}
	for time.Since(started) < 200*time.Millisecond {
		c.want(200, "", "GET", "/v1/cart", "") // the only slot is free
	}
	for name, conn := range conns {
		_ = conn.SetReadDeadline(started.Add(10 * time.Second))
		got, err := io.ReadAll(conn)
		if err != nil {
			t.Errorf("%s: not closed: %v", name, err)
		}
		want := ""
		switch name {
		case "slow body", "slow chunks":
			want = "HTTP/1.1 408 "
		case "slow unknown route":
			want = "HTTP/1.1 404 "
		}
		if !strings.HasPrefix(string(got), want) || want == "" && strings.HasPrefix(string(got), "HTTP/1.1 5") || strings.HasPrefix(string(got), "HTTP/1.1 2") {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("it took %v to get rid of slow clients", took)
	}
	if n := s.cartStore.changes(); n != 0 {
		t.Errorf("%d changes reached the cart", n)
	}
}

func TestSlowBodyOverHTTP2(t *testing.T) {
	s := newShop(t)
	_, addr := s.listen(t, func(h *http.Server) { h.ReadTimeout = 300 * time.Millisecond })
	body, stall := io.Pipe()
	defer stall.Close()
	c := s.remote(t, addr, func(tr *http.Transport) {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	})
	send := c.send
	c.send = func(r *http.Request) (*http.Response, error) {
		r.Body, r.ContentLength = body, -1
		return send(r)
	}
	started := time.Now()
	c.want(408, "body_timeout", "POST", "/v1/cart/items", addMugs)
	if took := time.Since(started); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestBrokenFraming(t *testing.T) {
	s := newShop(t)
	_, addr := s.listen(t, nil)
	const head = "POST /v1/cart/items HTTP/1.1\r\nHost: shop.test\r\nContent-Type: application/json\r\n"
	for name, test := range map[string]struct{ send, want string }{
		"cut body":       {head + "Content-Length: 41\r\n\r\n{\"items\":", "400"},
		"bad chunk":      {head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
		"large chunks":   {head + "Transfer-Encoding: chunked\r\n\r\n11000\r\n" + strings.Repeat(" ", 0x11000) + "\r\n0\r\n\r\n", "413"},
		"large expected": {head + "Expect: 100-continue\r\nContent-Length: 70000\r\n\r\n", "413"},
		"not HTTP":       {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"},
		"large headers":  {head + "X: " + strings.Repeat("x", 40<<10) + "\r\n\r\n", "431"},
		"no host":        {"GET /v1/cart HTTP/1.1\r\n\r\n", "400"},
		"options star":   {"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"connect":        {"CONNECT shop.test:80 HTTP/1.1\r\nHost: shop.test:80\r\nConnection: close\r\n\r\n", "404"},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = io.WriteString(conn, test.send)
			if name == "cut body" {
				_ = conn.(*net.TCPConn).CloseWrite()
			}
		}()
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+test.want) {
			t.Errorf("%s: got %q, %v, want %s", name, line, err, test.want)
		}
		_ = conn.Close()
	}
	if n := s.cartStore.changes(); n != 0 {
		t.Errorf("%d changes reached the cart", n)
	}
}
