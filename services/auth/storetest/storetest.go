// Package storetest is the contract of auth.Store, as tests of the service on a
// store: call Run from the store's own test.
//
// What only a store in several steps can get wrong (a crash between two of them,
// the order of commands) its own tests must show.
package storetest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coatcheck/auth"
	"coatcheck/chassis/config"
	"coatcheck/chassis/fault"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

const (
	idle     = 30 * time.Minute
	life     = 12 * time.Hour
	password = "correct horse battery"
)

// world is one test's service: two replicas on one clock.
type world struct {
	*testing.T
	one, two *auth.Server
	store    auth.Store // one's
	other    auth.Store // two's
	nanos    atomic.Int64
}

func (w *world) now() time.Time          { return time.Unix(0, w.nanos.Load()) }
func (w *world) advance(d time.Duration) { w.nanos.Add(int64(d)) }

// Run runs the contract. open returns a client of its own on the one store
// under test.
func Run(t *testing.T, open func(t *testing.T) auth.Store) {
	for name, test := range map[string]func(w *world){
		"registration":      registration,
		"log in":            logIn,
		"limits":            limits,
		"bounded":           bounded,
		"log out":           logOut,
		"password change":   passwordChange,
		"deletion":          deletion,
		"registrations":     registrations,
		"outdated":          outdated,
		"changes race":      changesRace,
		"log-in races":      logInRaces,
		"log-out and uses":  logOutAndUses,
		"revocations":       revocations,
		"families":          families,
		"tries":             tries,
		"tries at accounts": triesAtAccounts,
		"tries race":        triesRace,
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, store: open(t)}
			w.nanos.Store(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano())
			w.other = open(t)
			w.one, w.two = service(t, w.store, w.now), service(t, w.other, w.now)
			test(w)
		})
	}
}

// Strangers holds two stores that know nothing of each other against the
// contract: the session of one is none at the other.
func Strangers(t *testing.T, a, b auth.Store) {
	w := &world{T: t, one: service(t, a, time.Now), two: service(t, b, time.Now), store: a}
	_, email := w.enrol()
	made := w.logIn(w.one, email, password)
	w.ok(w.verify(w.one, made.GetSessionToken()))
	w.want(w.verify(w.two, made.GetSessionToken()), fault.Unauthenticated, "invalid_session")
}

func service(t *testing.T, store auth.Store, now func() time.Time) *auth.Server {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := auth.New(auth.Settings{
		SigningKeys: config.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		Issuer:      "coatcheck", Lives: auth.Lives{GuestTicketLife: 720 * time.Hour, SessionIdle: idle, SessionLife: life}, MaxPasswordHashes: 4,
	}, store, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// want fails the test unless err is a fault of the kind with the code.
func (w *world) want(err error, kind fault.Kind, code string) {
	w.Helper()
	if err == nil {
		w.Fatalf("got no error, want %s", code)
	}
	if f := fault.From(err); f.Kind != kind || f.Code != code {
		w.Fatalf("got kind %d code %q (%v), want kind %d code %q", f.Kind, f.Code, err, kind, code)
	}
}

func newUserID() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw)
	return "u_" + base64.RawURLEncoding.EncodeToString(raw)
}

func newEmail() string { return strings.ToLower(rand.Text()) + "@example.com" }

func (w *world) register(s *auth.Server, id, email string) error {
	_, err := s.Register(w.Context(), &authv1.RegisterRequest{UserId: id, Email: email, Password: password})
	return err
}

// enrol registers a user with the one password.
func (w *world) enrol() (id, email string) {
	w.Helper()
	id, email = newUserID(), newEmail()
	w.ok(w.register(w.one, id, email))
	return id, email
}

func (w *world) tryLogIn(s *auth.Server, email, password string) (*authv1.LogInResponse, error) {
	return s.LogIn(w.Context(), &authv1.LogInRequest{Email: email, Password: password, Device: "curl/8"})
}

func (w *world) logIn(s *auth.Server, email, password string) *authv1.LogInResponse {
	w.Helper()
	resp, err := w.tryLogIn(s, email, password)
	w.ok(err)
	return resp
}

