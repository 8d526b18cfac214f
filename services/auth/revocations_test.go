package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/chassis/fault"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// watched is a stream and what it said.
type watched struct {
	t      *testing.T
	stream authv1.AuthService_WatchRevocationsClient
	began  time.Time
	end    context.CancelFunc
	last   *authv1.WatchRevocationsResponse
}

// watchFrom begins a stream that ends with the test, or after ten seconds.
func watchFrom(t *testing.T, c authv1.AuthServiceClient, after string) *watched {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	began := time.Now()
	stream, err := c.WatchRevocations(ctx, &authv1.WatchRevocationsRequest{After: after})
	ok(t, err)
	return &watched{t: t, stream: stream, began: began, end: cancel}
}

func (w *watched) next() *authv1.WatchRevocationsResponse {
	w.t.Helper()
	news, err := w.stream.Recv()
	ok(w.t, err)
	w.last = news
	return news
}

// until reads on until everything before now is said, and returns the users.
func (w *watched) until(now time.Time) []string {
	w.t.Helper()
	var users []string
	for {
		news := w.next()
		users = append(users, news.GetUserIds()...)
		if news.GetComplete() != nil && w.began.Add(news.GetComplete().AsDuration()).After(now) {
			return users
		}
	}
}

// endAll ends a session of the user, who need not be there.
func endAll(t *testing.T, rdb redis.UniversalClient, c authv1.AuthServiceClient, user string) {
	t.Helper()
	ok(t, rdb.HSet(t.Context(), sessionsKey(user), "one", "1 1 1 ").Err())
	_, err := c.RevokeAllSessions(t.Context(), &authv1.RevokeAllSessionsRequest{UserId: user})
	ok(t, err)
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: heard %d users %.3v, want %d %.3v", what, len(got), got, len(want), want)
	}
}

func newUserIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = newUserID()
	}
	return ids
}

// TestRevocationsReachEveryReplica: what one replica ends is said by the others,
// soon, and only to those who have not heard it.
func TestRevocationsReachEveryReplica(t *testing.T) {
	redisServer := startRedis(t)
	rdb := redisServer.client(t)
	one, two := serve(t, newServer(t, redisServer.client(t), time.Now)), serve(t, newServer(t, redisServer.client(t), time.Now))
	w := watchFrom(t, two, "")
	same(t, "at first", w.until(time.Now()), nil)

	users := newUserIDs(3)
	for _, user := range users {
		endAll(t, rdb, one, user)
	}
	same(t, "three", w.until(time.Now()), users)
	position := w.last.GetPosition()
	w.end()

	missed := newUserIDs(2)
	for _, user := range missed {
		endAll(t, rdb, two, user)
	}
	same(t, "who comes back, at another replica", watchFrom(t, one, position).until(time.Now()), missed)
	same(t, "who is new", watchFrom(t, one, "").until(time.Now()), append(users, missed...))

	// A replica that starts later knows of them too.
	late := serve(t, newServer(t, redisServer.client(t), time.Now))
	w = watchFrom(t, late, position)
	same(t, "who comes back, at a new replica", w.until(time.Now()), missed)
	if w.last.GetGap() {
		t.Error("a gap where nothing is missing")
	}

	stream, err := one.WatchRevocations(t.Context(), &authv1.WatchRevocationsRequest{After: "x"})
	ok(t, err)
	_, err = stream.Recv()
	want(t, err, fault.Invalid, "invalid_position")
}

// TestHeartbeat: a stream speaks at least every 200 ms, of a moment ago.
func TestHeartbeat(t *testing.T) {
	w := watchFrom(t, serve(t, newServer(t, startRedis(t).client(t), time.Now)), "")
	w.next()
	last := time.Now()
	var intervals []time.Duration
	for range 15 {
		news := w.next()
		intervals = append(intervals, time.Since(last))
		last = time.Now()
		if complete := w.began.Add(news.GetComplete().AsDuration()); complete.After(last) {
			t.Errorf("it speaks of the future: %v", complete.Sub(last))
		}
	}
	slices.Sort(intervals)
	if median := intervals[len(intervals)/2]; median > heartbeat+20*time.Millisecond || median < 100*time.Millisecond {
		t.Errorf("a heartbeat comes every %v", median)
	}
}

