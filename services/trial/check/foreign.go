package check

import "time"

// foreign: a cart never shows, and no order has, what no request sent by then
// named for it, or for a guest's cart that a log-in sent by then named.
func (j *judge) foreign() {
	for _, f := range j.families {
		named := map[*cart]map[sku]time.Duration{} // when first
		for _, c := range f.carts {
			named[c] = map[sku]time.Duration{}
		}
		first := func(c *cart, s sku, at time.Duration) {
			if known, ok := named[c][s]; !ok || at < known {
				named[c][s] = at
			}
		}
		for _, o := range f.ops {
			for _, l := range o.lines {
				first(o.cart, l.sku, o.sent)
			}
		}
		for _, c := range f.carts {
			for _, logIn := range c.leaves {
				for s, at := range named[c] {
					first(logIn.cart, s, max(at, logIn.sent))
				}
			}
		}
		for _, o := range f.ops {
			shown := [][]line{o.shown}
			for _, ord := range o.orders {
				shown = append(shown, ord.lines)
			}
			for _, lines := range shown {
				if len(lines) == 0 {
					continue
				}
				j.looked("foreign", 1)
				for _, l := range lines {
					if at, ok := named[o.cart][l.sku]; !ok || at > o.answered {
						j.find("foreign", o.cart, []*op{o}, "%s is shown, which nobody has put there", j.skus[l.sku])
					}
				}
			}
		}
	}
}