func (w *world) verify(s *auth.Server, token string) error {
	_, err := s.VerifySession(context.WithoutCancel(w.Context()), &authv1.VerifySessionRequest{SessionToken: token})
	return err
}

func (w *world) change(s *auth.Server, id, operation, current, next string) error {
	_, err := s.ChangePassword(w.Context(), &authv1.ChangePasswordRequest{UserId: id, OperationId: operation, CurrentPassword: current, NewPassword: next})
	return err
}

func (w *world) remove(s *auth.Server, id string) error {
	_, err := s.DeleteUser(w.Context(), &authv1.DeleteUserRequest{UserId: id})
	return err
}

func (w *world) list(s *auth.Server, id string) []*authv1.Session {
	w.Helper()
	resp, err := s.ListSessions(w.Context(), &authv1.ListSessionsRequest{UserId: id})
	w.ok(err)
	return resp.GetSessions()
}

func registration(w *world) {
	id, email := w.enrol()
	w.ok(w.register(w.two, id, email))
	w.ok(w.register(w.two, id, strings.ToUpper(email)))
	w.want(w.register(w.two, newUserID(), email), fault.Conflict, "email_taken")
	w.want(w.register(w.two, newUserID(), strings.ToUpper(email)), fault.Conflict, "email_taken")
	w.want(w.register(w.two, id, newEmail()), fault.Invalid, "invalid_user_id")
	if made := w.logIn(w.two, email, password); made.GetUserId() != id {
		w.Fatalf("logged in as %s, want %s", made.GetUserId(), id)
	}
}

func logIn(w *world) {
	id, email := w.enrol()
	_, err := w.tryLogIn(w.two, email, "another password")
	w.want(err, fault.Unauthenticated, "wrong_credentials")
	_, err = w.tryLogIn(w.two, newEmail(), password)
	w.want(err, fault.Unauthenticated, "wrong_credentials")

	first := w.logIn(w.two, strings.ToUpper(email), password)
	w.advance(2 * time.Second)
	second := w.logIn(w.one, email, password)
	if s := first.GetSession(); first.GetUserId() != id || s.GetDevice() != "curl/8" || s.GetExpiresAt().AsTime().Sub(s.GetCreatedAt().AsTime()) != life {
		w.Fatalf("log-in answered %v", first)
	}
	w.advance(5 * time.Minute)
	seen, err := w.one.VerifySession(w.Context(), &authv1.VerifySessionRequest{SessionToken: first.GetSessionToken()})
	w.ok(err)
	if seen.GetUserId() != id || seen.GetSessionId() != first.GetSession().GetId() || !seen.GetExpiresAt().AsTime().Equal(first.GetSession().GetExpiresAt().AsTime()) {
		w.Fatalf("verified as %v", seen)
	}
	listed := w.list(w.two, id)
	if len(listed) != 2 || listed[0].GetId() != second.GetSession().GetId() || listed[1].GetId() != first.GetSession().GetId() {
		w.Fatalf("listed %v, want newest first", listed)
	}
	if used := listed[1].GetLastUsedAt().AsTime(); !used.Equal(w.now()) {
		w.Fatalf("last used %v, want %v", used, w.now())
	}
	foreign := newUserID()
	w.want(w.verify(w.one, foreign[2:]+first.GetSessionToken()[22:]), fault.Unauthenticated, "invalid_session")
	if listed := w.list(w.one, foreign); len(listed) != 0 {
		w.Fatalf("a stranger has sessions: %v", listed)
	}
}

func limits(w *world) {
	id, email := w.enrol()
	token := w.logIn(w.one, email, password).GetSessionToken()
	for range 2 {
		w.advance(idle - time.Millisecond)
		w.ok(w.verify(w.two, token))
	}
	w.advance(idle)
	w.want(w.verify(w.two, token), fault.Unauthenticated, "invalid_session")

	token = w.logIn(w.one, email, password).GetSessionToken()
	for range 35 {
		w.advance(20 * time.Minute)
		w.ok(w.verify(w.two, token))
	}
	w.advance(20*time.Minute - time.Millisecond)
	w.ok(w.verify(w.one, token))
	w.advance(time.Millisecond)
	w.want(w.verify(w.one, token), fault.Unauthenticated, "invalid_session")
	if listed := w.list(w.one, id); len(listed) != 0 {
		w.Fatalf("sessions that are over are listed: %v", listed)
	}

	// A use is marked once an interval.
	token = w.logIn(w.one, email, password).GetSessionToken()
	start := w.now()
	w.advance(auth.MarkInterval - time.Millisecond)
	w.ok(w.verify(w.two, token))
	if used := w.list(w.one, id)[0].GetLastUsedAt().AsTime(); !used.Equal(start) {
		w.Fatalf("marked at %v, within the interval", used)
	}
	w.advance(time.Millisecond)
	w.ok(w.verify(w.two, token))
	if used := w.list(w.one, id)[0].GetLastUsedAt().AsTime(); !used.Equal(w.now()) {
		w.Fatalf("marked at %v, want %v", used, w.now())
	}
}

