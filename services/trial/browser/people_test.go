package browser_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var pictures = flag.String("pictures", "", "a folder for screenshots of what is tested for accessibility")

// axe is axe-core, which make test-browser fetches by the hash in package-lock.json.
func axe(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root, ".bin", "axe", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatalf("axe-core is missing, make test-browser fetches it: %v", err)
	}
	return string(source)
}

// violation is what axe finds.
type violation struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		HTML    string `json:"html"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

// accessible runs axe on the page as it is now.
func (p *page) accessible(axe, what string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](axe))
	found := get[[]violation](p, `axe.run(document, { resultTypes: ['violations'] }).then((r) => r.violations)`)
	for _, v := range found {
		for _, node := range v.Nodes {
			p.t.Errorf("%s: %s: %s\n%s\n%s", what, v.ID, v.Help, node.HTML, node.Summary)
		}
	}
	// Not innerWidth: on a phone that follows what is too wide.
	if wider := get[int](p, `document.documentElement.scrollWidth - screen.width`); wider > 0 {
		p.t.Errorf("%s: the page is %d pixels wider than its window", what, wider)
	}
}

// prefer has pages shown light or dark, and still: what moves is hard to click,
// and has other colours meanwhile.
func (p *page) prefer(scheme string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme},
		{Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	if dark := get[bool](p, `matchMedia('(prefers-color-scheme: dark)').matches`); dark != (scheme == "dark") {
		p.t.Fatalf("dark is %v", dark)
	}
}

// on puts the page on a screen, a narrow one on a phone's.
func (p *page) on(width, height int64) {
	p.t.Helper()
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, ScreenWidth: width, ScreenHeight: height, DeviceScaleFactor: 1, Mobile: width < 600,
	})
}

// picture shows the page scrolled to an element.
func (p *page) picture(name, selector string) {
	p.t.Helper()
	if *pictures == "" {
		return
	}
	p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector(%q).scrollIntoView()`, selector)))
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	err = os.WriteFile(filepath.Join(*pictures, strings.ReplaceAll(name, " ", "-")+".png"), png, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
}

// TestAccessible: axe finds nothing, in light and dark, on a desktop and on a
// phone, in each state of the page; and nothing has to be scrolled sideways.
func TestAccessible(t *testing.T) {
	t.Parallel()
	axe := axe(t)
	shop := openShop(t)
	for _, scheme := range []string{"light", "dark"} {
		for _, screen := range []struct {
			name          string
			width, height int64
		}{{"desktop", 1280, 900}, {"phone", 390, 844}, {"narrow", 320, 640}} {
			name := screen.name + " " + scheme
			t.Run(name, func(t *testing.T) {
				p := open(t, "http://"+shop.Address())
				p.prefer(scheme)
				p.on(screen.width, screen.height)
				p.accessible(axe, "empty")
				p.add("coat-01")
				p.add("mug-01")
				p.add("umbrella-01")
				p.shows(map[string]int{"coat-01": 1, "mug-01": 1, "umbrella-01": 1})
				for range 2 {
					p.six("one and the same cart")
				}
				p.overtaken("mug-01", 3, 2)
				p.accessible(axe, "a message")
				p.click("#hush")
				p.accessible(axe, "a cart")
				p.picture(name, "header")
				p.picture(name+" cart", "#cart")
				p.click("#checkout")
				p.until(`document.getElementById('door').open`)
				p.do(chromedp.SendKeys(chromedp.CSS("#email"), strings.ReplaceAll(name, " ", ".")+"@example.org"), chromedp.SendKeys(chromedp.CSS("#password"), password))
				p.click("#door button[value=log-in]")
				p.until(`document.getElementById('door-error').textContent !== ''`)
				p.accessible(axe, "the door")
				p.picture(name+" door", "header")
				p.click("#door button[value=register]")
				p.said("Logged in.")
				p.click("#checkout")
				p.until(`document.querySelectorAll('#order-list > li').length === 1`)
				p.click("#order-list summary")
				p.accessible(axe, "an order")
				p.picture(name+" order", "#cart")
			})
		}
	}
}

