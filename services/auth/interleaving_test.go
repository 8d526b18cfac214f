package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/crypto/argon2"
	"pgregory.net/rapid"

	"coatcheck/chassis/fault"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// TestNoInterleavingLeavesASessionAlive has operations of several clients run at
// once on several replicas, in any order in which their commands can reach Redis,
// with replicas that die between, and holds every session against what a model
// says of it: which must be dead, which must live, and of which a gateway that
// remembers it must have heard. -rapid.checks=5000 looks for longer.
func TestNoInterleavingLeavesASessionAlive(t *testing.T) {
	set := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { set[f.Name] = true })
	for name, value := range map[string]string{"rapid.checks": "100", "rapid.steps": "60"} {
		if !set[name] {
			if err := flag.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	redisServer, clock := startRedis(t), newClock()
	world := &world{store: NewRedisStore(redisServer.client(t)), clock: clock, seen: map[string]int{}}
	for range 3 {
		s := newServer(t, redisServer.client(t, inTurn{}), clock.now)
		s.passwords.decoy = cost{memory: 8, passes: 1, threads: 1}
		world.replicas = append(world.replicas, s)
	}
	// A model that never says so proves nothing.
	must := []string{
		"live", "dead: logged out", "dead: all logged out", "dead: password changed", "dead: account deleted", "dead: refresh token shown twice", "dead: refused",
		"log-in during the end of sessions", "died", "repeated", "heard of", "heard of, with tokens", "the same refresh token twice at once",
	}
	unseen := func(what string) bool { return world.seen[what] == 0 }
	check := func(rt *rapid.T) {
		m := newModel(rt, world)
		defer m.abandon()
		rt.Repeat(map[string]func(*rapid.T){
			"log in":          m.logIn,
			"verify":          m.verify,
			"log out":         m.logOut,
			"log out all":     m.logOutAll,
			"change password": m.changePassword,
			"delete":          m.delete,
			"refresh":         m.refresh,
			"refresh again":   m.refresh, // often, or families stay short
			"step":            m.step,
			"step again":      m.step,
			"go on":           m.goOn,
			"go on again":     m.goOn,
			"die":             m.die,
			"repeat":          m.repeat,
			"wait":            m.wait,
			"":                m.check,
		})
		m.end(rt)
	}
	for round := 0; round < 5 && !t.Failed() && slices.ContainsFunc(must, unseen); round++ {
		rapid.Check(t, check)
	}
	t.Logf("%v", world.seen)
	for _, what := range must {
		if unseen(what) {
			t.Errorf("never seen: %s", what)
		}
	}
}

// world is what outlives a case.
type world struct {
	store    *RedisStore // for looking: its commands need no turn
	clock    *clock
	replicas []*Server
	seen     map[string]int // how often the model said what
}

// operation is one that is under way at a replica.
type operation struct {
	what  string
	turn  chan error // what becomes of the command that waits for its turn
	waits chan bool  // true: a command waits for its turn; false: it is over
	dead  bool       // its replica died
	err   error      // when over
	over  func(err error)
	again func() // begins it anew, where a client would
}

type operationKey struct{}

// inTurn is a hook that has each command of an operation wait for its turn.
type inTurn struct{}

func (inTurn) DialHook(next redis.DialHook) redis.DialHook { return next }

func (inTurn) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (inTurn) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		op, ok := ctx.Value(operationKey{}).(*operation)
		if !ok || cmd.Name() == "hello" || cmd.Name() == "client" {
			return next(ctx, cmd)
		}
		err := errDied
		if !op.dead {
			op.waits <- true
			err = <-op.turn
		}
		if err == nil {
			return next(ctx, cmd)
		}
		if errors.Is(err, errLost) {
			_ = next(ctx, cmd)
		}
		cmd.SetErr(err)
		return err
	}
}

var errDied = errors.New("the replica died")

// model is one case: a few users, their sessions, and what is under way. One
// goroutine runs at a time, so the same draws lead to the same end.
type model struct {
	*world
	ctx      context.Context
	tick     int           // counts what happens
	waited   time.Duration // on the clock
	waiting  []*operation
	lost     []*operation // whose client got no answer
	users    []*modelUser
	sessions []*modelSession
}