func bounded(w *world) {
	id := newUserID()
	w.ok(w.store.Register(w.Context(), id, newEmail(), "phc", w.now()))
	u, err := w.store.User(w.Context(), id)
	w.ok(err)
	start := func(name string) {
		at := w.now().UnixMilli()
		started, err := w.store.StartSession(w.Context(), u, auth.Session{ID: name, Created: at, Used: at, Expires: at + life.Milliseconds(), Device: "a b\n"}, idle)
		if !started {
			w.Fatal("not started", err)
		}
		w.advance(time.Millisecond)
	}
	for i := range auth.MaxSessions {
		start(fmt.Sprint(i))
	}
	w.advance(auth.MarkInterval)
	if ends, err := w.store.UseSession(w.Context(), id, "0", w.now(), idle); ends.IsZero() {
		w.Fatal("the first session is gone", err)
	}
	start("one more")
	live, err := w.store.Sessions(w.Context(), id, w.now(), idle)
	w.ok(err)
	names := map[string]bool{}
	for _, r := range live {
		names[r.ID] = r.Device == "a b\n"
	}
	if len(live) != auth.MaxSessions || !names["0"] || names["1"] || !names["2"] || live[0].ID != "one more" {
		w.Fatalf("%d sessions, want %d without the one unused the longest", len(live), auth.MaxSessions)
	}
	if started, err := w.store.StartSession(w.Context(), auth.User{ID: newUserID(), Generation: "1"}, auth.Session{ID: "x"}, idle); started || err != nil {
		w.Fatal("a session of nobody", err)
	}
}

func logOut(w *world) {
	id, email := w.enrol()
	first, second := w.logIn(w.one, email, password), w.logIn(w.two, email, password)
	end := func(user, session string) {
		w.Helper()
		_, err := w.two.RevokeSession(w.Context(), &authv1.RevokeSessionRequest{UserId: user, SessionId: session})
		w.ok(err)
	}
	end(newUserID(), first.GetSession().GetId())
	end(id, "")
	w.ok(w.verify(w.one, first.GetSessionToken()))
	end(id, first.GetSession().GetId())
	w.want(w.verify(w.one, first.GetSessionToken()), fault.Unauthenticated, "invalid_session")
	w.ok(w.verify(w.one, second.GetSessionToken()))
	third := w.logIn(w.one, email, password)
	_, err := w.two.RevokeAllSessions(w.Context(), &authv1.RevokeAllSessionsRequest{UserId: id, ExceptSessionId: second.GetSession().GetId()})
	w.ok(err)
	w.want(w.verify(w.one, third.GetSessionToken()), fault.Unauthenticated, "invalid_session")
	w.ok(w.verify(w.one, second.GetSessionToken()))
	for _, user := range []string{newUserID(), id} {
		_, err := w.one.RevokeAllSessions(w.Context(), &authv1.RevokeAllSessionsRequest{UserId: user})
		w.ok(err)
	}
	w.want(w.verify(w.two, second.GetSessionToken()), fault.Unauthenticated, "invalid_session")
}

