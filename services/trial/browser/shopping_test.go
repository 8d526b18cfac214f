package browser_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// TestGuest: a guest shops, every request has a ticket that names who answered,
// and the curl lines of all steps lead another guest to the same cart.
func TestGuest(t *testing.T) {
	t.Parallel()
	shop := openShop(t)
	p := open(t, "http://"+shop.Address())
	p.until(`document.querySelectorAll('#products li').length === 20`)
	p.add("mug-01")
	p.said("Enamel mug hangs in your cart")
	p.add("coat-01")
	p.add("mug-01")
	p.shows(map[string]int{"mug-01": 2, "coat-01": 1})
	p.click(`#lines li[data-sku="coat-01"] .more`)
	p.click(`#lines li[data-sku="coat-01"] .more`)
	p.click(`#lines li[data-sku="mug-01"] .less`)
	p.shows(map[string]int{"mug-01": 1, "coat-01": 3})
	p.click(`#lines li[data-sku="mug-01"] .remove`)
	p.said("Enamel mug is out of your cart")
	p.shows(map[string]int{"coat-01": 3})
	p.click(`#act`)
	p.shows(map[string]int{"coat-01": 3, "mug-01": 1})
	p.until(`document.querySelector('#products li[data-sku="coat-01"] .held').textContent === '3 in the cart'`)
	p.until(`document.getElementById('total').textContent === '€579.50'`)
	if got := p.visitor().cart(); fmt.Sprint(got) != fmt.Sprint(p.cart()) {
		t.Errorf("the shop has %v, the page shows %v", got, p.cart())
	}

	lines := get[[]string](p, `Array.from(document.querySelectorAll('.ticket')).reverse().map((t) => { t.focus(); return document.getElementById('curl').textContent })`)
	curl := exec.Command("bash", "-euc", strings.Join(lines, "\necho\n")+"\necho; curl -s -b jar -c jar http://"+shop.Address()+"/v1/cart")
	curl.Dir = t.TempDir()
	out, err := curl.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, strings.Join(lines, "\n"), out)
	}
	last := string(out[strings.LastIndex(string(out), `{"version"`):])
	if !strings.Contains(last, `"sku":"mug-01","name":"Enamel mug","quantity":1`) || !strings.Contains(last, `"sku":"coat-01","name":"Wool coat","quantity":3`) {
		t.Errorf("by curl the cart is %s", last)
	}

	p.click("#clear")
	p.shows(map[string]int{})
	p.said("Your cart is empty")
}

// TestStrip: tickets name replicas of this shop, each in one colour of its own,
// and six requests at once meet all gateways.
func TestStrip(t *testing.T) {
	t.Parallel()
	shop := openShop(t)
	p := open(t, "http://"+shop.Address())
	p.add("hat-01")
	p.shows(map[string]int{"hat-01": 1})
	for range 3 {
		p.six("one and the same cart, version 1.")
	}
	colours := map[string]string{}
	gateways, carts := map[string]int{}, map[string]int{}
	tickets := p.tickets()
	for _, ticket := range tickets {
		if !strings.HasPrefix(ticket.Gateway, "gateway-") || !strings.HasPrefix(ticket.Cart, "cart-") || ticket.Stamp != "" {
			t.Errorf("ticket %+v", ticket)
		}
		gateways[ticket.Gateway]++
		carts[ticket.Cart]++
		for i, name := range []string{ticket.Gateway, ticket.Cart} {
			if colours[name] != "" && colours[name] != ticket.Colours[i] {
				t.Errorf("%s is %s and %s", name, colours[name], ticket.Colours[i])
			}
			colours[name] = ticket.Colours[i]
		}
	}
	if len(tickets) != 3+18 || len(gateways) != 3 || len(carts) != 3 {
		t.Errorf("%d tickets by gateways %v and carts %v", len(tickets), gateways, carts)
	}
	used := map[string]string{}
	for name, colour := range colours {
		if used[colour] != "" {
			t.Errorf("%s and %s are both %s", name, used[colour], colour)
		}
		used[colour] = name
	}
	for bar, want := range map[string]map[string]int{"gateways": gateways, "carts": carts} {
		got := get[map[string]int](p, `Object.fromEntries(Array.from(document.querySelectorAll('#`+bar+` li'), (l) => [l.title, Number(l.lastElementChild.textContent)]))`)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: the bar has %v, the tickets %v", bar, got, want)
		}
	}

	// The strip and the bars forget what is long past, and the colours don't.
	p.click("#keep")
	p.until(`document.querySelectorAll('.ticket')[0].title.includes('GET /v1/cart, 304')`)
	p.click("#keep")
	for range 8 {
		p.six("one and the same cart")
	}
	p.until(`document.querySelectorAll('.ticket').length === 60`)
	if sum := get[int](p, `Array.from(document.querySelectorAll('#carts b'), (b) => Number(b.textContent)).reduce((a, b) => a + b)`); sum != 60 {
		t.Errorf("the bar counts %d of 60 tickets", sum)
	}
	p.do(chromedp.Reload())
	p.until(`document.querySelectorAll('.ticket').length >= 2`)
	for _, ticket := range p.tickets() {
		if ticket.Colours[0] != colours[ticket.Gateway] || ticket.Colours[1] != colours[ticket.Cart] {
			t.Errorf("after a reload %+v, before %v", ticket, colours)
		}
	}
}