type modelUser struct {
	id, email string
	passwords []string // that it had, and may come to have
	current   int      // the password that the client knows to count
	deleted   bool
	// open are operations under way that may end sessions, unsettled those among
	// the lost that may have changed the password or deleted the account.
	open, unsettled int
	ended           int // tick at which the last such operation was over
}

type modelSession struct {
	user     *modelUser
	id       string
	token    string // of a browser
	access   string // the last access token of another
	expires  time.Time
	refresh  []*modelRefresh
	password int
	began    int      // tick at which its log-in was answered
	dead     string   // why it must be refused
	doubt    bool     // it may have ended
	cached   Position // before a verification that found it live, in the log
	known    bool     // there is one
}

// modelRefresh is a refresh token of a session, by its number less one.
type modelRefresh struct {
	token    string
	showing  int       // how many show it now
	shown    time.Time // first
	answered time.Time // first, with the next one
	lost     bool      // a showing died, which may have made the next one count
}

func newModel(rt *rapid.T, w *world) *model {
	m := &model{world: w, ctx: context.Background()}
	for range 2 {
		u := &modelUser{id: newUserID(), email: newEmail(), passwords: []string{"password no. 0"}}
		if err := w.store.Register(m.ctx, u.id, u.email, cheapPHC(u.passwords[0]), w.clock.now()); err != nil {
			rt.Fatal(err)
		}
		m.users = append(m.users, u)
	}
	// Somebody is logged in already, in a browser and by tokens that were refreshed.
	u, replica := m.users[0], w.replicas[0]
	browser, err := replica.LogIn(m.ctx, &authv1.LogInRequest{Email: u.email, Password: u.passwords[0]})
	if err != nil {
		rt.Fatal(err)
	}
	issued, err := replica.IssueTokens(m.ctx, &authv1.IssueTokensRequest{Email: u.email, Password: u.passwords[0]})
	if err != nil {
		rt.Fatal(err)
	}
	refreshed, err := replica.RefreshTokens(m.ctx, &authv1.RefreshTokensRequest{RefreshToken: issued.GetTokens().GetRefreshToken()})
	if err != nil {
		rt.Fatal(err)
	}
	api := &modelSession{user: u}
	api.take(issued.GetTokens())
	api.take(refreshed.GetTokens())
	api.id, api.refresh[0].shown, api.refresh[0].answered = strings.Split(api.refresh[0].token, ".")[1], w.clock.now(), w.clock.now()
	m.sessions = append(m.sessions, &modelSession{user: u, id: browser.GetSession().GetId(), token: browser.GetSessionToken()}, api)
	return m
}

// cheapPHC is a password's PHC string that takes no time.
func cheapPHC(password string) string {
	salt := make([]byte, hashSalt)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=8,t=1,p=1$%s$%s", argon2.Version, b64(salt), b64(argon2.IDKey([]byte(password), salt, 1, 8, 1, hashKey)))
}

// begin begins an operation on some replica, and runs it up to its first command.
// over gets its error, unless the replica died.
func (m *model) begin(rt *rapid.T, what string, do func(ctx context.Context, s *Server) error, over func(err error)) *operation {
	at := rapid.IntRange(0, len(m.replicas)-1).Draw(rt, "replica")
	m.tick++
	op := &operation{what: fmt.Sprintf("%s, at replica %d", what, at+1), turn: make(chan error), waits: make(chan bool), over: over}
	go func() {
		op.err = do(context.WithValue(m.ctx, operationKey{}, op), m.replicas[at])
		op.waits <- false
	}()
	m.settle(rt, op)
	return op
}

// settle waits until the operation waits for its turn, or is over.
func (m *model) settle(rt *rapid.T, op *operation) {
	m.waiting = slices.DeleteFunc(m.waiting, func(o *operation) bool { return o == op })
	if <-op.waits {
		m.waiting = append(m.waiting, op)
		return
	}
	m.tick++
	if !op.dead && fault.Is(op.err, fault.Unavailable) {
		rt.Fatalf("%s: %v", op.what, op.err)
	}
	op.over(op.err)
	if op.dead {
		m.seen["died"]++
	}
	if op.again != nil {
		m.lost = append(m.lost, op)
	}
}

