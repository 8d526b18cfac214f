package browser_test

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"coatcheck/trial/fault"
	"coatcheck/trial/history"
	"coatcheck/trial/report"
	"coatcheck/trial/run"
	"coatcheck/trial/traffic"
	"coatcheck/trial/watch"
)

// openTrial opens a tab on a trial's page, once that shows numbers.
func openTrial(t *testing.T, url string) *page {
	t.Helper()
	return openIn(t, chromium, url, `document.getElementById('lost').textContent !== '–'`, chromedp.WithNewBrowserContext())
}

// TestTrial: the page follows a real trial, from its shoppers and faults to its
// verdict, on a desktop and on a phone, in light and dark.
func TestTrial(t *testing.T) {
	t.Parallel()
	axe := axe(t)
	rolling, _ := fault.Named("rolling")
	dir := filepath.Join(t.TempDir(), "trial")
	verdict := make(chan run.Verdict, 1)
	go func() {
		v, err := run.Run(t.Context(), run.Options{
			Dir: dir, Scenario: rolling, Seed: 1, Rate: 60, Length: 20 * time.Second, Bin: bin, Listen: "127.0.0.1:0", Out: io.Discard,
		})
		if err != nil {
			t.Error(err)
		}
		verdict <- v
	}()
	var url string
	for deadline := time.Now().Add(patience); url == ""; time.Sleep(50 * time.Millisecond) {
		url, _ = watch.Find(dir)
		if time.Now().After(deadline) {
			t.Fatal("the trial is nowhere to be seen")
		}
	}
	p := openTrial(t, url)
	p.until(`document.getElementById('title').textContent === 'Trial rolling' && document.getElementById('bar').ariaValueNow > 0`)
	p.until(`document.querySelectorAll('.replica').length === 13 && document.querySelectorAll('.role').length === 4`)
	p.until(`document.querySelectorAll('.replica.hit').length > 0`)
	p.until(`document.querySelectorAll('#faults tr').length > 1 && document.querySelectorAll('#requests-plot rect.hidden, #requests-plot rect.gateway').length > 1`)
	p.until(`document.querySelectorAll('#requests-plot rect.ok').length > 8 && document.querySelector('#p99-plot path').getAttribute('d').length > 20`)
	for _, scheme := range []string{"light", "dark"} {
		p.prefer(scheme)
		for name, width := range map[string]int64{"desktop": 1280, "phone": 390, "narrow": 320} {
			p.on(width, 900)
			p.accessible(axe, scheme+" on a "+name)
			p.picture("trial "+name+" "+scheme, "main")
		}
	}
	p.on(1280, 900)
	v := <-verdict
	p.until(`document.getElementById('head').className !== ''`)
	if title := get[string](p, `document.getElementById('title').textContent`); title != string(v) {
		t.Errorf("the page says %q, the verdict is %q", title, v)
	}
	if line := get[string](p, `document.getElementById('said').textContent`); !strings.HasPrefix(line, "0 lost") {
		t.Errorf("the page says %q", line)
	}
	p.accessible(axe, "the verdict")
	p.picture("trial verdict", "main")
	// Nobody serves it any more, and it stays as it was.
	time.Sleep(time.Second)
	if trouble := get[bool](p, `!document.getElementById('trouble').hidden`); trouble {
		t.Error("the page takes the end for trouble")
	}
	if n := get[int](p, `Number(document.getElementById('acknowledged').textContent.replaceAll(',', ''))`); n < 200 {
		t.Errorf("%d acknowledged changes", n)
	}
}

// TestTrialOfALossyShop: what is lost and failed is seen, no name becomes
// markup, a dashboard is shown, and a trial that dies is told from one that ends.
func TestTrialOfALossyShop(t *testing.T) {
	t.Parallel()
	axe := axe(t)
	w := watch.New()
	server, err := watch.Serve(w, "127.0.0.1:0", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	const name = `<img src=x onerror=alert(1)>`
	rest := w.Begin(history.Run{Scenario: "demo", Target: "http://127.0.0.1:1", Length: time.Minute}, func() traffic.Live { return traffic.Live{Changes: 12345} }, func() []watch.Replica {
		return []watch.Replica{{Role: "cart", Name: name, State: "running"}, {Role: "cart", Name: "cart-2", State: "stopped"}}
	})
	defer rest()
	w.Op(&history.Op{Kind: history.Add, Cart: "u", Unique: true, Outcome: history.OK, Lines: []history.Line{{SKU: "a", Quantity: 1}, {SKU: "b", Quantity: 1}}})
	w.Op(&history.Op{Kind: history.Read, Cart: "u", Outcome: history.OK, Shown: []history.Line{{SKU: "a", Quantity: 1}}})
	w.Op(&history.Op{Kind: history.Add, Outcome: history.Failed, Status: 503})
	w.Fault(history.Fault{Name: name, Class: history.Outage})(history.Fault{Name: name, Error: name, Class: history.Outage, End: time.Second})
	w.Fault(history.Fault{Name: "kill -9 cart-2", Target: "cart-2", Class: history.Hidden})
	w.Draws([]string{"overview"}, func(_ context.Context, _ string, to io.Writer) error {
		_, err := fmt.Fprint(to, `<svg xmlns="http://www.w3.org/2000/svg" width="1200" height="300" viewBox="0 0 1200 300"><style>rect{fill:#1d7252}</style><rect width="100%" height="100%"/></svg>`)
		return err
	})

	p := openTrial(t, server.URL())
	p.until(`document.getElementById('lost').textContent === '1' && document.getElementById('lost-card').className === 'card bad'`)
	p.until(`document.getElementById('lines').textContent=== 'of 2 lines watched' && document.getElementById('failed').textContent === '1'`)
	p.until(`document.getElementById('acknowledged').textContent === '12,345' && document.title.startsWith('1 lost of 12,345')`)
	p.until(`document.querySelector('.replica b').textContent.length > 5 && document.querySelector('.replica.hit span').textContent === 'stopped: kill -9 cart-2'`)
	p.until(`document.querySelector('tr.now').textContent.includes('under way')`)
	if n := get[int](p, `document.querySelectorAll('img').length`); n != 1 {
		t.Errorf("%d pictures, of which one is the dashboard's", n)
	}
	p.click("#choice button")
	p.until(`!document.getElementById('board').hidden && document.getElementById('board').naturalWidth === 1200`)
	p.accessible(axe, "a dashboard")
	p.picture("trial lossy", "main")

	w.End(report.Fail, "FAIL  1 lost")
	p.until(`document.getElementById('title').textContent === 'FAIL' && document.getElementById('head').className === 'fail' && document.getElementById('said').textContent === '1 lost'`)
	p.accessible(axe, "a failure")
	p.picture("trial failed", "main")
}

// TestTrialThatDies is told from one that ends.
func TestTrialThatDies(t *testing.T) {
	t.Parallel()
	w := watch.New()
	server, err := watch.Serve(w, "127.0.0.1:0", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Begin(history.Run{Scenario: "demo", Length: time.Minute}, func() traffic.Live { return traffic.Live{} }, nil)()
	p := openTrial(t, server.URL())
	server.Close()
	p.until(`!document.getElementById('trouble').hidden && document.getElementById('trouble').textContent.includes('does not answer')`)
}
