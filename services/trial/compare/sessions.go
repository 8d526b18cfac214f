package compare

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"coatcheck/trial/stateful"
)

// SessionWay is one way to know who is logged in, with its numbers. Times are in
// nanoseconds in JSON.
type SessionWay struct {
	Key   string `json:"key"`
	Title string `json:"title"`

	// Bytes are what a request carries for it.
	Bytes int `json:"bytes"`
	// LookUps of a session a request: in the replica's own memory or, with Shared,
	// in the store that all share.
	LookUps float64 `json:"look_ups"`
	Shared  bool    `json:"shared"`
	// Check is the CPU of all processes that checking one takes.
	Check time.Duration `json:"check"`

	LogOuts     int           `json:"log_outs"`
	LogOutsHeld int           `json:"log_outs_held"`
	Held50      time.Duration `json:"held_p50"` // of those that held
	Held99      time.Duration `json:"held_p99"`
	Patience    time.Duration `json:"patience"`

	Sessions     int `json:"sessions"`
	SessionsLost int `json:"sessions_lost"` // at the death of one replica
}

// sessionWay is how it is opened. shared says that all replicas ask one store,
// bearer that the client has an access token and no cookie.
type sessionWay struct {
	key, title     string
	shared, bearer bool
	open           func(ctx context.Context, r *run) (site, error)
}

// sessionWays are the usual ways and the shop's, all by the shop's own code.
func sessionWays() []sessionWay {
	fleetOf := func(state string) func(context.Context, *run) (site, error) {
		return func(ctx context.Context, r *run) (site, error) { return openFleet(ctx, r, state) }
	}
	return []sessionWay{
		{"memory", "server memory", false, false, fleetOf(stateful.Memory)},
		{"shared", "shared store, asked each time", true, false, func(_ context.Context, r *run) (site, error) {
			return openShopWith(r, "asking", "COATCHECK_TICKET_CACHE=0")
		}},
		{"jwt", "plain JWT", false, true, fleetOf(stateful.Token)},
		{"coatcheck", "coatcheck", true, false, openShop},
	}
}

// lookUpMetrics are what the look-ups of sessions are counted by.
var lookUpMetrics = []string{"coatcheck_auth_session_checks_total", "coatcheck_stateful_session_look_ups_total"}

// sessions measures each way. Whoever is logged in is asked for at one replica
// after the other, but where only one knows them, at that one.
func (r *run) sessions(ctx context.Context) ([]SessionWay, error) {
	var all []SessionWay
	for _, w := range sessionWays() {
		r.say("sessions: %s", w.title)
		m := SessionWay{Key: w.key, Title: w.title, Shared: w.shared, Patience: r.endPatience}
		s, err := w.open(ctx, r)
		if err == nil {
			err = r.measureSessions(ctx, s, w.bearer, &m)
			s.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.title, err)
		}
		all = append(all, m)
	}
	return all, nil
}

// loggedIn is somebody with a session.
type loggedIn struct {
	*browser
	home string // where it was begun
}

func (r *run) measureSessions(ctx context.Context, s site, bearer bool, m *SessionWay) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	var urls []string
	for _, one := range s.Replicas()[:replicas] {
		if err := awaitReadyAt(one.Admin); err != nil {
			return err
		}
		urls = append(urls, "http://"+one.Address)
	}
	// Who is not known from the start registers.
	for i, email := range r.files.emails[:replicas] {
		b := newBrowser(client, urls[0], "10.4.0.1")
		if i == 0 && b.logIn(ctx, email).ok() {
			break
		}
		if a := b.do(ctx, http.MethodPost, "/v1/users", map[string]any{"email": email, "password": password}); !a.ok() {
			return fmt.Errorf("registering a user: %d %s", a.Status, a.Code)
		}
	}
	logIn := func(i int) (*loggedIn, error) {
		who := &loggedIn{newBrowser(client, urls[i%replicas], "10.4.0.2"), urls[i%replicas]}
		email := r.files.emails[i%replicas]
		var a answer
		if bearer {
			a = who.do(ctx, http.MethodPost, "/v1/tokens", map[string]any{"grant_type": "password", "email": email, "password": password})
			who.bearer = a.AccessToken
		} else {
			a = who.logIn(ctx, email)
		}
		if !a.ok() {
			return nil, fmt.Errorf("logging in: %d %s", a.Status, a.Code)
		}
		return who, nil
	}
	for _, step := range []func(context.Context, site, []string, func(int) (*loggedIn, error), *SessionWay) error{r.checkSessions, r.endSessions, r.killUnderSessions} {
		if err := step(ctx, s, urls, logIn, m); err != nil {
			return err
		}
	}
	return nil
}

