// Package e2e_test runs the shipped binaries: how they start and do not start,
// and what a client of the whole shop sees while Redis is away.
package e2e_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"coatcheck/trial/local"
)

// bin holds the binaries under test.
var bin string

// TestMain builds the services, with the race detector where the tests are: it
// tells of the services' races in files, since a process that is killed tells
// nobody how it ended. Tests that are parallel wait for most of their time, also
// where there are few processors; one that measures time or kills by a binary's
// name is none of them, and runs before them.
func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "3")
	flag.Parse()
	if named := flag.Lookup("test.run"); named.Value.String() == "" {
		_ = named.Value.Set(chosen)
	}
	code := func() int {
		var err error
		if bin, err = os.MkdirTemp("", "coatcheck-e2e"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(bin) }()
		build := exec.Command("go", append(append([]string{"build", "-o", bin + "/"}, buildFlags...),
			"./services/gateway/cmd/gateway", "./services/auth/cmd/auth", "./services/cart/cmd/cart")...)
		build.Dir = "../../.."
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building the services: %v\n%s", err, out)
			return 1
		}
		races := filepath.Join(bin, "race")
		_ = os.Setenv("GORACE", "log_path="+races)
		code := m.Run()
		found, _ := filepath.Glob(races + ".*")
		for _, name := range found {
			said, _ := os.ReadFile(name)
			fmt.Fprintf(os.Stderr, "a service has a race:\n%s\n", said)
			code = 1
		}
		return code
	}()
	os.Exit(code)
}

// environment is this process's without any setting, and with those given.
func environment(settings ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "COATCHECK_") {
			env = append(env, kv)
		}
	}
	for _, s := range settings {
		env = append(env, "COATCHECK_"+s)
	}
	return env
}

func signingKeys(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestWrongSettings: a process with wrong settings does not start, names each
// fault, and shows no secret.
func TestWrongSettings(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter2-is-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		binary   string
		settings []string
		faults   []string
	}{
		"cart without anything":   {"cart", nil, []string{"REDIS_ADDRS", "AUTH_ADDR"}},
		"auth without anything":   {"auth", nil, []string{"REDIS_ADDRS", "SIGNING_KEYS_FILE"}},
		"gateway without targets": {"gateway", nil, []string{"CART_ADDR", "AUTH_ADDR"}},
		"mistyped and misspelt": {"cart", []string{"REDIS_ADDRS=127.0.0.1:1", "MAX_LINES=many", "DRAIN_DELAY=5", "GUEST_CARTLIFE=1h"},
			[]string{"MAX_LINES", "DRAIN_DELAY", "GUEST_CARTLIFE"}},
		"contradictory": {"cart", []string{"REDIS_ADDRS=127.0.0.1:1", "REDIS_CLUSTER=true", "REDIS_MASTER=shop", "REDIS_PASSWORD_FILE=" + secret, "REDIS_POOL_SIZE=0"},
			[]string{"REDIS_MASTER", "REDIS_POOL_SIZE"}},
		"a password in an address": {"auth", []string{"REDIS_ADDRS=redis://:hunter2-is-secret@127.0.0.1:6379", "SIGNING_KEYS_FILE=" + secret},
			[]string{"REDIS_ADDRS", "SIGNING_KEYS_FILE"}},
		"targets":            {"gateway", []string{"CART_ADDR=cart", "AUTH_ADDR=dns:///auth", "PLAIN_HTTP=maybe"}, []string{"CART_ADDR", "AUTH_ADDR", "PLAIN_HTTP"}},
		"a time that cannot": {"gateway", []string{"CART_ADDR=127.0.0.1:1", "AUTH_ADDR=127.0.0.1:1", "TRY_TIMEOUT=3s"}, []string{"REQUEST_TIMEOUT"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, filepath.Join(bin, tt.binary))
			cmd.Env = environment(tt.settings...)
			out, err := cmd.CombinedOutput()
			if ctx.Err() != nil || err == nil {
				t.Fatalf("it started: %v\n%s", err, out)
			}
			for _, fault := range tt.faults {
				if !strings.Contains(string(out), "COATCHECK_"+fault+":") {
					t.Errorf("no word of %s in:\n%s", fault, out)
				}
			}
			if strings.Contains(string(out), "hunter2") {
				t.Errorf("a secret is shown:\n%s", out)
			}
		})
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	return lis.Addr().String()
}