// room skips an action that would begin one operation too many.
func (m *model) room(rt *rapid.T) {
	if len(m.waiting) >= 4 {
		rt.Skip("enough is under way")
	}
}

func (m *model) some(rt *rapid.T) *operation {
	if len(m.waiting) == 0 {
		rt.Skip("nothing is under way")
	}
	return rapid.SampledFrom(m.waiting).Draw(rt, "operation")
}

// step lets one command reach Redis.
func (m *model) step(rt *rapid.T) {
	op := m.some(rt)
	op.turn <- nil
	m.settle(rt, op)
}

// goOn lets an operation come to its end.
func (m *model) goOn(rt *rapid.T) { m.finish(rt, m.some(rt)) }

func (m *model) finish(rt *rapid.T, op *operation) {
	for slices.Contains(m.waiting, op) {
		op.turn <- nil
		m.settle(rt, op)
	}
}

// die has a replica die before or after its command reaches Redis.
func (m *model) die(rt *rapid.T) {
	if rapid.IntRange(0, 3).Draw(rt, "seldom") > 0 {
		rt.Skip("not now")
	}
	op := m.some(rt)
	op.dead = true
	op.turn <- rapid.SampledFrom([]error{errDied, errLost}).Draw(rt, "how")
	m.settle(rt, op)
}

// repeat begins what was lost anew.
func (m *model) repeat(rt *rapid.T) {
	m.room(rt)
	if len(m.lost) == 0 {
		rt.Skip("nothing was lost")
	}
	at := rapid.IntRange(0, len(m.lost)-1).Draw(rt, "lost")
	op := m.lost[at]
	m.lost = slices.Delete(m.lost, at, at+1)
	m.seen["repeated"]++
	op.again()
}

func (m *model) wait(rt *rapid.T) {
	d := rapid.SampledFrom([]time.Duration{time.Second, 6 * time.Second, refreshGrace + time.Second, MarkInterval}).Draw(rt, "for")
	if m.waited += d; m.waited >= testSettings().SessionIdle {
		rt.Skip("sessions would end by themselves")
	}
	m.clock.advance(d)
}

func (m *model) user(rt *rapid.T) *modelUser {
	return rapid.SampledFrom(m.users).Draw(rt, "user")
}

func (m *model) session(rt *rapid.T, which func(*modelSession) bool) *modelSession {
	var some []*modelSession
	for _, s := range m.sessions {
		if which(s) {
			some = append(some, s)
		}
	}
	if len(some) == 0 {
		rt.Skip("no session")
	}
	return rapid.SampledFrom(some).Draw(rt, "session")
}

// refused fails the case unless it is a refusal.
func refused(rt *rapid.T, op string, err error, codes ...string) {
	if code := fault.From(err).Code; !slices.Contains(codes, code) {
		rt.Fatalf("%s: %v", op, err)
	}
}

func (m *model) logIn(rt *rapid.T) {
	m.room(rt)
	u := m.user(rt)
	password := u.current
	if rapid.IntRange(0, 5).Draw(rt, "old password") == 0 {
		password = rapid.IntRange(0, u.current).Draw(rt, "password")
	}
	s := &modelSession{user: u, password: password}
	api := rapid.Bool().Draw(rt, "tokens")
	var op *operation
	began, deleted, current := m.tick, u.deleted, u.current
	op = m.begin(rt, "log in", func(ctx context.Context, replica *Server) error {
		if api {
			resp, err := replica.IssueTokens(ctx, &authv1.IssueTokensRequest{Email: u.email, Password: u.passwords[password]})
			if err == nil {
				s.take(resp.GetTokens())
				s.id = strings.Split(s.refresh[0].token, ".")[1]
			}
			return err
		}
		resp, err := replica.LogIn(ctx, &authv1.LogInRequest{Email: u.email, Password: u.passwords[password]})
		s.id, s.token = resp.GetSession().GetId(), resp.GetSessionToken()
		return err
	}, func(err error) {
		disturbed := u.open > 0 || u.ended > began
		switch {
		case op != nil && op.dead:
		case err != nil:
			refused(rt, "log in", err, "wrong_credentials")
			if password == current && !deleted && !disturbed && u.unsettled == 0 {
				rt.Fatalf("the password is right, and refused")
			}
		case deleted:
			rt.Fatalf("logged in to an account that was deleted")
		case password != current:
			rt.Fatalf("logged in with an old password")
		default:
			s.began = m.tick
			m.sessions = append(m.sessions, s)
			if disturbed {
				m.seen["log-in during the end of sessions"]++
				s.doubt = true
			}
			if u.deleted {
				m.kill(rt, s, "account deleted")
			} else if password != u.current {
				m.kill(rt, s, "password changed")
			}
		}
	})
}