func passwordChange(w *world) {
	id, email := w.enrol()
	token := w.logIn(w.one, email, password).GetSessionToken()
	w.want(w.change(w.two, newUserID(), "op", password, "new password"), fault.Absent, "no_such_user")
	w.want(w.change(w.two, id, "op", "wrong password", "new password"), fault.Forbidden, "wrong_password")
	w.ok(w.verify(w.one, token))
	w.ok(w.change(w.two, id, "op", password, "new password"))
	w.want(w.verify(w.one, token), fault.Unauthenticated, "invalid_session")
	w.ok(w.change(w.one, id, "op", password, "new password")) // a repeat of the same
	w.want(w.change(w.one, id, "op2", password, "new password"), fault.Forbidden, "wrong_password")
	_, err := w.tryLogIn(w.one, email, password)
	w.want(err, fault.Unauthenticated, "wrong_credentials")
	w.logIn(w.one, email, "new password")
}

// outdated: what was read of a user before a change of the password opens nothing
// after it, and the same change is made once.
func outdated(w *world) {
	ctx, id := w.Context(), newUserID()
	w.ok(w.store.Register(ctx, id, newEmail(), "phc", w.now()))
	before, err := w.store.User(ctx, id)
	w.ok(err)
	change := func(u auth.User, phc, operation string, want auth.Changed) {
		w.Helper()
		got, err := w.store.ChangePassword(ctx, u, phc, operation)
		if err != nil || got != want {
			w.Fatalf("the change was answered %d, %v, want %d", got, err, want)
		}
	}
	change(before, "phc 2", "op", auth.Done)
	change(before, "phc 2", "op", auth.Done)
	change(before, "phc 3", "other op", auth.Outdated)
	change(auth.User{ID: newUserID(), Generation: "1"}, "phc", "op", auth.NoUser)
	after, err := w.store.User(ctx, id)
	w.ok(err)
	if after.Password != "phc 2" || after.Operation != "op" || after.Generation == before.Generation {
		w.Fatalf("after the change there is %+v, before %+v", after, before)
	}
	at := w.now().UnixMilli()
	r := auth.Session{ID: "late", Created: at, Used: at, Expires: at + life.Milliseconds()}
	if started, err := w.store.StartSession(ctx, before, r, idle); started || err != nil {
		w.Fatal("a session was started with the old password", err)
	}
	if started, err := w.store.StartSession(ctx, after, r, idle); !started {
		w.Fatal("no session was started with the new password", err)
	}
}

func deletion(w *world) {
	id, email := w.enrol()
	token := w.logIn(w.one, email, password).GetSessionToken()
	w.ok(w.remove(w.two, newUserID()))
	w.ok(w.verify(w.one, token))
	for range 2 {
		w.ok(w.remove(w.two, id))
	}
	w.want(w.verify(w.one, token), fault.Unauthenticated, "invalid_session")
	_, err := w.tryLogIn(w.one, email, password)
	w.want(err, fault.Unauthenticated, "wrong_credentials")
	w.want(w.change(w.one, id, "op", password, "new password"), fault.Absent, "no_such_user")
	w.want(w.register(w.one, id, email), fault.Conflict, "email_taken") // a late repeat
	next := newUserID()
	w.ok(w.register(w.one, next, email))
	w.ok(w.remove(w.one, id))
	if made := w.logIn(w.two, email, password); made.GetUserId() != next {
		w.Fatalf("logged in as %s, want %s", made.GetUserId(), next)
	}
}

// families: of the refresh tokens of a session one counts; see Store.Rotate.
func families(w *world) {
	const grace = 10 * time.Second
	ctx := w.Context()
	id, email := w.enrol()
	rotate := func(what, session string, n, want int64) {
		w.Helper()
		f, err := w.store.Rotate(ctx, id, session, n, w.now(), idle, grace)
		w.ok(err)
		if f.N != want || (want != 0) != f.Ends.After(w.now()) || f.Reused != (what == "the third, late") {
			w.Errorf("%s: %+v, want %d", what, f, want)
		}
	}
	session := w.logIn(w.one, email, password).GetSession().GetId()
	rotate("no family", session, 1, 0)
	w.ok(w.store.StartFamily(ctx, id, "nobody's", w.now()))
	rotate("no session", "nobody's", 1, 0)
	w.ok(w.store.StartFamily(ctx, id, session, w.now()))
	rotate("the first", session, 1, 2)
	since := w.now()
	w.advance(grace)
	rotate("the first, soon", session, 1, 2)
	if f, err := w.store.Rotate(ctx, id, session, 1, w.now(), idle, grace); err != nil || !f.At.Equal(since) {
		w.Errorf("a retry counts from %v, want %v, %v", f.At, since, err)
	}
	rotate("the second", session, 2, 3)
	w.advance(idle - time.Millisecond)
	rotate("the third, before the session is idle", session, 3, 4)
	w.advance(grace + time.Millisecond)
	rotate("the third, late", session, 3, 0)
	rotate("the fourth, of a session that was ended", session, 4, 0)
	if listed := w.list(w.two, id); len(listed) != 0 {
		w.Errorf("the session lives on: %v", listed)
	}
	session = w.logIn(w.one, email, password).GetSession().GetId()
	w.ok(w.store.StartFamily(ctx, id, session, w.now()))
	w.advance(idle)
	rotate("idle for too long", session, 1, 0)
}

