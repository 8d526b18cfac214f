package gateway

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/types/known/timestamppb"

	"coatcheck/chassis/measuretest"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

func inAnHour() *timestamppb.Timestamp { return timestamppb.New(time.Now().Add(time.Hour)) }

// wholeTickets are tickets that have heard everything, for half a second.
func wholeTickets(size int) *tickets {
	t := newTickets(size, prometheus.NewRegistry())
	t.trust(t.now())
	return t
}

func TestTicketsCount(t *testing.T) {
	tk := wholeTickets(10)
	who := caller{owner: "u_1", session: "s"}
	counts := func(what string, k kind, want bool) {
		t.Helper()
		tk.trust(tk.now())
		got, ok := tk.check(k, "ticket")
		if ok != want || ok && got != who {
			t.Errorf("%s: %v, %v", what, got, ok)
		}
	}
	counts("unknown", sessionToken, false)
	tk.keep(sessionToken, "ticket", who, tk.now(), inAnHour())
	counts("known", sessionToken, true)
	counts("known as another kind", guestTicket, false)
	if _, ok := tk.check(sessionToken, "ticket "); ok {
		t.Error("another ticket")
	}
	tk.end("u_2")
	counts("another user's end", sessionToken, true)
	tk.end("u_1")
	counts("ended", sessionToken, false)

	asked := tk.now()
	tk.end("u_1")
	tk.keep(sessionToken, "ticket", who, asked, inAnHour())
	counts("verified before the end, remembered after it", sessionToken, false)
	time.Sleep(time.Microsecond)
	tk.keep(sessionToken, "ticket", who, tk.now(), inAnHour())
	counts("verified after the end", sessionToken, true)
	tk.endAll()
	counts("everybody's end", sessionToken, false)

	tk.keep(sessionToken, "ticket", who, tk.now()+1, inAnHour())
	counts("verified after that", sessionToken, true)
	tk.start = tk.start.Add(-trusted)
	counts("a minute later", sessionToken, false)
	tk.keep(sessionToken, "ticket", who, tk.now(), timestamppb.New(time.Now().Add(20*time.Millisecond)))
	counts("about to expire", sessionToken, true)
	time.Sleep(25 * time.Millisecond)
	counts("expired", sessionToken, false)
	tk.keep(sessionToken, "ticket", who, tk.now(), nil)
	counts("of unknown end", sessionToken, false)
}

// A ticket may not count on the word of an auth that has fallen silent; that of
// a guest cannot end.
func TestSilenceBlinds(t *testing.T) {
	tk := newTickets(10, prometheus.NewRegistry())
	for k, who := range map[kind]caller{sessionToken: {owner: "u_1", session: "s"}, guestTicket: {owner: "g_1"}} {
		tk.keep(k, "ticket", who, tk.now(), inAnHour())
	}
	check := func(what string, session bool) {
		t.Helper()
		if _, ok := tk.check(sessionToken, "ticket"); ok != session || tk.whole() != session {
			t.Errorf("%s: the session counts: %v", what, ok)
		}
		if _, ok := tk.check(guestTicket, "ticket"); !ok {
			t.Errorf("%s: the guest does not count", what)
		}
	}
	check("nothing was heard", false)
	tk.trust(tk.now())
	check("heard now", true)
	tk.trust(tk.now() - time.Minute)
	check("old news after new", true)
	tk.start = tk.start.Add(-silence)
	check("heard half a second ago", false)
	tk.trust(tk.now() - silence + 50*time.Millisecond)
	check("old news", true)
}

