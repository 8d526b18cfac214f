module coatcheck/trial/browser

go 1.26.0

require (
	coatcheck/trial v0.0.0
	github.com/chromedp/cdproto v0.159.0
	github.com/chromedp/chromedp v0.23.0
)

require github.com/go-json-experiment/json v1.27.2 // indirect

replace (
	coatcheck/auth => ../../auth
	coatcheck/cart => ../../cart
	coatcheck/chassis => ../../chassis
	coatcheck/gateway => ../../gateway
	coatcheck/proto => ../../../proto
	coatcheck/trial => ../
)