// TestRedisComesLater: a service that starts before its Redis is alive but not
// ready, and ready when Redis comes.
func TestRedisComesLater(t *testing.T) {
	keys := signingKeys(t)
	for _, service := range []string{"cart", "auth"} {
		t.Run(service, func(t *testing.T) {
			redis, admin := freePort(t), freePort(t)
			settings := []string{"REDIS_ADDRS=" + redis, "ADMIN_ADDR=" + admin, "GRPC_ADDR=127.0.0.1:0", "DRAIN_DELAY=0s"}
			switch service {
			case "auth":
				settings = append(settings, "SIGNING_KEYS_FILE="+keys)
			case "cart": // which asks an auth for its keys; that one's Redis does not matter
				auth := freePort(t)
				settings = append(settings, "AUTH_ADDR="+auth)
				run(t, filepath.Join(bin, "auth"), nil, environment("REDIS_ADDRS="+freePort(t), "ADMIN_ADDR=127.0.0.1:0", "GRPC_ADDR="+auth, "DRAIN_DELAY=0s", "SIGNING_KEYS_FILE="+keys))
			}
			run(t, filepath.Join(bin, service), nil, environment(settings...))
			await(t, "alive", 5*time.Second, func() bool { return status("http://"+admin+"/livez") == 200 })
			for range 5 {
				if got := status("http://" + admin + "/readyz"); got != 503 {
					t.Fatalf("readyz without Redis: %d", got)
				}
				time.Sleep(100 * time.Millisecond)
			}
			_, port, _ := net.SplitHostPort(redis)
			run(t, "redis-server", []string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", t.TempDir()}, os.Environ())
			await(t, "ready", 3*time.Second, func() bool { return status("http://"+admin+"/readyz") == 200 })
		})
	}
}

// run starts a process that ends with the test.
func run(t *testing.T, path string, args, env []string) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func status(url string) int {
	resp, err := http.Get(url)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func await(t *testing.T, what string, limit time.Duration, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > limit {
			t.Fatalf("not %s within %v", what, limit)
		}
	}
}

// client is a shopper with cookies.
type client struct {
	*testing.T
	http http.Client
	base string
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

type cartJSON struct {
	Version uint64
	Items   []struct {
		SKU      string
		Quantity int64
	}
}

func (a answer) cart(t *testing.T) cartJSON {
	t.Helper()
	var c cartJSON
	if err := json.Unmarshal(a.body, &c); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return c
}

func newClient(t *testing.T, base string) *client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &client{T: t, base: base, http: http.Client{Jar: jar, Timeout: 5 * time.Second}}
}

func (c *client) do(method, path, body string, header ...string) answer {
	c.Helper()
	req, err := http.NewRequestWithContext(c.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, data}
}

func openShop(t *testing.T) (*local.Shop, string) {
	t.Helper()
	shop, err := local.Start(local.Options{State: filepath.Join(t.TempDir(), "s"), Bin: bin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shop.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := shop.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return shop, "http://" + shop.Address()
}

// TestRedisAway: without Redis every answer about a cart is 503 with
// Retry-After within the deadline, never an empty cart; and two seconds after
// its return at the latest the cart is there as it was.
func TestRedisAway(t *testing.T) {
	shop, base := openShop(t)
	c := newClient(t, base)
	c.do("GET", "/v1/cart", "")
	added := c.do("POST", "/v1/cart/items", `{"items":[{"sku":"mug-01","quantity":3}]}`, "Idempotency-Key", "before")
	if added.status != 200 || added.cart(t).Items[0].Quantity != 3 {
		t.Fatalf("add: %d %s", added.status, added.body)
	}
	for _, outage := range []string{"stopped", "frozen"} {
		t.Run(outage, func(t *testing.T) {
			var pid int
			for _, p := range shop.Processes() {
				if p.Role == local.Redis {
					pid = p.PID
				}
			}
			if outage == "stopped" {
				if err := shop.StopProcess(local.Redis); err != nil {
					t.Fatal(err)
				}
			} else if err := exec.Command("kill", "-STOP", strconv.Itoa(pid)).Run(); err != nil {
				t.Fatal(err)
			}
			for i := range 6 {
				start := time.Now()
				a := c.do("GET", "/v1/cart", "")
				if i%2 == 1 {
					a = c.do("POST", "/v1/cart/items", `{"items":[{"sku":"hat-01","quantity":1}]}`, "Idempotency-Key", "during"+strconv.Itoa(i%4)+outage)
				}
				if a.status != 503 || a.header.Get("Retry-After") == "" || !bytes.Contains(a.body, []byte(`"code"`)) {
					t.Errorf("without Redis: %d, Retry-After %q, %s", a.status, a.header.Get("Retry-After"), a.body)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("an answer took %v", took)
				}
			}
			var err error
			if outage == "stopped" {
				err = shop.StartProcess(local.Redis)
			} else {
				err = exec.Command("kill", "-CONT", strconv.Itoa(pid)).Run()
			}
			if err != nil {
				t.Fatal(err)
			}
			back := time.Now()
			for {
				a := c.do("GET", "/v1/cart", "")
				if a.status == 200 {
					mugs := int64(0)
					for _, item := range a.cart(t).Items {
						if item.SKU == "mug-01" {
							mugs = item.Quantity
						}
					}
					if mugs != 3 {
						t.Fatalf("after the outage: %s", a.body)
					}
					break
				}
				if a.status != 503 || time.Since(back) > 2*time.Second {
					t.Fatalf("%v after Redis' return: %d %s", time.Since(back), a.status, a.body)
				}
			}
			again := func() answer {
				return c.do("POST", "/v1/cart/items", `{"items":[{"sku":"mug-01","quantity":3}]}`, "Idempotency-Key", "before")
			}
			replay := again()
			for replay.status == 503 && time.Since(back) < 2*time.Second { // not every replica may have found Redis yet
				replay = again()
			}
			if replay.status != 200 || replay.header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("replay: %d %s", replay.status, replay.body)
			}
		})
	}
}

// TestBadInput sends to the whole shop what should never get through: a clear
// error, never a 5xx, and the cart is as it was.
func TestBadInput(t *testing.T) {
	_, base := openShop(t)
	c := newClient(t, base)
	c.do("GET", "/v1/cart", "")
	before := c.do("POST", "/v1/cart/items", `{"items":[{"sku":"mug-01","quantity":3}]}`, "Idempotency-Key", "taken")
	if before.status != 200 {
		t.Fatalf("add: %d %s", before.status, before.body)
	}
	item := func(sku, quantity string) string {
		return `{"items":[{"sku":` + sku + `,"quantity":` + quantity + `}]}`
	}
	for name, tt := range map[string]struct {
		method, path, body string
		header             []string
		status             int
		code               string
	}{
		"malformed":          {"POST", "/v1/cart/items", `{"items":[}`, nil, 400, ""},
		"truncated":          {"POST", "/v1/cart/items", `{"items":[{"sku":"mug-01"`, nil, 400, ""},
		"nested":             {"POST", "/v1/cart/items", strings.Repeat(`{"items":[`, 5000), nil, 400, ""},
		"oversized":          {"POST", "/v1/cart/items", `{"items":[` + strings.Repeat(" ", 70<<10) + `]}`, nil, 413, "body_too_large"},
		"unknown member":     {"POST", "/v1/cart/items", `{"items":[{"sku":"mug-01","quantity":1,"price":1}]}`, nil, 400, ""},
		"duplicate member":   {"POST", "/v1/cart/items", `{"items":[{"sku":"mug-01","quantity":1,"quantity":2}]}`, nil, 400, ""},
		"wrong type":         {"POST", "/v1/cart/items", item(`7`, `1`), nil, 400, ""},
		"quantity as text":   {"POST", "/v1/cart/items", item(`"mug-01"`, `"1"`), nil, 400, ""},
		"quantity 0":         {"POST", "/v1/cart/items", item(`"mug-01"`, `0`), nil, 400, "invalid_quantity"},
		"negative":           {"POST", "/v1/cart/items", item(`"mug-01"`, `-2`), nil, 400, "invalid_quantity"},
		"fraction":           {"POST", "/v1/cart/items", item(`"mug-01"`, `1.5`), nil, 400, ""},
		"huge":               {"POST", "/v1/cart/items", item(`"mug-01"`, `99999999999999999999`), nil, 422, "quantity_limit"},
		"large":              {"POST", "/v1/cart/items", item(`"mug-01"`, `9223372036854775807`), nil, 422, "quantity_limit"},
		"over the limit":     {"POST", "/v1/cart/items", item(`"mug-01"`, `997`), nil, 422, "quantity_limit"},
		"NaN":                {"POST", "/v1/cart/items", item(`"mug-01"`, `NaN`), nil, 400, ""},
		"no sku":             {"POST", "/v1/cart/items", item(`""`, `1`), nil, 400, "invalid_sku"},
		"long sku":           {"POST", "/v1/cart/items", item(`"`+strings.Repeat("s", 65)+`"`, `1`), nil, 400, "invalid_sku"},
		"strange sku":        {"POST", "/v1/cart/items", item(`"@v"`, `1`), nil, 400, "invalid_sku"},
		"unknown sku":        {"POST", "/v1/cart/items", item(`"no-such"`, `1`), nil, 422, "unknown_sku"},
		"invalid UTF-8":      {"POST", "/v1/cart/items", item("\"mug\xff\"", `1`), nil, 400, ""},
		"no items":           {"POST", "/v1/cart/items", `{"items":[]}`, nil, 400, ""},
		"nothing":            {"POST", "/v1/cart/items", ``, []string{"Content-Type", "application/json"}, 400, ""},
		"two values":         {"POST", "/v1/cart/items", item(`"mug-01"`, `1`) + `{}`, nil, 400, ""},
		"content type":       {"POST", "/v1/cart/items", item(`"mug-01"`, `1`), []string{"Content-Type", "text/plain"}, 415, "unsupported_media_type"},
		"stale If-Match":     {"PUT", "/v1/cart/items/mug-01", `{"quantity":1}`, []string{"If-Match", `"0.0.0"`}, 412, "stale_version"},
		"weak If-Match":      {"PUT", "/v1/cart/items/mug-01", `{"quantity":1}`, []string{"If-Match", `W/` + before.header.Get("ETag")}, 412, "stale_version"},
		"malformed If-Match": {"PUT", "/v1/cart/items/mug-01", `{"quantity":1}`, []string{"If-Match", `1`}, 400, "invalid_if_match"},
		"key reused":         {"POST", "/v1/cart/items", item(`"mug-01"`, `4`), []string{"Idempotency-Key", "taken"}, 422, "idempotency_key_reused"},
		"long key":           {"POST", "/v1/cart/items", item(`"mug-01"`, `1`), []string{"Idempotency-Key", strings.Repeat("k", 129)}, 400, "invalid_idempotency_key"},
		"empty key":          {"POST", "/v1/cart/items", item(`"mug-01"`, `1`), []string{"Idempotency-Key", ""}, 400, "invalid_idempotency_key"},
		"forged session":     {"GET", "/v1/cart", "", []string{"Cookie", "session=" + strings.Repeat("f", 22) + "." + strings.Repeat("f", 43)}, 401, "invalid_session"},
		"bearer":             {"GET", "/v1/cart", "", []string{"Authorization", "Bearer e30.e30."}, 401, "invalid_token"},
		"another site":       {"POST", "/v1/cart/items", item(`"mug-01"`, `1`), []string{"Sec-Fetch-Site", "cross-site"}, 403, "cross_origin"},
		"wrong method":       {"PATCH", "/v1/cart", "", nil, 405, "method_not_allowed"},
		"unknown route":      {"GET", "/v1/carts", "", nil, 404, "no_such_route"},
		"guest's checkout":   {"POST", "/v1/cart/checkout", "", []string{"If-Match", before.header.Get("ETag")}, 401, "login_required"},
		"guest's orders":     {"GET", "/v1/orders", "", nil, 401, "login_required"},
		"wrong credentials":  {"POST", "/v1/sessions", `{"email":"nobody@example.org","password":"not the password"}`, nil, 401, "wrong_credentials"},
		"short password":     {"POST", "/v1/users", `{"email":"somebody@example.org","password":"short"}`, nil, 400, "invalid_password"},
		"no address":         {"POST", "/v1/users", `{"email":"somebody","password":"long enough"}`, nil, 400, "invalid_email"},
	} {
		t.Run(name, func(t *testing.T) {
			a := c.do(tt.method, tt.path, tt.body, tt.header...)
			var problem struct{ Title, Detail, Code string }
			if err := json.Unmarshal(a.body, &problem); err != nil || a.header.Get("Content-Type") != "application/problem+json" {
				t.Fatalf("%d %s %s", a.status, a.header.Get("Content-Type"), a.body)
			}
			if a.status != tt.status || tt.code != "" && problem.Code != tt.code || problem.Code == "" || problem.Detail == "" {
				t.Errorf("%d %s, want %d %s", a.status, a.body, tt.status, tt.code)
			}
		})
	}
	after := c.do("GET", "/v1/cart", "")
	if !bytes.Equal(before.body, after.body) {
		t.Errorf("the cart was\n%s\nand is\n%s", before.body, after.body)
	}
}
