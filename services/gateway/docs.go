package gateway

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/swaggest/swgui/v5emb"
)

//go:embed openapi.json
var openAPIDocument []byte

var (
	inlineScripts = regexp.MustCompile(`(?s)<script>(.*?)</script>`)
	assetNames    = regexp.MustCompile(`"/docs/([a-z0-9.-]+)"`)
)

// docs is the page at /docs, which renders /openapi.json in the browser. All of
// it is in this binary: the policy sent with it lets it load nothing from
// elsewhere, and run no script but its own files and the ones inlined in it.
type docs struct {
	page   []byte
	policy string
	assets []string // names under /docs/
	files  http.Handler
}

func newDocs() (docs, error) {
	ui := v5emb.New("coatcheck", "/openapi.json", "/docs/")
	request, err := http.NewRequest(http.MethodGet, "/docs", nil)
	if err != nil {
		return docs{}, err
	}
	page := capture{headerOnly: headerOnly{}}
	ui.ServeHTTP(&page, request)
	d := docs{page: page.body.Bytes(), files: ui}
	for _, match := range assetNames.FindAllSubmatch(d.page, -1) {
		d.assets = append(d.assets, string(match[1]))
	}
	var hashes []string
	for _, match := range inlineScripts.FindAllSubmatch(d.page, -1) {
		sum := sha256.Sum256(match[1])
		hashes = append(hashes, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	if len(d.assets) == 0 || len(hashes) == 0 {
		return docs{}, errors.New("the page is not what it was expected to be")
	}
	d.policy = "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self' " +
		strings.Join(hashes, " ") + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return d, nil
}

// capture keeps the body of an answer.
type capture struct {
	headerOnly
	body bytes.Buffer
}

func (c *capture) Write(b []byte) (int, error) { return c.body.Write(b) }

func (g *Gateway) openAPI(w *answer, _ *http.Request) error {
	w.set("Cache-Control", "no-cache")
	send(w, http.StatusOK, "application/json", openAPIDocument)
	return nil
}

func (g *Gateway) docsPage(w *answer, _ *http.Request) error {
	w.set("Cache-Control", "no-cache")
	w.set("Content-Security-Policy", g.docs.policy)
	send(w, http.StatusOK, "text/html; charset=utf-8", g.docs.page)
	return nil
}

func (g *Gateway) docsAsset(w *answer, r *http.Request) error {
	if !slices.Contains(g.docs.assets, r.PathValue("asset")) {
		return noSuchRoute()
	}
	w.set("Cache-Control", "public, max-age=3600")
	g.docs.files.ServeHTTP(w, r)
	return nil
}