// TestLogIn: the guest's cart moves into the user's, exactly once; the user
// orders and leaves.
func TestLogIn(t *testing.T) {
	t.Parallel()
	shop := openShop(t)
	base := "http://" + shop.Address()
	before := newVisitor(t, base)
	before.do(201, "POST", "/v1/users", credentials)
	before.do(201, "POST", "/v1/sessions", credentials)
	before.do(200, "POST", "/v1/cart/items", `{"items": [{"sku": "mug-01", "quantity": 1}, {"sku": "cane-01", "quantity": 1}]}`)

	p := open(t, base)
	p.add("mug-01")
	p.add("scarf-01")
	p.shows(map[string]int{"mug-01": 1, "scarf-01": 1})
	p.click("#checkout")
	p.until(`document.getElementById('door').open`)
	p.do(chromedp.SendKeys(chromedp.CSS("#email"), email), chromedp.SendKeys(chromedp.CSS("#password"), "wrong password"))
	p.click("#door button[value=log-in]")
	p.until(`document.getElementById('door-error').textContent.includes('is wrong')`)
	p.do(chromedp.Evaluate[chromedp.Void](`document.getElementById('password').value = ''`), chromedp.SendKeys(chromedp.CSS("#password"), password))
	p.click("#door button[value=log-in]")
	p.until(`!document.getElementById('door').open`)
	p.shows(map[string]int{"mug-01": 2, "scarf-01": 1, "cane-01": 1})
	p.until(`document.getElementById('who').textContent === '` + email + `'`)
	if left := get[string](p, `document.getElementById('password').value`); left != "" {
		t.Error("the password stays in the form")
	}
	if shown := get[bool](p, `document.documentElement.outerHTML.includes('`+password+`') || JSON.stringify(localStorage).includes('`+password+`')`); shown {
		t.Error("the password is in the page")
	}

	p.click("#checkout")
	p.shows(map[string]int{})
	p.until(`document.querySelectorAll('#order-list > li').length === 1`)
	orders := before.do(200, "GET", "/v1/orders", "").Orders
	if len(orders) != 1 || fmt.Sprint(orders[0].quantities()) != fmt.Sprint(map[string]int{"mug-01": 2, "scarf-01": 1, "cane-01": 1}) {
		t.Errorf("orders %+v", orders)
	}
	for range 6 {
		p.add("token-01")
		p.shows(map[string]int{"token-01": 1})
		p.click("#checkout")
		p.shows(map[string]int{})
	}
	p.do(chromedp.Reload())
	p.until(`document.querySelectorAll('#order-list > li').length === 5`)
	p.click("#older")
	p.until(`document.querySelectorAll('#order-list > li').length === 7 && document.getElementById('older').hidden`)

	p.add("bag-01")
	p.shows(map[string]int{"bag-01": 1})
	p.click("#leave")
	p.shows(map[string]int{})
	p.until(`document.getElementById('who').textContent === 'Guest' && document.querySelectorAll('#order-list > li').length === 0`)
	if got := before.cart(); fmt.Sprint(got) != "map[bag-01:1]" {
		t.Errorf("the user's cart is %v", got)
	}
}