// accepted tells whether the replica takes the session: there is no order of that
// name, and who is not logged in isn't even told so.
func (w *loggedIn) accepted(ctx context.Context, url string) (bool, error) {
	a := w.copy(url).send(ctx, http.MethodGet, noOrder, nil, "")
	switch a.Status {
	case http.StatusNotFound:
		return true, nil
	case http.StatusUnauthorized:
		return false, nil
	}
	return false, fmt.Errorf("a session at %s: %d %s", url, a.Status, a.Code)
}

// noOrder is answered when the session was checked, and nothing else was done;
// badPage before that.
var (
	noOrder = "/v1/orders/" + strings.Repeat("x", 200)
	badPage = "/v1/orders?page_size=none"
)

// checkSessions counts look-ups, bytes and CPU. The CPU is that of requests with
// a session less that of the same number which are refused before it is looked at.
func (r *run) checkSessions(ctx context.Context, s site, urls []string, logIn func(int) (*loggedIn, error), m *SessionWay) error {
	const people = 6
	var known []*loggedIn
	for i := range people {
		who, err := logIn(i)
		if err != nil {
			return err
		}
		known = append(known, who)
	}
	m.Bytes = known[0].weight()
	// at is where it is asked for, the nth time.
	at := func(who *loggedIn, n int) (string, error) {
		url := urls[n%len(urls)]
		if url == who.home {
			return url, nil
		}
		if ok, err := who.accepted(ctx, url); err != nil || ok {
			return url, err
		}
		return who.home, nil
	}
	plan := make([][]string, people)
	for i, who := range known {
		for n := range urls {
			url, err := at(who, n)
			if err != nil {
				return err
			}
			plan[i] = append(plan[i], url)
		}
	}
	block := func(path string, want int) (time.Duration, error) {
		before, err := cpu(s.PIDs())
		if err != nil {
			return 0, err
		}
		var group sync.WaitGroup
		failed := make([]error, people)
		for i, who := range known {
			group.Go(func() {
				for n := range r.checks / people {
					if a := who.copy(plan[i][n%len(urls)]).send(ctx, http.MethodGet, path, nil, ""); a.Status != want {
						failed[i] = fmt.Errorf("%s: %d %s", path, a.Status, a.Code)
						return
					}
				}
			})
		}
		group.Wait()
		after, err := cpu(s.PIDs())
		return after.sum() - before.sum(), errors.Join(append(failed, err)...)
	}
	before, err := lookUps(s)
	if err != nil {
		return err
	}
	var checked, refused time.Duration
	for range r.cpuPairs {
		// In turn, so that what else the machine does falls on both.
		one, err := block(badPage, http.StatusBadRequest)
		if err != nil {
			return err
		}
		two, err := block(noOrder, http.StatusNotFound)
		if err != nil {
			return err
		}
		refused, checked = refused+one, checked+two
	}
	after, err := lookUps(s)
	if err != nil {
		return err
	}
	n := r.cpuPairs * (r.checks / people) * people
	m.LookUps = (after - before) / float64(n)
	m.Check = max(0, checked-refused) / time.Duration(n)
	return nil
}