// take adds the tokens that follow.
func (s *modelSession) take(next *authv1.Tokens) {
	s.refresh = append(s.refresh, &modelRefresh{token: next.GetRefreshToken()})
	s.access, s.expires = next.GetAccessToken(), next.GetAccessExpiresAt().AsTime()
}

// show shows the session's cookie or access token to a replica.
func (s *modelSession) show(ctx context.Context, replica *Server) error {
	if s.token != "" {
		_, err := replica.VerifySession(ctx, &authv1.VerifySessionRequest{SessionToken: s.token})
		return err
	}
	_, err := replica.VerifyAccessToken(ctx, &authv1.VerifyAccessTokenRequest{AccessToken: s.access})
	return err
}

func (m *model) verify(rt *rapid.T) {
	m.room(rt)
	now := m.clock.now()
	which := func(s *modelSession) bool { return s.token != "" || now.Before(s.expires) }
	// Often one that is about to end: a gateway that remembers it then must hear of it.
	ending := func(s *modelSession) bool { return which(s) && s.doubt && s.dead == "" }
	choice := which
	if rapid.Bool().Draw(rt, "ending") && slices.ContainsFunc(m.sessions, ending) {
		choice = ending
	}
	s := m.session(rt, choice)
	dead := s.dead
	at, err := m.store.LastRevocation(m.ctx)
	if err != nil {
		rt.Fatal(err)
	}
	var op *operation
	op = m.begin(rt, "verify", func(ctx context.Context, replica *Server) error {
		return s.show(ctx, replica)
	}, func(err error) {
		switch {
		case op != nil && op.dead:
		case err != nil:
			refused(rt, "verify", err, "invalid_session", "invalid_token")
			if s.dead == "" && !s.doubt {
				rt.Fatal("a session that nobody has ended is refused")
			}
			// To whoever shows it that is its end, and nobody repeats what ended it.
			m.kill(rt, s, "refused")
		case dead != "":
			rt.Fatalf("accepted: %s", dead)
		default:
			if !s.known || s.cached.Compare(at) < 0 {
				s.cached, s.known = at, true
			}
			m.heard(rt, s)
		}
	})
	if rapid.Bool().Draw(rt, "at once") {
		m.finish(rt, op)
	}
}

// kill says that the session must be dead.
func (m *model) kill(rt *rapid.T, s *modelSession, why string) {
	if s.dead == "" {
		s.dead = why
		m.seen["dead: "+why]++
	}
	m.heard(rt, s)
}

// heard: a gateway that remembers a session that is dead has heard so.
func (m *model) heard(rt *rapid.T, s *modelSession) {
	if s.dead == "" || !s.known {
		return
	}
	found, err := m.store.ReadRevocations(m.ctx, s.cached, time.Millisecond)
	if err != nil {
		rt.Fatal(err)
	}
	if !slices.ContainsFunc(found, func(r Revocation) bool { return r.UserID == s.user.id }) {
		rt.Fatalf("a gateway that remembers the session goes on: %s", s.dead)
	}
	m.seen["heard of"]++
	if s.token == "" {
		m.seen["heard of, with tokens"]++
	}
}