// take wants a try to be taken, or refused for about as long as refused.
func (w *world) take(what string, wait time.Duration, err error, refused time.Duration) {
	w.Helper()
	w.ok(err)
	if refused == 0 && wait != 0 || wait > refused || wait < refused-refused/4 {
		w.Errorf("%s: to wait %v, want about %v", what, wait, refused)
	}
}

// tries: so many at once, for all replicas together, then one each time that long;
// what is refused costs nothing.
func tries(w *world) {
	ctx, bucket := w.Context(), newEmail()
	l := auth.Limit{AtOnce: 3, Each: time.Minute}
	stores := []auth.Store{w.store, w.other}
	for i := range 3 {
		wait, err := stores[i%2].Take(ctx, bucket, l)
		w.take("within the limit", wait, err, 0)
	}
	for i := range 4 {
		wait, err := stores[i%2].Take(ctx, bucket, l)
		w.take("beyond it", wait, err, time.Minute)
	}
	wait, err := w.store.Take(ctx, newEmail(), l)
	w.take("of another bucket", wait, err, 0)

	bucket, l = newEmail(), auth.Limit{AtOnce: 2, Each: 100 * time.Millisecond}
	began, taken := time.Now(), 0
	for time.Since(began) < time.Second {
		wait, err := stores[taken%2].Take(ctx, bucket, l)
		w.ok(err)
		if wait == 0 {
			taken++
		} else if wait > l.Each {
			w.Fatalf("to wait %v, of %v", wait, l.Each)
		}
		time.Sleep(time.Millisecond)
	}
	// Not by when they were asked for but by how long it took, which a busy machine makes longer.
	if most := 2 + int(time.Since(began)/l.Each) + 1; taken > most || taken < 8 {
		w.Errorf("%d tries were taken in %v, of 2 and one each %v", taken, time.Since(began), l.Each)
	}
}

// triesAtAccounts: strangers cannot keep a user out, nor guess for long.
func triesAtAccounts(w *world) {
	ctx, account := w.Context(), newEmail()
	l := auth.Limit{AtOnce: 3, Each: time.Minute}
	stores := []auth.Store{w.store, w.other}
	n := 0
	take := func(what, address string, refused time.Duration) {
		w.Helper()
		n++
		wait, err := stores[n%2].TakeLogIn(ctx, account, address, l)
		w.take(what, wait, err, refused)
	}
	take("at home", "home", 0)
	w.ok(w.store.Prove(ctx, account, "home"))
	for range 3 {
		take("a stranger", "a", 0)
	}
	take("a stranger beyond the limit of one", "a", time.Minute)
	for i := range auth.Strangers.AtOnce - 4 {
		take("more strangers", fmt.Sprint("b", i), 0)
	}
	for i := range 50 {
		take("the first try of one more", fmt.Sprint("c", i), 0)
		take("the second try of one more", fmt.Sprint("c", i), auth.Strangers.Each)
	}
	take("a stranger of before", "b0", auth.Strangers.Each)
	take("at home, meanwhile", "home", 0)
	take("at home, again", "home", 0)
	take("at home, beyond the limit of one", "home", time.Minute)
	take("the user, elsewhere", "hotel", 0)
	w.ok(w.other.Prove(ctx, account, "hotel"))
	take("the user, there again", "hotel", 0)
	wait, err := w.store.TakeLogIn(ctx, newEmail(), "a", l)
	w.take("a stranger, at another account", wait, err, 0)
}