func TestTicketsAreBounded(t *testing.T) {
	tk := wholeTickets(10)
	for i := range 100 {
		tk.keep(guestTicket, fmt.Sprint(i), caller{owner: "g"}, tk.now(), inAnHour())
	}
	tk.keep(guestTicket, strings.Repeat("x", longest+1), caller{owner: "g"}, tk.now(), inAnHour())
	if n := tk.known.Len(); n != 10 {
		t.Errorf("%d tickets are remembered", n)
	}
	if _, ok := tk.check(guestTicket, "99"); !ok {
		t.Error("the youngest is forgotten")
	}
	for i := range 100 {
		tk.end(fmt.Sprint(i))
	}
	tk.start = tk.start.Add(-3 * trusted)
	tk.end("one more")
	if n := len(tk.ended); n != 1 {
		t.Errorf("%d ends are remembered that concern no ticket any more", n)
	}
}

// TestCheckIsCheap: a check from memory takes less than 2 µs and no memory.
func TestCheckIsCheap(t *testing.T) {
	tk, token := wholeTickets(20_000), strings.Repeat("t", 66)
	for i := range 20_000 {
		user := fmt.Sprintf("u_%022d", i)
		tk.keep(sessionToken, token+user, caller{owner: user, session: "s"}, tk.now(), inAnHour())
		tk.end("another " + user)
	}
	shown := token + fmt.Sprintf("u_%022d", 777)
	tk.trust(tk.now() + time.Minute)
	if n := testing.AllocsPerRun(1000, func() { tk.check(sessionToken, shown) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	measuretest.Costs(t)
	took := make([]time.Duration, 21)
	for i := range took {
		const n = 5000
		began := time.Now()
		for range n {
			if _, ok := tk.check(sessionToken, shown); !ok {
				t.Fatal("not remembered")
			}
		}
		took[i] = time.Since(began) / n
	}
	slices.Sort(took)
	// The fastest decides: the machine may have better to do meanwhile.
	if took[0] >= 2*time.Microsecond {
		t.Errorf("a check takes %v", took[0])
	}
	t.Logf("a ticket check from memory: no allocation, %v (median; %v to %v)", took[len(took)/2], took[0], took[len(took)-1])
}

func BenchmarkCheck(b *testing.B) {
	tk := wholeTickets(20_000)
	tk.trust(tk.now() + time.Hour)
	token := strings.Repeat("t", 66)
	tk.keep(sessionToken, token, caller{owner: "u_1", session: "s"}, tk.now(), inAnHour())
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := tk.check(sessionToken, token); !ok {
			b.Fatal("not remembered") // within the minute that a benchmark takes at most
		}
	}
}

func remembering() Settings {
	s := testSettings()
	s.TicketCache = 100
	return s
}

// another is a gateway beside s, over the same services.
func (s *shop) another(t *testing.T) *shop {
	t.Helper()
	reg := prometheus.NewRegistry()
	g, err := New(remembering(), slog.New(slog.DiscardHandler), reg, s.conns[0], s.conns[1])
	if err != nil {
		t.Fatal(err)
	}
	return &shop{Gateway: g, reg: reg, authStore: s.authStore, cartStore: s.cartStore}
}

func (s *shop) awaitWhole(t *testing.T, want bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); s.tickets.whole() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("whole is never %v", want)
		}
	}
}

// awaitNews waits for news that tells all until now. What was held back in a silence
// and comes at its end makes tickets whole too, but only until it is too old itself.
func (s *shop) awaitNews(t *testing.T) {
	t.Helper()
	now := s.tickets.now()
	for deadline := time.Now().Add(10 * time.Second); time.Duration(s.tickets.fresh.Load()) < now+silence; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing new is heard")
		}
	}
}

