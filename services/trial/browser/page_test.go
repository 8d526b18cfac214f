package browser_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long what must come is waited for, on a machine that does much
// else meanwhile.
const patience = 40 * time.Second

// page is a tab on a shop, or on a trial of one. Whatever a test does, it must ask nobody but that
// shop, break no policy and throw no error.
type page struct {
	t    *testing.T
	base string
	ctx  context.Context

	mu       sync.Mutex
	received float64 // bytes on the wire
	asked    []string
	faults   []string
}

// stocked holds when the storefront shows its shelf and a cart.
const stocked = `document.querySelectorAll('#products li').length > 0 && document.getElementById('version').textContent !== '–'`

// open opens a tab in a profile of its own.
func open(t *testing.T, base string) *page {
	t.Helper()
	return openIn(t, chromium, base, stocked, chromedp.WithNewBrowserContext())
}

// another opens a further tab with the same tickets.
func (p *page) another() *page {
	p.t.Helper()
	return openIn(p.t, p.ctx, p.base, stocked)
}

// openIn waits until loaded holds.
func openIn(t *testing.T, parent context.Context, base, loaded string, options ...chromedp.ContextOption) *page {
	t.Helper()
	p := &page{t: t, base: base}
	ctx, cancel := context.WithTimeout(parent, 3*time.Minute)
	ctx, end := chromedp.NewContext(ctx, append(options, chromedp.WithListener(p.listen))...)
	p.ctx = ctx
	t.Cleanup(func() {
		p.check()
		end()
		cancel()
	})
	p.prefer("light")
	p.on(1280, 900)
	// As if each were in front: several are open at once.
	call(p, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	p.do(chromedp.Navigate(base + "/"))
	p.until(loaded)
	return p
}

func (p *page) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.asked = append(p.asked, e.Request.URL)
		if !strings.HasPrefix(e.Request.URL, p.base+"/") && !strings.HasPrefix(e.Request.URL, "data:") {
			p.faults = append(p.faults, "a request outside the shop: "+e.Request.URL)
		}
	case *network.EventLoadingFinished:
		p.received += e.EncodedDataLength
	case *runtime.EventExceptionThrown:
		p.faults = append(p.faults, e.ExceptionDetails.Text+" "+e.ExceptionDetails.Exception.Description)
	case *log.EventEntryAdded:
		// What the shop refuses or does not answer is logged too, and is no fault of the page.
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			p.faults = append(p.faults, string(e.Entry.Source)+": "+e.Entry.Text)
		}
	}
}

func (p *page) check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fault := range p.faults {
		p.t.Error(fault)
	}
	if len(p.asked) == 0 {
		p.t.Error("no request was seen")
	}
}

func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute) // while the tab can still say how it is
	defer cancel()
	err := chromedp.Do(ctx, actions...)
	if err != nil {
		p.t.Fatalf("%v\n%s", err, p.state())
	}
}

// state is what a failing test shows.
func (p *page) state() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 2*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.getElementById('said')?.textContent + '\n' + document.getElementById('sum')?.textContent + '\n' +
		Array.from(document.querySelectorAll('.ticket'), (t) => t.title).slice(0, 12).join('\n') + '\n' + document.getElementById('cart')?.innerText`))
	return text
}

// get evaluates an expression in the page, and waits for a promise.
func get[T any](p *page, expression string) T {
	p.t.Helper()
	value, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%v\n%s", err, p.state())
	}
	return value
}

// call sends a command to the browser's tab.
func call[P, R any](p *page, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	result, err := chromedp.Call(p.ctx, command, params)
	if err != nil {
		p.t.Fatal(err)
	}
	return result
}

// until waits until the expression holds.
func (p *page) until(expression string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !get[bool](p, "Boolean("+expression+")"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("never: %s\n%s", expression, p.state())
		}
	}
}

// click clicks with the mouse, on what is in the middle of the window and under
// no message.
func (p *page) click(selector string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`document.querySelector(%[1]q) && !document.querySelector(%[1]q).disabled`, selector))
	p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector(%q).scrollIntoView({ block: 'center' })`, selector)), chromedp.Click(chromedp.CSS(selector)))
}

func (p *page) add(sku string) {
	p.t.Helper()
	p.click(fmt.Sprintf(`#products li[data-sku="%s"] .add`, sku))
}