// TestManyRevocations: more than one word can hold are all said, in order.
func TestManyRevocations(t *testing.T) {
	rdb := startRedis(t).client(t)
	store, users := NewRedisStore(rdb), newUserIDs(2*page+7)
	for _, user := range users {
		ok(t, store.announce(t.Context(), user))
	}
	w := watchFrom(t, serve(t, newServer(t, rdb, time.Now)), "")
	same(t, "many", w.until(time.Now()), users)
}

// TestRevocationsWhileRedisIsAway: no word while Redis does not answer, and none
// is missing afterwards; a log that was lost is a gap.
func TestRevocationsWhileRedisIsAway(t *testing.T) {
	redisServer := startRedis(t)
	rdb := redisServer.client(t)
	c := serve(t, newServer(t, rdb, time.Now))
	w := watchFrom(t, c, "")
	before := newUserID()
	endAll(t, rdb, c, before)
	same(t, "before", w.until(time.Now()), []string{before})

	quiet := func(what string, away, back func()) {
		t.Helper()
		away()
		gone := time.Now()
		time.AfterFunc(time.Second, back)
		for {
			news := w.next()
			if complete := w.began.Add(news.GetComplete().AsDuration()); complete.After(gone.Add(900 * time.Millisecond)) {
				break
			} else if complete.After(gone.Add(readWait)) && time.Since(gone) < 900*time.Millisecond {
				t.Errorf("%s: %v after it went, all until then is said to be known", what, complete.Sub(gone))
			}
		}
	}
	quiet("stopped", func() { redisServer.Signal(t, syscall.SIGSTOP) }, func() { redisServer.Signal(t, syscall.SIGCONT) })
	quiet("killed", redisServer.Kill, func() { redisServer.Restart(t) })
	after := newUserID()
	endAll(t, rdb, c, after)
	same(t, "after", w.until(time.Now()), []string{after})
	if w.last.GetGap() {
		t.Error("a gap where nothing is missing")
	}

	w.loses(func() { ok(t, rdb.FlushAll(t.Context()).Err()) })
	endAll(t, rdb, c, before)
	same(t, "in the new log", w.until(time.Now()), []string{before})
}

// loses loses the log, and reads on until somebody says so.
func (w *watched) loses(lose func()) {
	w.t.Helper()
	lose()
	for deadline := time.Now().Add(5 * time.Second); !w.next().GetGap(); {
		if time.Now().After(deadline) {
			w.t.Fatal("the log was lost, and nobody says so")
		}
	}
}

// TestLostLogIsNoticed: whoever was there before the log was lost is told, also
// who never heard of a revocation, at a replica that never read the lost one, and
// when more was revoked since.
func TestLostLogIsNoticed(t *testing.T) {
	redisServer := startRedis(t)
	rdb := redisServer.client(t)
	one := serve(t, newServer(t, redisServer.client(t), time.Now))
	position := func(c authv1.AuthServiceClient) string {
		w := watchFrom(t, c, "")
		w.until(time.Now())
		defer w.end()
		return w.last.GetPosition()
	}
	told := func(what, after string, c authv1.AuthServiceClient, want bool) {
		t.Helper()
		if gap := watchFrom(t, c, after).next().GetGap(); gap != want {
			t.Errorf("%s, %q: a gap: %v", what, after, gap)
		}
	}
	empty := position(one)
	told("nothing was lost", empty, one, false)
	endAll(t, rdb, one, newUserID())
	some := position(one)
	told("nothing was lost", empty, one, false)
	told("nothing was lost", some, one, false)

	w := watchFrom(t, one, some)
	w.until(time.Now())
	w.loses(func() { ok(t, rdb.Del(t.Context(), revocationsKey).Err()) })
	two := serve(t, newServer(t, redisServer.client(t), time.Now))
	for range 2 {
		for _, after := range []string{empty, some} {
			told("lost", after, one, true)
			told("lost", after, two, true)
		}
		told("newly come", "", one, false)
		endAll(t, rdb, one, newUserID()) // behind all that was lost
		w.until(time.Now())
	}
}