// TestAuthIsAskedOnce: of many requests with one ticket, auth is asked of one, and
// of none at the gateway that gave it out.
func TestAuthIsAskedOnce(t *testing.T) {
	s := newShopWith(t, remembering(), 1)
	other := s.another(t)
	s.awaitWhole(t, true)
	other.awaitWhole(t, true)
	user, guest := s.user(t, "a@example.org"), s.client(t)
	guest.want(200, "", "GET", "/v1/cart", "")
	for asked, at := range []*shop{s, other} {
		userThere, guestThere := at.client(t), at.client(t)
		userThere.cookies["session"], guestThere.cookies["guest"] = user.cookies["session"], guest.cookies["guest"]
		for range 50 {
			userThere.want(200, "", "GET", "/v1/cart", "")
			guestThere.want(200, "", "GET", "/v1/cart", "")
		}
		if n, m := s.authStore.count("VerifySession"), s.authStore.count("VerifyGuestTicket"); n != asked || m != asked {
			t.Errorf("auth was asked of the session %d times, of the guest %d times, want %d", n, m, asked)
		}
		for _, k := range []kind{sessionToken, guestTicket} {
			for result, want := range map[int]int{cached: 50 - asked, missed: asked, revoked: 0, blind: 0} {
				if got := testutil.ToFloat64(at.tickets.checks[k][result]); got != float64(want) {
					t.Errorf("kind %d, result %d: %v, want %v", k, result, got, want)
				}
			}
		}
	}
	// One that was refused is not remembered.
	for range 3 {
		c := s.client(t)
		c.cookies["session"] = fakeToken(strings.Repeat("x", 43))
		c.want(401, "invalid_session", "GET", "/v1/cart", "")
	}
	if n := s.authStore.count("VerifySession"); n != 4 {
		t.Errorf("auth was asked %d times", n)
	}
}

// TestLogInEndedMeanwhile: a session that ended before the log-in answered is not
// remembered as live.
func TestLogInEndedMeanwhile(t *testing.T) {
	s := newShopWith(t, remembering(), 1)
	s.awaitWhole(t, true)
	c := s.user(t, "a@example.org")
	c.want(204, "", "DELETE", "/v1/sessions/current", "")
	c.want(200, "", "GET", "/v1/cart", "") // a guest, whose cart the log-in moves
	s.fakeCarts[0].before = func(_ ctx, call string, _ any) error {
		if call == "MergeCarts" {
			s.fakeAuths[0].revoke(func(*authv1.VerifySessionResponse) bool { return true })
			time.Sleep(100 * time.Millisecond) // long enough for the news
		}
		return nil
	}
	c.logIn("a@example.org")
	c.want(401, "invalid_session", "GET", "/v1/sessions", "")
}

// TestEndsReachEveryGateway: whatever ends a session, all gateways that remember
// it refuse it, the one that was asked at once.
func TestEndsReachEveryGateway(t *testing.T) {
	s := newShopWith(t, remembering(), 1)
	other := s.another(t)
	s.awaitWhole(t, true)
	other.awaitWhole(t, true)
	for name, end := range map[string]func(c *client){
		"log-out": func(c *client) { c.want(204, "", "DELETE", "/v1/sessions/current", "") },
		"all":     func(c *client) { c.want(204, "", "DELETE", "/v1/sessions", "") },
		"password": func(c *client) {
			c.want(204, "", "PUT", "/v1/users/me/password", `{"current_password":"correct horse","new_password":"battery staple"}`)
		},
		"deletion": func(c *client) { c.want(204, "", "DELETE", "/v1/users/me", "") },
		"relogin":  func(c *client) { c.logIn("relogin@example.org") },
	} {
		c := s.user(t, name+"@example.org")
		token := c.cookies["session"]
		shown := func(at *shop) *client {
			thief := at.client(t)
			thief.cookies["session"] = token
			return thief
		}
		for range 2 {
			shown(s).want(200, "", "GET", "/v1/sessions", "")
			shown(other).want(200, "", "GET", "/v1/sessions", "")
		}
		end(c)
		ended := time.Now()
		shown(s).want(401, "invalid_session", "GET", "/v1/sessions", "")
		for shown(other).do("GET", "/v1/sessions", "").status != 401 {
			if time.Since(ended) > 5*time.Second {
				t.Fatalf("%s: the other gateway goes on", name)
			}
		}
	}
}

