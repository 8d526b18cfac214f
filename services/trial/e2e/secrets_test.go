package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"coatcheck/trial/fault"
	"coatcheck/trial/local"
	trial "coatcheck/trial/run"
)

// logs are the shop's logs as they are now, by file.
func logs(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		if all[f.Name()], err = os.ReadFile(filepath.Join(dir, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// requestLines counts the lines of requests that users send.
func requestLines(logs map[string][]byte) int {
	lines := 0
	for _, log := range logs {
		lines += bytes.Count(log, []byte(`"msg":"request",`))
	}
	return lines
}

func contains(text []byte, part string) bool { return bytes.Contains(text, []byte(part)) }

// listener is a proxy that remembers what nobody else may: tickets, tokens,
// passwords and e-mail addresses, by what they are; and the problems it was told.
type listener struct {
	mu       sync.Mutex
	requests int
	secrets  map[string]map[string]bool
	problems [][]byte
}

func (l *listener) hear(kind, secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.secrets[kind] == nil {
		l.secrets[kind] = map[string]bool{}
	}
	l.secrets[kind][secret] = true
}

func (l *listener) proxy(t *testing.T, target string) *httptest.Server {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			l.mu.Lock()
			l.requests++
			l.mu.Unlock()
			for _, c := range r.In.Cookies() {
				l.hear("ticket", c.Value)
			}
			body, _ := io.ReadAll(r.In.Body)
			r.Out.Body = io.NopCloser(bytes.NewReader(body))
			if token, ok := strings.CutPrefix(r.In.Header.Get("Authorization"), "Bearer "); ok {
				l.hear("access token shown", token)
			}
			var named struct {
				Email, Password string
				Refresh         string `json:"refresh_token"`
			}
			if json.Unmarshal(body, &named) == nil && named.Email != "" {
				l.hear("e-mail address", named.Email)
				l.hear("password", named.Password)
			}
			if named.Refresh != "" {
				l.hear("refresh token shown", named.Refresh)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			for _, c := range r.Cookies() {
				if c.Value != "" {
					l.hear("ticket", c.Value)
				}
			}
			problem := r.Header.Get("Content-Type") == "application/problem+json"
			if !problem && r.Request.URL.Path != "/v1/tokens" {
				return nil
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			if problem {
				l.mu.Lock()
				l.problems = append(l.problems, body)
				l.mu.Unlock()
				return nil
			}
			var issued struct {
				Access  string `json:"access_token"`
				Refresh string `json:"refresh_token"`
			}
			if err := json.Unmarshal(body, &issued); err != nil {
				return err
			}
			l.hear("access token", issued.Access)
			l.hear("refresh token", issued.Refresh)
			return nil
		},
	}
	server := httptest.NewUnstartedServer(p)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// told reports which secrets text tells. A ticket or token is told by its end too,
// which is what makes it one.
func (l *listener) told(text []byte) []string {
	text = bytes.ToLower(text)
	var found []string
	for kind, secrets := range l.secrets {
		for secret := range secrets {
			end := secret[strings.LastIndexAny(secret, ".:")+1:]
			if kind == "password" || kind == "e-mail address" {
				end = secret
			}
			if len(end) < 8 {
				found = append(found, "too short to be sure of: a "+kind)
			}
			if at := bytes.Index(text, bytes.ToLower([]byte(end))); at >= 0 {
				line := text[bytes.LastIndexByte(text[:at], '\n')+1:]
				line, _, _ = bytes.Cut(line, []byte("\n"))
				found = append(found, kind+" in "+string(line))
				break
			}
		}
	}
	return found
}

// TestNothingSecretIsTold runs a trial's traffic against a shop that logs all
// that it can and traces everything, while processes are killed: no ticket, no
// token, no password and no e-mail address is in a log, a span, a problem or what
// the processes measure. And each request has one line in a gateway's log.
func TestNothingSecretIsTold(t *testing.T) {
	t.Parallel()
	c, env := collect(t)
	shop, dir := openWith(t, local.Options{Gateways: 2, Auths: 2, Carts: 3}, append(env, "COATCHECK_LOG_LEVEL=debug")...)
	before := -1 // of those who asked whether it is open, as soon as all of these are written
	for now := requestLines(logs(t, dir)); now != before; now = requestLines(logs(t, dir)) {
		before = now
		time.Sleep(500 * time.Millisecond)
	}
	l := &listener{secrets: map[string]map[string]bool{}}
	proxy := l.proxy(t, "http://"+shop.Address())

	for i, name := range []string{"cart-1", "auth-1", "redis"} {
		kill := time.AfterFunc(time.Duration(4+2*i)*time.Second, func() { _ = shop.Kill(name, syscall.SIGKILL) })
		defer kill.Stop()
	}
	none, _ := fault.Named("none")
	var out bytes.Buffer
	if _, err := trial.Run(t.Context(), trial.Options{
		Dir: t.TempDir(), Scenario: none, Seed: 7, Rate: 40, Length: 12 * time.Second, Out: &out, Target: proxy.URL,
	}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	told := map[string][]byte{}
	for _, p := range shop.Processes() {
		if p.Admin != "" {
			a := newClient(t, "http://"+p.Admin).do("GET", "/metrics", "", "Accept", "application/openmetrics-text")
			told[p.Name+"'s /metrics"] = a.body
		}
	}
	shop.Close() // and every log is whole

	for kind, least := range map[string]int{
		"ticket": 30, "e-mail address": 5, "password": 1, "access token": 10, "access token shown": 10, "refresh token": 10, "refresh token shown": 5,
	} {
		if heard := len(l.secrets[kind]); heard < least {
			t.Errorf("heard of %d secrets of the kind %s, want %d", heard, kind, least)
		}
	}
	if len(l.problems) < 5 || len(told) < 7 {
		t.Errorf("%d problems were told, and %d processes measure", len(l.problems), len(told))
	}
	told["a problem"] = bytes.Join(l.problems, []byte("\n"))
	maps.Copy(told, logs(t, dir))
	for name, log := range told {
		for _, found := range l.told(log) {
			t.Errorf("%s tells: %s", name, found)
		}
	}
	if lines := requestLines(told) - before; lines != l.requests {
		t.Errorf("%d lines for %d requests", lines, l.requests)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.spans) < 2*l.requests {
		t.Errorf("%d spans of %d requests", len(c.spans), l.requests)
	}
	for _, s := range c.spans {
		text, err := protojson.Marshal(s.Span)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range l.told(text) {
			t.Errorf("a span tells: %s", found)
			return
		}
	}
}