// ends begins what ends sessions of a user, all that which names. ended is called
// when it has said so; a refusal must be one of codes.
func (m *model) ends(rt *rapid.T, what string, u *modelUser, account bool, which func(*modelSession) bool, do func(ctx context.Context, s *Server) error, why string, ended func(), codes ...string) {
	repeated := false
	var start func()
	start = func() {
		for _, s := range m.sessions {
			s.doubt = s.doubt || s.user == u && which(s)
		}
		u.open++
		again := repeated
		repeated = true
		began := m.tick
		var op *operation
		over := func(err error) {
			u.open--
			u.ended = m.tick
			if op != nil && op.dead {
				op.again = start
				if account && !again {
					u.unsettled++
				}
				return
			}
			if account && again {
				u.unsettled--
			}
			if err != nil {
				refused(rt, what, err, codes...)
				return
			}
			ended()
			for _, s := range m.sessions {
				if s.user == u && s.began <= began && which(s) {
					m.kill(rt, s, why)
				}
			}
		}
		op = m.begin(rt, what, do, over)
	}
	start()
}

func (m *model) logOut(rt *rapid.T) {
	m.room(rt)
	s := m.session(rt, func(s *modelSession) bool { return true })
	m.ends(rt, "log out", s.user, false, func(x *modelSession) bool { return x == s }, func(ctx context.Context, replica *Server) error {
		_, err := replica.RevokeSession(ctx, &authv1.RevokeSessionRequest{UserId: s.user.id, SessionId: s.id})
		return err
	}, "logged out", func() {})
}

func (m *model) logOutAll(rt *rapid.T) {
	m.room(rt)
	u, except := m.user(rt), ""
	if rapid.Bool().Draw(rt, "but one") {
		s := m.session(rt, func(s *modelSession) bool { return true })
		u, except = s.user, s.id
	}
	m.ends(rt, "log out all", u, false, func(s *modelSession) bool { return s.id != except }, func(ctx context.Context, replica *Server) error {
		_, err := replica.RevokeAllSessions(ctx, &authv1.RevokeAllSessionsRequest{UserId: u.id, ExceptSessionId: except})
		return err
	}, "all logged out", func() {})
}

func (m *model) changePassword(rt *rapid.T) {
	m.room(rt)
	if rapid.IntRange(0, 2).Draw(rt, "dear") > 0 {
		rt.Skip("it hashes twice")
	}
	u := m.user(rt)
	from, to, operation := u.current, len(u.passwords), draw(idBytes)
	u.passwords = append(u.passwords, fmt.Sprintf("password no. %d", to))
	// What was logged in with another password has ended, also while this went on.
	m.ends(rt, "change password", u, true, func(s *modelSession) bool { return s.password != to }, func(ctx context.Context, replica *Server) error {
		_, err := replica.ChangePassword(ctx, &authv1.ChangePasswordRequest{
			UserId: u.id, OperationId: operation, CurrentPassword: u.passwords[from], NewPassword: u.passwords[to],
		})
		return err
	}, "password changed", func() {
		if u.current != from && u.current != to {
			rt.Fatal("two changes of one password were made")
		}
		u.current = to
		for _, s := range m.sessions {
			if s.user == u && s.password != to {
				m.kill(rt, s, "password changed")
			}
		}
	}, "wrong_password", "no_such_user")
}

func (m *model) delete(rt *rapid.T) {
	m.room(rt)
	if rapid.IntRange(0, 3).Draw(rt, "final") > 0 {
		rt.Skip("not yet")
	}
	u := m.user(rt)
	m.ends(rt, "delete", u, true, func(s *modelSession) bool { return true }, func(ctx context.Context, replica *Server) error {
		_, err := replica.DeleteUser(ctx, &authv1.DeleteUserRequest{UserId: u.id})
		return err
	}, "account deleted", func() {
		u.deleted = true
		for _, s := range m.sessions {
			if s.user == u {
				m.kill(rt, s, "account deleted")
			}
		}
	})
}