// TestOthersStay: whoever ends all other sessions goes on.
func TestOthersStay(t *testing.T) {
	s := newShopWith(t, remembering(), 1)
	s.awaitWhole(t, true)
	a := s.user(t, "a@example.org")
	b := s.client(t)
	b.logIn("a@example.org")
	b.want(200, "", "GET", "/v1/sessions", "")
	a.want(204, "", "DELETE", "/v1/sessions?except=current", "")
	b.want(401, "invalid_session", "GET", "/v1/sessions", "")
	a.want(200, "", "GET", "/v1/sessions", "")
}

// TestSilentAuth: while auth says nothing of revocations, it is asked of each
// request, and what ended meanwhile is refused; then all is as before.
func TestSilentAuth(t *testing.T) {
	s := newShopWith(t, remembering(), 1)
	s.awaitWhole(t, true)
	a, b := s.user(t, "a@example.org"), s.user(t, "b@example.org")
	asked := func(c *client, n int) int {
		before := s.authStore.count("VerifySession")
		for range n {
			c.want(200, "", "GET", "/v1/cart", "")
		}
		return s.authStore.count("VerifySession") - before
	}
	asked(a, 1)
	if n := asked(a, 5); n != 0 {
		t.Errorf("auth was asked of %d remembered tickets", n)
	}
	asked(b, 1)
	for what, quiet := range map[string]func(bool){"silent": s.fakeAuths[0].silent.Store, "stale": s.fakeAuths[0].stale.Store} {
		told := strings.Count(s.logged.String(), notHeardOf)
		quiet(true)
		s.awaitWhole(t, false)
		if n := asked(a, 5); n != 5 {
			t.Errorf("%s: auth was asked of %d of 5", what, n)
		}
		if what == "silent" {
			token := b.cookies["session"]
			s.fakeAuths[0].revoke(func(v *authv1.VerifySessionResponse) bool { return fakeToken(v.GetSessionId()) == token })
			b.want(401, "invalid_session", "GET", "/v1/cart", "")
		}
		quiet(false)
		s.awaitNews(t)
		asked(a, 1)
		if n := asked(a, 5); n != 0 {
			t.Errorf("after it was %s: auth was asked of %d remembered tickets", what, n)
		}
		if strings.Count(s.logged.String(), notHeardOf) == told {
			t.Errorf("nobody is told that it is %s", what)
		}
	}
}

// notHeardOf is how a gateway's log says that auth is asked of each request.
const notHeardOf = "revocations are not heard of"

// TestAnotherReplicaIsFollowed: one auth that hangs costs no more than a moment.
func TestAnotherReplicaIsFollowed(t *testing.T) {
	s := newShopWith(t, remembering(), 2)
	// Other calls come between, so that the next in turn may be either.
	var others sync.WaitGroup
	var over atomic.Bool
	defer func() { over.Store(true); others.Wait() }()
	others.Go(func() {
		c := s.client(t)
		for !over.Load() {
			c.cookies["session"] = fakeToken(strings.Repeat("x", 43))
			c.want(401, "invalid_session", "GET", "/v1/sessions", "")
		}
	})
	const rounds = 8
	bad := 0
	for i := range rounds {
		s.awaitWhole(t, true)
		hung := s.fakeAuths[i%2]
		hung.silent.Store(true)
		// Half a second until the silence is noticed, and a moment to begin anew.
		time.Sleep(silence + 400*time.Millisecond)
		if !s.tickets.whole() {
			bad++
			s.awaitWhole(t, true)
		}
		hung.silent.Store(false)
	}
	if bad > 1 { // a busy machine may need longer once
		t.Errorf("%d times of %d the other replica was not followed at once", bad, rounds)
	}
}

