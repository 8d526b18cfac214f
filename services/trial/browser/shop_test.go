// Package browser_test shops in a real Chromium, on the page that the shipped
// gateway serves, in a real shop of several replicas that the tests break; and
// watches a real trial on the page that it serves.
//
// It is a module of its own, so that what drives the browser is in no build list
// of the services.
package browser_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"coatcheck/trial/local"
)

const root = "../../.."

var (
	bin      string          // where the binaries under test are
	chromium context.Context // the one browser process; each test has a profile of its own in it
)

func TestMain(m *testing.M) {
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (int, error) {
	path, err := findChromium()
	if err != nil {
		return 0, err
	}
	bin, err = os.MkdirTemp("", "coatcheck-browser")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(bin) }()
	build := exec.Command("go", "build", "-o", bin+"/", "./services/gateway/cmd/gateway", "./services/auth/cmd/auth", "./services/cart/cmd/cart")
	build.Dir = root
	build.Env = append(os.Environ(), "GOWORK=") // of the workspace, though the tests are not
	out, err := build.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("building the services: %w\n%s", err, out)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-features", "Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider"),
	)
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it refuses to run as root with one
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	defer stop()
	ctx, end := chromedp.NewContext(allocator)
	defer end()
	err = chromedp.Do(ctx)
	if err != nil {
		return 0, fmt.Errorf("starting %s: %w", path, err)
	}
	chromium = ctx
	return m.Run(), nil
}

func findChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		path, err := exec.LookPath(name)
		if err == nil {
			return path, nil
		}
	}
	return "", errors.New("chromium is missing: apt-get install chromium fonts-liberation (Debian), or install Chrome")
}

// openShop opens a shop of three gateways, three carts and two auths.
func openShop(t *testing.T, cartSettings ...string) *local.Shop {
	t.Helper()
	shop, err := local.Start(local.Options{
		State: filepath.Join(t.TempDir(), "state"), Bin: bin, Gateways: 3, Carts: 3,
		Env: map[string][]string{local.Cart: cartSettings},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shop.Close)
	ready(t, shop)
	return shop
}

func ready(t *testing.T, shop *local.Shop) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := shop.AwaitReady(ctx)
	if err != nil {
		t.Fatal(err)
	}
}

// visitor is a client of the shop beside the browser, with a jar of its own or
// with a page's tickets.
type visitor struct {
	t    *testing.T
	base string
	http *http.Client
}

func newVisitor(t *testing.T, base string) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t: t, base: base, http: &http.Client{Jar: jar, Timeout: 10 * time.Second}}
}

func (v *visitor) setCookies(cookies []*http.Cookie) {
	at, err := url.Parse(v.base)
	if err != nil {
		v.t.Fatal(err)
	}
	v.http.Jar.SetCookies(at, cookies)
}

// line is a line of a cart or an order.
type line struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

type content struct {
	Version int       `json:"version"`
	Items   []line    `json:"items"`
	Orders  []content `json:"orders"`
}

func (c content) quantities() map[string]int {
	all := map[string]int{}
	for _, l := range c.Items {
		all[l.SKU] = l.Quantity
	}
	return all
}

func (v *visitor) do(want int, method, path, body string) content {
	v.t.Helper()
	r, err := http.NewRequest(method, v.base+path, bytes.NewReader([]byte(body)))
	if err != nil {
		v.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := v.http.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		v.t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, text, err)
	}
	var c content
	if len(text) > 0 {
		err = json.Unmarshal(text, &c)
		if err != nil {
			v.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return c
}

func (v *visitor) cart() map[string]int {
	v.t.Helper()
	return v.do(200, "GET", "/v1/cart", "").quantities()
}

const (
	email       = "ada@example.org"
	password    = "correct horse"
	credentials = `{"email": "` + email + `", "password": "` + password + `"}`
)