// TestRegister: with an address that is free, and with one that is taken.
func TestRegister(t *testing.T) {
	t.Parallel()
	shop := openShop(t)
	p := open(t, "http://"+shop.Address())
	p.add("book-01")
	p.shows(map[string]int{"book-01": 1})
	p.register()
	p.said("Logged in.")
	p.shows(map[string]int{"book-01": 1})
	p.click("#leave")
	p.shows(map[string]int{})
	p.register()
	p.until(`document.getElementById('door-error').textContent === 'There is an account with this address.'`)
	p.click("#door-close")
	p.until(`!document.getElementById('door').open`)
}

// TestReplicasDie: whoever served last is killed, again and again, while one
// shops; the cart stays and goes on.
func TestReplicasDie(t *testing.T) {
	t.Parallel()
	shop := openShop(t)
	p := open(t, "http://"+shop.Address())
	p.click("#keep")
	var killed []string
	for n := 1; n <= 4; n++ {
		p.add("hat-01")
		p.shows(map[string]int{"hat-01": n})
		served := p.tickets()[0]
		for _, name := range []string{served.Gateway, served.Cart} {
			err := shop.Kill(name, syscall.SIGKILL)
			if err != nil {
				t.Fatal(err)
			}
			killed = append(killed, name)
		}
		p.add("hat-01") // while both are away
		p.click(`#lines li[data-sku="hat-01"] .less`)
		p.until(`document.getElementById('version').textContent === '` + fmt.Sprintf("%03d", 3*n) + `'`)
		p.shows(map[string]int{"hat-01": n})
		ready(t, shop)
	}
	p.click("#keep")
	if got := p.visitor().do(200, "GET", "/v1/cart", ""); got.Version != 12 || fmt.Sprint(got.quantities()) != "map[hat-01:4]" {
		t.Errorf("after %v were killed the cart is %+v", killed, got)
	}
}