// TestLostLog: when the log was lost nothing counts that was verified before,
// whether anything was heard of it or not, and whatever is in the new one.
func TestLostLog(t *testing.T) {
	for what, heard := range map[string]bool{"a log of which something was heard": true, "an empty log": false} {
		s := newShopWith(t, remembering(), 1)
		a, b := s.user(t, "a@example.org"), s.user(t, "b@example.org")
		s.awaitWhole(t, true)
		if heard {
			b.want(204, "", "DELETE", "/v1/sessions", "")
			for deadline := time.Now().Add(10 * time.Second); testutil.ToFloat64(s.tickets.revoked) == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the end of b's sessions is not heard of")
				}
			}
		}
		a.want(200, "", "GET", "/v1/cart", "")
		s.fakeAuths[0].silent.Store(true)
		s.awaitWhole(t, false)
		// What ends now is heard of by nobody.
		s.fakeAuths[0].revoke(func(v *authv1.VerifySessionResponse) bool { return fakeToken(v.GetSessionId()) == a.cookies["session"] })
		s.authStore.loseLog("two")
		s.fakeAuths[0].silent.Store(false)
		s.awaitWhole(t, true)
		// The stream may have begun before the log was lost; its second word tells then.
		for deadline := time.Now().Add(5 * time.Second); a.do("GET", "/v1/cart", "").status != 401; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: what was verified before the loss counts", what)
			}
		}
	}
}

// TestFirstWord: what auth was asked before its first word does not count: what
// ended before that may be in no log any more.
func TestFirstWord(t *testing.T) {
	s := newShopWith(t, remembering(), 1)
	other := s.another(t)
	s.awaitWhole(t, true)
	other.awaitWhole(t, true)
	for _, position := range []string{"", "of another version/1"} {
		f := &follower{conn: other.conns[1], auth: other.auth, tickets: other.tickets, log: other.log, position: position}
		asked := other.tickets.now()
		go f.run()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			other.tickets.mu.RLock()
			lost := other.tickets.lost
			other.tickets.mu.RUnlock()
			if lost >= asked {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("from %q, what was asked before counts", position)
			}
		}
	}
}

// TestLateAnswer: a session that auth found live, and that ended before auth's
// answer came, is not remembered as live.
func TestLateAnswer(t *testing.T) {
	s := newShopWith(t, remembering(), 1)
	other := s.another(t)
	s.awaitWhole(t, true)
	other.awaitWhole(t, true)
	owner := s.user(t, "a@example.org")
	thief := other.client(t)
	thief.cookies["session"] = owner.cookies["session"]
	s.fakeAuths[0].after = func(_ ctx, _ string, _ any) error {
		s.fakeAuths[0].after = nil
		s.fakeAuths[0].revoke(func(*authv1.VerifySessionResponse) bool { return true })
		time.Sleep(100 * time.Millisecond) // long enough for the news
		return nil
	}
	thief.want(200, "", "GET", "/v1/sessions", "")
	thief.want(401, "invalid_session", "GET", "/v1/sessions", "")
}

// TestEndsWhileChecking: no request that was sent after the log-out was answered
// and half a second had passed is accepted, whatever goes on at the same time.
func TestEndsWhileChecking(t *testing.T) {
	s := newShopWith(t, remembering(), 1)
	other := s.another(t)
	s.awaitWhole(t, true)
	other.awaitWhole(t, true)
	for i := range 5 {
		c := s.user(t, fmt.Sprint(i, "@example.org"))
		token := c.cookies["session"]
		var over sync.WaitGroup
		var at time.Time
		var mu sync.Mutex
		for range 4 {
			over.Go(func() {
				thief := other.client(t)
				for range 100 {
					sent := time.Now()
					thief.cookies["session"] = token
					status := thief.do("GET", "/v1/sessions", "").status
					mu.Lock()
					late := !at.IsZero() && sent.Sub(at) > silence
					mu.Unlock()
					if status == 200 && late {
						t.Error("accepted half a second after the log-out")
					}
					time.Sleep(8 * time.Millisecond)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		c.want(204, "", "DELETE", "/v1/sessions/current", "")
		mu.Lock()
		at = time.Now()
		mu.Unlock()
		over.Wait()
	}
}