// refresh shows one of a session's refresh tokens, the last, the one before, or
// another.
func (m *model) refresh(rt *rapid.T) {
	m.room(rt)
	s := m.session(rt, func(s *modelSession) bool { return s.token == "" })
	n := max(0, len(s.refresh)-1-rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2, 3}).Draw(rt, "older by"))
	shown, now, dead := s.refresh[n], m.clock.now(), s.dead
	last := len(s.refresh) - 1
	// Whoever shows a token that is used up, or that another has used long ago,
	// ends the session, and so may one of several who show them at once.
	late := func(at time.Time) bool { return !at.IsZero() && now.Sub(at) > refreshGrace }
	usedUp := n < last-1 || n == last-1 && late(shown.answered)
	hazard := usedUp || late(shown.shown)
	for i, r := range s.refresh {
		hazard = hazard || r.showing > 0 && i != n || r.lost && i > n
	}
	s.doubt = s.doubt || hazard
	if shown.showing > 0 {
		m.seen["the same refresh token twice at once"]++
	}
	if shown.shown.IsZero() {
		shown.shown = now
	}
	shown.showing++
	var next *authv1.Tokens
	var op *operation
	op = m.begin(rt, fmt.Sprintf("refresh %d of %d", n+1, last+1), func(ctx context.Context, replica *Server) error {
		resp, err := replica.RefreshTokens(ctx, &authv1.RefreshTokensRequest{RefreshToken: shown.token})
		next = resp.GetTokens()
		return err
	}, func(err error) {
		shown.showing--
		switch {
		case op != nil && op.dead:
			shown.lost = true
		case err != nil:
			refused(rt, "refresh", err, "invalid_grant")
			if s.dead == "" && !s.doubt {
				rt.Fatal("a refresh token that is good is refused")
			}
			if usedUp {
				m.kill(rt, s, "refresh token shown twice")
			}
			m.kill(rt, s, "refused")
		case dead != "":
			rt.Fatalf("refreshed: %s", dead)
		case usedUp:
			rt.Fatal("a refresh token that was used up is good")
		case n == len(s.refresh)-1:
			shown.answered = m.clock.now()
			s.take(next)
		case s.refresh[n+1].token != next.GetRefreshToken():
			rt.Fatal("two refresh tokens follow one")
		}
	})
}

// check holds what Redis has against the model.
func (m *model) check(rt *rapid.T) {
	for _, u := range m.users {
		live, err := m.store.Sessions(m.ctx, u.id, m.clock.now(), testSettings().SessionIdle)
		if err != nil {
			rt.Fatal(err)
		}
		for _, s := range m.sessions {
			if s.user != u {
				continue
			}
			there := slices.ContainsFunc(live, func(r Session) bool { return r.ID == s.id })
			switch {
			case there && s.dead != "":
				rt.Fatalf("a session lives: %s", s.dead)
			case !there && s.dead == "" && !s.doubt:
				rt.Fatal("a session that nobody has ended is gone")
			case there:
				m.seen["live"]++
			}
		}
	}
}

// end lets all that is under way come to its end, and shows every session once
// more to every replica.
func (m *model) end(rt *rapid.T) {
	for len(m.waiting) > 0 {
		m.waiting[0].turn <- nil
		m.settle(rt, m.waiting[0])
		m.check(rt)
	}
	for _, s := range m.sessions {
		for i, replica := range m.replicas {
			var err error
			if s.token != "" || m.clock.now().Before(s.expires) {
				err = s.show(m.ctx, replica)
			} else if s.dead != "" {
				_, err = replica.RefreshTokens(m.ctx, &authv1.RefreshTokensRequest{RefreshToken: s.refresh[len(s.refresh)-1].token})
			}
			if err == nil && s.dead != "" {
				rt.Fatalf("replica %d accepts a session: %s", i+1, s.dead)
			}
			if err != nil && s.dead == "" && !s.doubt {
				rt.Fatalf("replica %d: %v", i+1, err)
			}
		}
	}
	m.check(rt)
}

// abandon leaves nothing under way, however the case ended.
func (m *model) abandon() {
	for _, op := range m.waiting {
		op.dead = true
		op.turn <- errDied
		<-op.waits
	}
}