// TestTwoTabs: what one tab does the other shows, both at once lose nothing, and
// a change that was meant for another version overwrites nothing.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	shop := openShop(t)
	a := open(t, "http://"+shop.Address())
	b := a.another()
	a.add("mug-01")
	b.shows(map[string]int{"mug-01": 1})
	b.click(`#lines li[data-sku="mug-01"] .more`)
	a.shows(map[string]int{"mug-01": 2})

	const each = 8
	for range each {
		for _, p := range []*page{a, b} {
			p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector('#products li[data-sku="brush-01"] .add').click()`))
		}
	}
	for _, p := range []*page{a, b} {
		p.shows(map[string]int{"mug-01": 2, "brush-01": 2 * each})
	}

	a.overtaken("mug-01", 3, 7)
	for _, p := range []*page{a, b} {
		p.shows(map[string]int{"mug-01": 7, "brush-01": 2 * each})
	}

	// A log-in is one of the browser, not of the tab.
	a.register()
	b.until(`document.getElementById('who').textContent === '` + email + `'`)
	b.add("cap-01")
	for _, p := range []*page{a, b} {
		p.shows(map[string]int{"mug-01": 7, "brush-01": 2 * each, "cap-01": 1})
	}
	b.click("#checkout")
	b.until(`document.querySelectorAll('#order-list > li').length === 1`)
	a.shows(map[string]int{})
	b.click("#leave")
	a.until(`document.getElementById('who').textContent === 'Guest'`)
}

// TestTicketsEnd: a session that was ended elsewhere, and a guest's ticket whose
// cart has moved, are replaced, and nothing is changed in the wrong cart.
func TestTicketsEnd(t *testing.T) {
	t.Parallel()
	shop := openShop(t)
	base := "http://" + shop.Address()
	p := open(t, base)
	p.add("mug-01")
	p.shows(map[string]int{"mug-01": 1})
	thief := p.visitor()
	thief.do(201, "POST", "/v1/users", credentials)
	thief.do(201, "POST", "/v1/sessions", credentials) // with the page's guest ticket
	p.add("hat-01")
	p.said("moved into an account")
	p.shows(map[string]int{})
	p.add("hat-01")
	p.shows(map[string]int{"hat-01": 1})

	p.logIn()
	p.shows(map[string]int{"mug-01": 1, "hat-01": 1})
	thief.do(204, "DELETE", "/v1/sessions", "") // of all devices
	p.click(`#lines li[data-sku="hat-01"] .more`)
	p.said("Your session is over")
	p.shows(map[string]int{})
	p.until(`document.getElementById('who').textContent === 'Guest'`)
	thief.do(201, "POST", "/v1/sessions", credentials)
	if got := thief.cart(); fmt.Sprint(got) != "map[hat-01:1 mug-01:1]" {
		t.Errorf("the user's cart is %v", got)
	}
}

// TestFirstPage: all that one sees first is one page and two answers of the
// shop, and a second look asks only whether the page is still the same.
func TestFirstPage(t *testing.T) {
	t.Parallel()
	shop := openShop(t)
	p := open(t, "http://"+shop.Address())
	p.mu.Lock()
	received, asked := p.received, slices.Clone(p.asked)
	p.mu.Unlock()
	const budget = 60_000
	if received < 5_000 || received > budget {
		t.Errorf("%.0f bytes on the wire, want at most %d", received, budget)
	}
	t.Logf("%.0f bytes on the wire", received)
	asked = slices.DeleteFunc(asked, func(url string) bool { return strings.HasPrefix(url, "data:") })
	slices.Sort(asked)
	want := []string{p.base + "/", p.base + "/v1/cart", p.base + "/v1/products"}
	if !slices.Equal(asked, want) {
		t.Errorf("asked for %v, want %v", asked, want)
	}

	var status []int64
	err := chromedp.Listen(p.ctx, func(event any) {
		if e, ok := event.(*network.EventResponseReceivedExtraInfo); ok {
			p.mu.Lock()
			defer p.mu.Unlock()
			status = append(status, e.StatusCode)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.Reload())
	p.until(`document.getElementById('version').textContent !== '–'`)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(status) == 0 || status[0] != 304 {
		t.Errorf("the second look got %v", status)
	}
}

// TestNamesAreText: a catalogue is not trusted to be free of markup.
func TestNamesAreText(t *testing.T) {
	t.Parallel()
	const name = `<img src=x onerror=alert(1)><b>"Mug" & 'co'</b>`
	file := write(t, "catalogue.json", `{"currency": "JPY", "products": [{"sku": "x-1", "name": "<img src=x onerror=alert(1)><b>\"Mug\" & 'co'</b>", "unit_price": 1250}]}`)
	shop := openShop(t, "COATCHECK_CATALOGUE_FILE="+file)
	p := open(t, "http://"+shop.Address())
	p.add("x-1")
	p.shows(map[string]int{"x-1": 1})
	for _, selector := range []string{"#products h3", "#lines .name"} {
		if got := get[string](p, fmt.Sprintf(`document.querySelector(%q).textContent`, selector)); got != name {
			t.Errorf("%s shows %s", selector, got)
		}
	}
	if n := get[int](p, `document.images.length`); n != 0 {
		t.Errorf("%d pictures came of a name", n)
	}
	p.until(`document.getElementById('total').textContent === '¥1,250'`) // a currency without minor units
	time.Sleep(100 * time.Millisecond)
}