func (p *page) register() {
	p.t.Helper()
	p.enter("register")
}

func (p *page) logIn() {
	p.t.Helper()
	p.enter("log-in")
}

func (p *page) enter(by string) {
	p.t.Helper()
	p.click("#enter")
	p.do(chromedp.SendKeys(chromedp.CSS("#email"), email), chromedp.SendKeys(chromedp.CSS("#password"), password))
	p.click("#door button[value=" + by + "]")
}

// said waits for a message.
func (p *page) said(part string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`document.getElementById('said').textContent.includes(%q)`, part))
}

// six asks six times at once, and waits for what the answers to this say: the same
// may have been said before, and what is said late would hide what comes next.
func (p *page) six(part string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void]("hush()"))
	p.click("#six")
	p.said(part)
}

// overtaken sets a quantity just when another client of the same ticket, which
// tells no tab, has set it to another one.
func (p *page) overtaken(sku string, mine, theirs int) {
	p.t.Helper()
	get[bool](p, fmt.Sprintf(`fetch('/v1/cart/items/%[1]s', { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: '{"quantity": %[3]d}' }).then(() => {
		const input = document.querySelector('#lines li[data-sku="%[1]s"] input');
		input.value = '%[2]d';
		return input.dispatchEvent(new Event('change'));
	})`, sku, mine, theirs))
	p.said("nothing was overwritten")
	p.until(`Array.from(document.querySelectorAll('.stamp')).some((s) => s.textContent === '412')`)
}

// cart is the cart as the page shows it.
func (p *page) cart() map[string]int {
	p.t.Helper()
	return get[map[string]int](p, `Object.fromEntries(Array.from(document.querySelectorAll('#lines li'), (l) => [l.dataset.sku, Number(l.querySelector('input').value)]))`)
}

// shows waits until the page's cart is this.
func (p *page) shows(want map[string]int) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		got := p.cart()
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the page shows %v, want %v\n%s", got, want, p.state())
		}
	}
}

// visitor is a client with the page's tickets.
func (p *page) visitor() *visitor {
	p.t.Helper()
	v := newVisitor(p.t, p.base)
	var cookies []*http.Cookie
	for _, c := range call(p, network.GetCookies, network.GetCookiesParams{}).Cookies {
		cookies = append(cookies, &http.Cookie{Name: c.Name, Value: c.Value, Path: c.Path})
		if !c.HTTPOnly || c.SameSite != network.CookieSameSiteLax {
			p.t.Errorf("cookie %s: HttpOnly %v, SameSite %s", c.Name, c.HTTPOnly, c.SameSite)
		}
	}
	v.setCookies(cookies)
	return v
}

// ticket is one of the strip.
type ticket struct {
	Title   string `json:"title"`
	Gateway string `json:"gateway"`
	Cart    string `json:"cart"`
	Stamp   string `json:"stamp"`
	Colours []string
}

// tickets are those of the strip, the newest first.
func (p *page) tickets() []ticket {
	p.t.Helper()
	return get[[]ticket](p, `Array.from(document.querySelectorAll('.ticket'), (t) => ({
		title: t.title,
		gateway: t.querySelector('.gateway').textContent,
		cart: t.querySelector('.cart').textContent,
		stamp: t.querySelector('.stamp').hidden ? '' : t.querySelector('.stamp').textContent,
		Colours: Array.from(t.querySelectorAll('.half'), (h) => getComputedStyle(h).backgroundColor),
	}))`)
}

// sent is when the page sent its requests to a path, since it was opened.
func (p *page) sent(path string) (sent []time.Duration) {
	p.t.Helper()
	for _, ms := range get[[]float64](p, fmt.Sprintf(`performance.getEntriesByType('resource').filter((e) => new URL(e.name).pathname === %q).map((e) => e.startTime)`, path)) {
		sent = append(sent, time.Duration(ms*float64(time.Millisecond)))
	}
	return sent
}

// clipboard is what was copied last.
func (p *page) clipboard() string {
	p.t.Helper()
	_, err := chromedp.CallBrowser(p.ctx, browser.SetPermission, browser.SetPermissionParams{
		Permission: &browser.PermissionDescriptor{Name: "clipboard-read"}, Setting: browser.PermissionSettingGranted,
		Origin: p.base, BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return get[string](p, `navigator.clipboard.readText()`)
}