// triesRace: of many tries at the same moment, on two replicas, no more are taken
// than of those in a row.
func triesRace(w *world) {
	l := auth.Limit{AtOnce: 5, Each: time.Hour}
	bucket, account := newEmail(), newEmail()
	var buckets, accounts atomic.Int64
	var each []func() error
	for i := range 20 {
		each = append(each, func() error {
			store := []auth.Store{w.store, w.other}[i%2]
			wait, err := store.Take(w.Context(), bucket, l)
			if err == nil && wait == 0 {
				buckets.Add(1)
			}
			if err == nil {
				wait, err = store.TakeLogIn(w.Context(), account, "a", l)
			}
			if err == nil && wait == 0 {
				accounts.Add(1)
			}
			return err
		})
	}
	for _, err := range race(each...) {
		w.ok(err)
	}
	if buckets.Load() != 5 || accounts.Load() != 5 {
		w.Errorf("%d and %d tries were taken at once, want 5 and 5", buckets.Load(), accounts.Load())
	}
}

// revocations: whatever ends sessions is in the log when it answers, in order,
// for every replica, and once: what is repeated, or ends nothing, adds nothing.
func revocations(w *world) {
	ctx := w.Context()
	id, email := w.enrol()
	after, err := w.store.LastRevocation(ctx)
	w.ok(err)
	if after.Log == "" {
		w.Error("the log has no name")
	}
	heard := func(what string, want ...string) {
		w.Helper()
		found, err := w.store.ReadRevocations(ctx, after, 10*time.Millisecond)
		w.ok(err)
		var users []string
		for _, r := range found {
			if r.At.Compare(after) <= 0 {
				w.Errorf("%s: %v is not behind %v", what, r.At, after)
			}
			users, after = append(users, r.UserID), r.At
		}
		if !slices.Equal(users, want) {
			w.Errorf("%s: the log says %v, want %v", what, users, want)
		}
		if last, err := w.store.LastRevocation(ctx); err != nil || last != after {
			w.Errorf("%s: the last is %v, %v, want %v", what, last, err, after)
		}
	}
	made := w.logIn(w.one, email, password)
	session := made.GetSession().GetId()
	w.want(w.change(w.one, id, "op", "wrong password", "new password"), fault.Forbidden, "wrong_password")
	heard("log-in and what is refused")
	for range 2 {
		_, err := w.two.RevokeSession(ctx, &authv1.RevokeSessionRequest{UserId: id, SessionId: session})
		w.ok(err)
	}
	heard("log-out, twice", id)
	for range 2 {
		_, err := w.store.Rotate(ctx, id, session, 1, w.now(), idle, time.Second)
		w.ok(err)
	}
	w.want(w.verify(w.one, made.GetSessionToken()), fault.Unauthenticated, "invalid_session")
	heard("a refresh token and the cookie of a session that is over")
	_, err = w.two.RevokeSession(ctx, &authv1.RevokeSessionRequest{UserId: id, SessionId: "nobody's"})
	w.ok(err)
	_, err = w.two.RevokeAllSessions(ctx, &authv1.RevokeAllSessionsRequest{UserId: newUserID()})
	w.ok(err)
	heard("the end of nothing")

	w.logIn(w.one, email, password)
	for range 2 {
		_, err := w.two.RevokeAllSessions(ctx, &authv1.RevokeAllSessionsRequest{UserId: id})
		w.ok(err)
	}
	heard("all, twice", id)
	session = w.logIn(w.one, email, password).GetSession().GetId()
	_, err = w.two.RevokeAllSessions(ctx, &authv1.RevokeAllSessionsRequest{UserId: id, ExceptSessionId: session})
	w.ok(err)
	heard("all but the only one")
	w.ok(w.store.StartFamily(ctx, id, session, w.now()))
	for range 2 {
		_, err := w.store.Rotate(ctx, id, session, 7, w.now(), idle, time.Second)
		w.ok(err)
	}
	heard("a refresh token that does not count, twice", id)
	w.logIn(w.one, email, password)
	for range 2 {
		w.ok(w.change(w.one, id, "op", password, "new password"))
	}
	heard("password, twice", id)

	u, err := w.store.User(ctx, id)
	w.ok(err)
	for i := range auth.MaxSessions + 1 {
		at := w.now().UnixMilli()
		_, err := w.store.StartSession(ctx, u, auth.Session{ID: fmt.Sprint(i), Created: at, Used: at, Expires: at + life.Milliseconds()}, idle)
		w.ok(err)
	}
	heard("one session too many", id)
	for range 2 {
		w.ok(w.remove(w.two, id))
	}
	heard("deletion, twice", id)

	// A reader that waits is told at once.
	id, email = w.enrol()
	session = w.logIn(w.one, email, password).GetSession().GetId()
	began := time.Now()
	time.AfterFunc(50*time.Millisecond, func() { _ = w.store.EndSession(context.WithoutCancel(ctx), id, session) })
	found, err := w.store.ReadRevocations(ctx, after, 5*time.Second)
	if err != nil || len(found) != 1 || time.Since(began) > 3*time.Second {
		w.Errorf("%v, %v after %v", found, err, time.Since(began))
	}
}