// TestEndsInterrupted: whatever a crash leaves of the end of sessions, its repeat
// has it known to all; and so does the session, once it is refused: at a gateway
// that asks, the repeat gets no further.
func TestEndsInterrupted(t *testing.T) {
	redisServer := startRedis(t)
	rdb := redisServer.client(t)
	whole := newCheapServer(t, rdb, time.Now)
	for name, end := range map[string]func(s *Server, of sessionOf) error{
		"one session": func(s *Server, of sessionOf) error {
			_, err := s.RevokeSession(t.Context(), &authv1.RevokeSessionRequest{UserId: of.id, SessionId: of.session})
			return err
		},
		"all": func(s *Server, of sessionOf) error {
			_, err := s.RevokeAllSessions(t.Context(), &authv1.RevokeAllSessionsRequest{UserId: of.id})
			return err
		},
		"password": func(s *Server, of sessionOf) error {
			_, err := s.ChangePassword(t.Context(), &authv1.ChangePasswordRequest{UserId: of.id, OperationId: "op", CurrentPassword: goodPassword, NewPassword: "another password"})
			return err
		},
		"deletion": func(s *Server, of sessionOf) error {
			_, err := s.DeleteUser(t.Context(), &authv1.DeleteUserRequest{UserId: of.id})
			return err
		},
		"refresh token shown twice": func(s *Server, of sessionOf) error {
			_, err := s.RefreshTokens(t.Context(), &authv1.RefreshTokensRequest{RefreshToken: of.usedUp})
			if fault.From(err).Code == "invalid_grant" {
				return nil
			}
			return err
		},
		"one session too many": func(s *Server, of sessionOf) error {
			// The others have been used since.
			for n, later := 1, time.Now().Add(time.Minute).UnixMilli(); n < MaxSessions; n++ {
				r := Session{Created: later, Used: later, Expires: later + time.Hour.Milliseconds()}
				ok(t, rdb.HSetNX(t.Context(), sessionsKey(of.id), fmt.Sprint(n), r.record()).Err())
			}
			_, err := s.LogIn(t.Context(), &authv1.LogInRequest{Email: of.email, Password: goodPassword})
			return err
		},
	} {
		for how, shown := range map[string]bool{"repeated": false, "refused": true} {
			t.Run(name+", "+how, func(t *testing.T) {
				crashes(t, func(t *testing.T, c *crash) {
					of := newSessionOf(t, whole)
					begun, err := whole.store.LastRevocation(t.Context())
					ok(t, err)
					told := func() {
						t.Helper()
						found, err := whole.store.ReadRevocations(t.Context(), begun, time.Millisecond)
						if err != nil || len(found) == 0 || found[0].UserID != of.id {
							t.Fatalf("the session is over, and the log says %v, %v", found, err)
						}
					}
					verify := func() error {
						_, err := whole.VerifyAccessToken(t.Context(), &authv1.VerifyAccessTokenRequest{AccessToken: of.access})
						return err
					}
					err = end(newCheapServer(t, redisServer.client(t, c.hook()), time.Now), of)
					if (err != nil) != c.happened {
						t.Fatalf("crashed: %v, answered %v", c.happened, err)
					}
					if shown {
						if err := verify(); err != nil {
							want(t, err, fault.Unauthenticated, "invalid_token")
							told()
						}
					}
					ok(t, end(whole, of))
					told()
					want(t, verify(), fault.Unauthenticated, "invalid_token")
				})
			})
		}
	}
}

// sessionOf is a session of a user of its own, with tokens.
type sessionOf struct{ id, email, session, access, usedUp string }

func newSessionOf(t *testing.T, s *Server) sessionOf {
	t.Helper()
	of := sessionOf{id: newUserID(), email: newEmail()}
	_, err := s.Register(t.Context(), &authv1.RegisterRequest{UserId: of.id, Email: of.email, Password: goodPassword})
	ok(t, err)
	issued, err := s.IssueTokens(t.Context(), &authv1.IssueTokensRequest{Email: of.email, Password: goodPassword})
	ok(t, err)
	tokens := issued.GetTokens()
	of.usedUp = tokens.GetRefreshToken()
	for range 2 {
		next, err := s.RefreshTokens(t.Context(), &authv1.RefreshTokensRequest{RefreshToken: tokens.GetRefreshToken()})
		ok(t, err)
		tokens = next.GetTokens()
	}
	of.access, of.session = tokens.GetAccessToken(), strings.Split(of.usedUp, ".")[1]
	return of
}