// endSessions logs people out, and shows each session to every replica until all
// refuse it.
func (r *run) endSessions(ctx context.Context, _ site, urls []string, logIn func(int) (*loggedIn, error), m *SessionWay) error {
	var held []time.Duration
	for i := range r.ends {
		who, err := logIn(i)
		if err != nil {
			return err
		}
		for _, url := range urls { // so that who remembers it does
			if _, err := who.accepted(ctx, url); err != nil {
				return err
			}
		}
		_ = who.copy(who.home).send(ctx, http.MethodDelete, "/v1/sessions/current", nil, "") // the client takes itself for logged out
		ended := time.Now()
		took := make([]time.Duration, len(urls))
		failed := make([]error, len(urls))
		var group sync.WaitGroup
		for j, url := range urls {
			group.Go(func() {
				for took[j] = -1; time.Since(ended) < r.endPatience; {
					sent := time.Since(ended)
					ok, err := who.accepted(ctx, url)
					if failed[j] = err; err != nil || !ok {
						took[j] = sent
						return
					}
				}
			})
		}
		group.Wait()
		if err := errors.Join(failed...); err != nil {
			return err
		}
		m.LogOuts++
		if slices.Min(took) >= 0 {
			m.LogOutsHeld++
			held = append(held, slices.Max(took))
		} else if m.LogOutsHeld == 0 && m.LogOuts >= 5 {
			break // it never holds: so many are enough to say so
		}
	}
	slices.Sort(held)
	if n := len(held); n > 0 {
		m.Held50, m.Held99 = held[n/2], held[n*99/100]
	}
	return nil
}

// killUnderSessions kills a replica under sessions that are spread over all.
func (r *run) killUnderSessions(ctx context.Context, s site, urls []string, logIn func(int) (*loggedIn, error), m *SessionWay) error {
	live := func(who *loggedIn) (anywhere bool, err error) {
		for _, url := range urls {
			ok, err := who.accepted(ctx, url)
			if err != nil {
				return false, err
			}
			anywhere = anywhere || ok
		}
		return anywhere, nil
	}
	var all []*loggedIn
	for i := range 4 * replicas {
		who, err := logIn(i)
		if err != nil {
			return err
		}
		all = append(all, who)
	}
	if err := s.Kill(0); err != nil {
		return err
	}
	pause(ctx, restartDelay)
	if err := awaitReadyAt(s.Replicas()[0].Admin); err != nil {
		return err
	}
	pause(ctx, time.Second)
	for _, who := range all {
		ok, err := live(who)
		if err != nil {
			return err
		}
		if m.Sessions++; !ok {
			m.SessionsLost++
		}
	}
	return nil
}

// lookUps adds up what all processes of the site have counted.
func lookUps(s site) (sum float64, err error) {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	found := false
	for _, admin := range s.Metrics() {
		resp, err := client.Get("http://" + admin + "/metrics")
		if err != nil {
			return 0, err
		}
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), " ")
			name, _, _ = strings.Cut(name, "{")
			if !slices.Contains(lookUpMetrics, name) {
				continue
			}
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				_ = resp.Body.Close()
				return 0, fmt.Errorf("%s of %s: %w", name, admin, err)
			}
			sum, found = sum+n, true
		}
		_ = resp.Body.Close()
		if err := lines.Err(); err != nil {
			return 0, err
		}
	}
	if !found {
		return 0, errors.New("nobody counts look-ups of sessions")
	}
	return sum, nil
}

// sessionRows are the lines of the table of sessions.
func (r Report) sessionRows() []row {
	of := func(title string, cell func(m SessionWay) string) row {
		made := row{Title: title}
		for _, m := range r.SessionWays {
			made.Cells = append(made.Cells, cell(m))
		}
		return made
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.3g ms", float64(d)/1e6) }
	return []row{
		of("Look-ups of the session per request", func(m SessionWay) string {
			where := "in its own memory"
			if m.Shared {
				where = "in the store"
			}
			return fmt.Sprintf("%.3g %s", m.LookUps, where)
		}),
		of("CPU to check it", func(m SessionWay) string { return fmt.Sprintf("%.0f µs", float64(m.Check)/1e3) }),
		of("Bytes in each request", func(m SessionWay) string { return fmt.Sprintf("%d B", m.Bytes) }),
		of("A log-out holds on every replica: p50, p99", func(m SessionWay) string {
			if m.LogOutsHeld < m.LogOuts {
				return fmt.Sprintf("not within %v (%d of %d)", m.Patience, m.LogOuts-m.LogOutsHeld, m.LogOuts)
			}
			return fmt.Sprintf("%s, %s (%d)", ms(m.Held50), ms(m.Held99), m.LogOuts)
		}),
		of("Sessions lost at the death of one replica", func(m SessionWay) string { return fmt.Sprintf("%d of %d", m.SessionsLost, m.Sessions) }),
	}
}