// race runs each at once and returns their errors.
func race(each ...func() error) []error {
	results := make([]error, len(each))
	var group sync.WaitGroup
	for i, f := range each {
		group.Go(func() { results[i] = f() })
	}
	group.Wait()
	return results
}

func (w *world) replica(i int) *auth.Server { return []*auth.Server{w.one, w.two}[i%2] }

func registrations(w *world) {
	for range 20 {
		email, ids := newEmail(), []string{newUserID(), newUserID(), newUserID(), newUserID()}
		var tries []func() error
		for i := range 2 * len(ids) { // each id twice
			tries = append(tries, func() error {
				// Past the hashing of the password, which is not what races here.
				return w.store.Register(w.Context(), ids[i%len(ids)], email, "phc", w.now())
			})
		}
		results := race(tries...)
		owner, err := w.store.Owner(w.Context(), email)
		w.ok(err)
		for i, err := range results {
			if ids[i%len(ids)] == owner {
				w.ok(err)
			} else {
				w.want(err, fault.Conflict, "email_taken")
			}
		}
		if u, err := w.store.User(w.Context(), owner); u.Password != "phc" {
			w.Fatalf("the owner %q is nobody: %v", owner, err)
		}
	}
}

func changesRace(w *world) {
	for range 3 {
		id, email := w.enrol()
		passwords := []string{"password a", "password b"}
		results := race(
			func() error { return w.change(w.one, id, "a", password, passwords[0]) },
			func() error { return w.change(w.two, id, "b", password, passwords[1]) },
		)
		winner, loser := 0, results[1]
		if results[0] != nil {
			winner, loser = 1, results[0]
		}
		w.want(loser, fault.Forbidden, "wrong_password")
		w.logIn(w.one, email, passwords[winner])
	}
}

func logInRaces(w *world) {
	for range 3 {
		id, email := w.enrol()
		var made *authv1.LogInResponse
		results := race(
			func() (err error) { made, err = w.tryLogIn(w.one, email, password); return err },
			func() error { return w.change(w.two, id, "op", password, "another password") },
		)
		w.ok(results[1])
		if results[0] != nil {
			w.want(results[0], fault.Unauthenticated, "wrong_credentials")
			continue
		}
		w.want(w.verify(w.two, made.GetSessionToken()), fault.Unauthenticated, "invalid_session")
	}
}

func logOutAndUses(w *world) {
	id, email := w.enrol()
	for range 3 {
		made := w.logIn(w.one, email, password)
		var ended atomic.Bool
		var group sync.WaitGroup
		for i := range 4 {
			group.Go(func() {
				for n := 0; n < 50; {
					late := ended.Load()
					w.advance(time.Second)
					err := w.verify(w.replica(i), made.GetSessionToken())
					if late {
						n++
					}
					if late && !fault.Is(err, fault.Unauthenticated) || !late && err != nil && !fault.Is(err, fault.Unauthenticated) {
						w.Errorf("late %v: %v", late, err)
						return
					}
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		_, err := w.two.RevokeSession(w.Context(), &authv1.RevokeSessionRequest{UserId: id, SessionId: made.GetSession().GetId()})
		ended.Store(true)
		group.Wait()
		w.ok(err)
	}
}