// TestEndsAreToldOnce: who goes on showing what is over, or ends what is not there,
// adds nothing to the log; an end that nobody could be told of is told first.
func TestEndsAreToldOnce(t *testing.T) {
	redisServer := startRedis(t)
	rdb := redisServer.client(t)
	whole := newServer(t, rdb, time.Now)
	of := newSessionOf(t, whole)
	made, err := whole.LogIn(t.Context(), &authv1.LogInRequest{Email: of.email, Password: goodPassword})
	ok(t, err)
	begun, err := whole.store.LastRevocation(t.Context())
	ok(t, err)
	everything := func() {
		t.Helper()
		_, err := whole.VerifySession(t.Context(), &authv1.VerifySessionRequest{SessionToken: made.GetSessionToken()})
		want(t, err, fault.Unauthenticated, "invalid_session")
		_, err = whole.VerifyAccessToken(t.Context(), &authv1.VerifyAccessTokenRequest{AccessToken: of.access})
		want(t, err, fault.Unauthenticated, "invalid_token")
		_, err = whole.RefreshTokens(t.Context(), &authv1.RefreshTokensRequest{RefreshToken: of.usedUp})
		want(t, err, fault.Unauthenticated, "invalid_grant")
		_, err = whole.RevokeSession(t.Context(), &authv1.RevokeSessionRequest{UserId: of.id, SessionId: draw(secretBytes)})
		ok(t, err)
		_, err = whole.RevokeAllSessions(t.Context(), &authv1.RevokeAllSessionsRequest{UserId: of.id})
		ok(t, err)
	}
	// The end that is announced meanwhile is not the one that is yet to be told.
	s := newServer(t, redisServer.client(t, before(func(cmd redis.Cmder) error {
		if !strings.Contains(fmt.Sprint(cmd.Args()), revocationsKey) {
			return nil
		}
		_, err := newServer(t, redisServer.client(t, (&crash{left: 1}).hook()), time.Now).RevokeSession(t.Context(), &authv1.RevokeSessionRequest{UserId: of.id, SessionId: of.session})
		want(t, err, fault.Unavailable, "store_unavailable")
		return nil
	})), time.Now)
	_, err = s.RevokeSession(t.Context(), &authv1.RevokeSessionRequest{UserId: of.id, SessionId: made.GetSession().GetId()})
	ok(t, err)
	for range 20 {
		everything()
	}
	found, err := whole.store.ReadRevocations(t.Context(), begun, time.Millisecond)
	if err != nil || len(found) != 2 || found[0].UserID != of.id || found[1].UserID != of.id {
		t.Errorf("two ends, and the log has %d: %.3v, %v", len(found), found, err)
	}
}

// TestDrainEndsStreams: a replica that drains does not wait for those who watch.
func TestDrainEndsStreams(t *testing.T) {
	s := newServer(t, startRedis(t).client(t), time.Now)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go s.Follow(ctx)
	said, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() {
		ended <- s.feed.watch(t.Context(), Position{}, func(*authv1.WatchRevocationsResponse) error { said <- struct{}{}; return nil })
	}()
	<-said
	stop()
	select {
	case err := <-ended:
		want(t, err, fault.Unavailable, "draining")
	case <-time.After(time.Second):
		t.Fatal("the stream goes on")
	}
	// Nor does it tell anything to who comes now.
	err := s.feed.watch(t.Context(), Position{}, func(*authv1.WatchRevocationsResponse) error { return errors.New("told") })
	want(t, err, fault.Unavailable, "draining")
}