// TestColours: ink on tickets is read in each colour that a replica can have,
// which axe can't tell where a ticket is cut out.
func TestColours(t *testing.T) {
	t.Parallel()
	shop := openShop(t)
	for _, scheme := range []string{"light", "dark"} {
		p := open(t, "http://"+shop.Address())
		p.prefer(scheme)
		contrasts := get[[]float64](p, `(() => {
			const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
			const light = (colour) => {
				canvas.fillStyle = colour;
				canvas.fillRect(0, 0, 1, 1);
				const [r, g, b] = Array.from(canvas.getImageData(0, 0, 1, 1).data, (v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
				return .2126 * r + .7152 * g + .0722 * b;
			};
			const half = document.querySelector('.half');
			return HUES.map((hue) => {
				half.style.setProperty('--hue', hue);
				const style = getComputedStyle(half);
				return (light(style.backgroundColor) + .05) / (light(style.color) + .05);
			});
		})()`)
		if len(contrasts) < 8 {
			t.Errorf("only %d colours", len(contrasts))
		}
		for i, contrast := range contrasts {
			if contrast < 7 {
				t.Errorf("%s, colour %d: contrast %.2f, want 7", scheme, i+1, contrast)
			}
		}
	}
}

// press sends keys to whatever has the focus.
func (p *page) press(keys string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// tabTo presses Tab until the element has the focus, which must be seen at each
// stop.
func (p *page) tabTo(selector string) {
	p.t.Helper()
	for range 150 {
		p.press(kb.Tab)
		stop := get[struct {
			There, Seen bool
			Name        string
		}](p, fmt.Sprintf(`(() => {
			const e = document.activeElement, box = e.getBoundingClientRect();
			const shown = box.width > 0 && box.right > 0 && box.left < innerWidth && getComputedStyle(e).outlineStyle !== 'none';
			return { There: e.matches(%q), Seen: e === document.body || shown, Name: e.outerHTML.slice(0, 200) };
		})()`, selector))
		if !stop.Seen {
			p.t.Errorf("the focus is not seen on %s", stop.Name)
		}
		if stop.There {
			return
		}
	}
	p.t.Fatalf("no Tab leads to %s", selector)
}

// TestKeyboard: all of it without a mouse.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	shop := openShop(t)
	p := open(t, "http://"+shop.Address())
	p.tabTo(`.skip[href="#shelf"]`)
	p.press(kb.Enter)
	p.tabTo(`#products li[data-sku="mug-02"] .add`)
	p.press(kb.Enter)
	p.shows(map[string]int{"mug-02": 1})
	p.tabTo(`#products li[data-sku="coat-01"] .add`)
	p.press(" ")
	p.shows(map[string]int{"mug-02": 1, "coat-01": 1})

	p.tabTo(`#lines li[data-sku="coat-01"] input`)
	p.press(kb.Delete + "4" + kb.Enter)
	p.shows(map[string]int{"mug-02": 1, "coat-01": 4})
	p.until(`document.getElementById('version').textContent === '003'`)
	p.tabTo(`#lines li[data-sku="mug-02"] .remove`)
	p.press(kb.Enter)
	p.shows(map[string]int{"coat-01": 4})
	p.until(`document.activeElement.id === 'cart'`) // what had the focus is gone

	p.tabTo("#checkout")
	p.press(kb.Enter)
	p.until(`document.getElementById('door').open && document.activeElement.id === 'email'`)
	p.press(kb.Escape)
	p.until(`!document.getElementById('door').open && document.activeElement.id === 'checkout'`)
	p.press(kb.Enter)
	p.until(`document.getElementById('door').open`)
	p.press(email)
	p.tabTo("#password")
	p.press(password)
	p.tabTo("button[value=register]")
	p.press(kb.Enter)
	p.said("Logged in.")
	p.until(`document.activeElement.id === 'checkout'`)
	p.press(kb.Enter)
	p.until(`document.activeElement.id === 'orders'`)
	p.tabTo("summary")
	p.press(kb.Enter)
	p.until(`document.querySelector('#order-list details').open && document.querySelector('#order-list').textContent.includes('4 × Wool coat')`)

	// The roll is one stop, whatever hangs on it.
	p.do(chromedp.Evaluate[chromedp.Void](`document.getElementById('six').focus()`))
	p.press(kb.Enter)
	p.said("one and the same cart")
	p.tabTo(".ticket")
	newest := get[string](p, `document.activeElement.title`)
	p.press(kb.ArrowRight)
	if now := get[string](p, `document.activeElement.title`); now == newest || !get[bool](p, `document.activeElement.matches('.ticket.current')`) {
		t.Errorf("the arrow leads from %s to %s", newest, now)
	}
	p.press(kb.End)
	line := get[string](p, `document.getElementById('curl').textContent`)
	if !strings.HasPrefix(line, "curl -s -b jar -c jar -i http://"+shop.Address()+"/v1/") {
		t.Errorf("the first step by curl: %s", line)
	}
	p.press(kb.Enter)
	p.said("is copied")
	p.press(kb.Tab)
	if get[bool](p, `document.activeElement.matches('.ticket')`) {
		t.Error("the next Tab stays on the roll")
	}
	if copied := p.clipboard(); copied != line {
		t.Errorf("copied %q", copied)
	}
}