// TestFeedForgets: a replica keeps what is young, and says where it no longer
// knows what came between.
func TestFeedForgets(t *testing.T) {
	log := &fakeLog{name: "one"}
	f := newFeed(log)
	read := func() {
		t.Helper()
		ok(t, f.read(t.Context()))
	}
	told := func(after Position) *authv1.WatchRevocationsResponse {
		t.Helper()
		w := &watcher{began: f.complete, after: after}
		news, _, _ := f.next(w)
		return news
	}
	log.add("a", "b")
	read() // finds the log
	read()
	f.recent[0].at = f.recent[0].at.Add(-remembered)
	log.add("c")
	read()
	for _, c := range []struct {
		after Position
		gap   bool
		want  []string
	}{
		{Position{}, false, []string{"b", "c"}},
		{Position{"one", 0, 0}, true, []string{"b", "c"}}, // when it was there, more may have come since
		{Position{"one", 1, 0}, false, []string{"b", "c"}},
		{Position{"one", 2, 0}, false, []string{"c"}},
		{Position{"one", 3, 0}, false, nil},
		{Position{"one", 4, 0}, true, []string{"b", "c"}},
		{Position{"two", 2, 0}, true, []string{"b", "c"}},
		{Position{"", 2, 0}, true, []string{"b", "c"}},
	} {
		news := told(c.after)
		if news.GetGap() != c.gap || !slices.Equal(news.GetUserIds(), c.want) || news.GetPosition() != "one/3-0" {
			t.Errorf("after %v: %v", c.after, news)
		}
	}
	// Nothing is said before everything since the beginning is read.
	if news, _, _ := f.next(&watcher{began: time.Now()}); news != nil {
		t.Errorf("too early: %v", news)
	}
	// A log that was lost is noticed by its name, or by where it ends.
	for _, name := range []string{"two", "two"} {
		w := &watcher{began: f.complete}
		_, _, _ = f.next(w)
		log.name, log.entries = name, log.entries[:1]
		read()
		if news, _, _ := f.next(w); news != nil {
			t.Errorf("of a log that is not read yet: %v", news)
		}
		read()
		if news, _, _ := f.next(w); !news.GetGap() || !slices.Equal(news.GetUserIds(), []string{"a"}) {
			t.Errorf("after the loss: %v", news)
		}
		log.add("x")
		read()
	}
	log.took = 30 * time.Millisecond
	began := time.Now()
	read()
	if f.complete.Sub(began) > log.took/2 {
		t.Error("what was revoked while the log was read is said to be read")
	}
	log.err = errors.New("away")
	if err := f.read(t.Context()); err == nil {
		t.Error("an outage is no error")
	}
}

// TestLogLostWhileReading: what was in the log before it was lost counts as read
// by nobody, however soon there is another.
func TestLogLostWhileReading(t *testing.T) {
	log := &fakeLog{name: "one"}
	f := newFeed(log)
	ok(t, f.read(t.Context()))
	ok(t, f.read(t.Context()))
	w := &watcher{began: f.complete}
	news, _, _ := f.next(w)
	if news.GetGap() || news.GetComplete() == nil {
		t.Fatalf("at first: %v", news)
	}
	log.read = func() { log.name = "two" } // after this reading, before the next look at its name
	ok(t, f.read(t.Context()))
	if news, _, _ := f.next(w); news != nil {
		t.Errorf("it is said to be read: %v", news)
	}
	log.read = nil
	ok(t, f.read(t.Context()))
	if news, _, _ := f.next(w); !news.GetGap() {
		t.Errorf("nobody says that it was lost: %v", news)
	}
}

type fakeLog struct {
	name    string
	entries []Revocation
	read    func()
	took    time.Duration
	err     error
}

func (l *fakeLog) add(users ...string) {
	for _, user := range users {
		l.entries = append(l.entries, Revocation{Position{l.name, uint64(len(l.entries) + 1), 0}, user})
	}
}

func (l *fakeLog) ReadRevocations(_ context.Context, after Position, _ time.Duration) ([]Revocation, error) {
	time.Sleep(l.took)
	var found []Revocation
	for _, r := range l.entries {
		if r.At.Compare(after) > 0 {
			r.At.Log = after.Log
			found = append(found, r)
		}
	}
	if l.read != nil {
		l.read()
	}
	return found, l.err
}

func (l *fakeLog) LastRevocation(context.Context) (Position, error) {
	last := Position{}
	if len(l.entries) > 0 {
		last = l.entries[len(l.entries)-1].At
	}
	last.Log = l.name
	return last, l.err
}

func TestPosition(t *testing.T) {
	for text, want := range map[string]Position{
		"": {}, "0-0": {}, "17-4": {"", 17, 4}, "log/0-0": {"log", 0, 0}, "log/18446744073709551615-1": {"log", 1<<64 - 1, 1},
	} {
		if got, err := ParsePosition(text); err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"x", "1", "-", "1-", "-1", "1-x", "1-2-3", "18446744073709551616-1", " 1-1", "log", "log/", "log/1", "a/b/1-1"} {
		if got, err := ParsePosition(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	if s := fmt.Sprint(Position{"log", 17, 4}); s != "log/17-4" || (Position{"", 1, 9}).Compare(Position{"", 2, 1}) >= 0 || (Position{"", 1, 2}).Compare(Position{"", 1, 1}) <= 0 {
		t.Error("positions are not ordered, or not shown", s)
	}
}
