// Package mapstore keeps users and sessions in this process's memory, under one
// lock.
//
// It exists to be compared with: who was logged in is forgotten with the
// process, another process knows nobody, and a log-out holds here only. The
// shop's own binaries must not link it.
package mapstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"coatcheck/auth"
	"coatcheck/chassis/fault"
)

const (
	// maxEnded is how many ended sessions are kept in mind for those who follow.
	maxEnded = 10_000
	// maxTries is how many buckets there are before those that are full are dropped.
	maxTries = 10_000
)

// Store is an auth.Store in memory.
type Store struct {
	mu     sync.Mutex
	users  map[string]*account // by id
	owners map[string]string   // by address: the id
	log    string              // the name of ended
	ended  []auth.Revocation
	told   chan struct{}        // closed when ended grows
	tries  map[string]time.Time // by bucket: when those taken are made up for, or, by address, until when it is remembered
}

var _ auth.Store = (*Store)(nil)

// account is a user, or, with gone, an id that was deleted and stays so: a late
// repeat of the registration must not undo that.
type account struct {
	email      string
	password   string
	generation int
	operation  string
	sessions   []auth.Session
	families   map[string]auth.Family // by session id
	gone       bool
}

// New returns an empty store.
func New() *Store {
	return &Store{users: map[string]*account{}, owners: map[string]string{}, log: rand.Text(), told: make(chan struct{}), tries: map[string]time.Time{}}
}

// Register is part of auth.Store.
func (s *Store) Register(_ context.Context, id, email, phc string, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.users[id]
	owner, taken := s.owners[email]
	switch {
	case a != nil && a.gone, taken && owner != id:
		return fault.New(fault.Conflict, "email_taken", "There is an account with this address.")
	case a != nil && a.email != email:
		return fault.New(fault.Invalid, "invalid_user_id", "The id belongs to another user.")
	case a == nil:
		s.users[id] = &account{email: email, password: phc, generation: 1}
		s.owners[email] = id
	}
	return nil
}

// Owner is part of auth.Store.
func (s *Store) Owner(_ context.Context, email string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owners[email], nil
}

// User is part of auth.Store.
func (s *Store) User(_ context.Context, id string) (auth.User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.live(id)
	if a == nil {
		return auth.User{ID: id}, nil
	}
	return auth.User{ID: id, Password: a.password, Generation: strconv.Itoa(a.generation), Operation: a.operation}, nil
}

// ChangePassword is part of auth.Store.
func (s *Store) ChangePassword(_ context.Context, u auth.User, phc, operation string) (auth.Changed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.live(u.ID)
	switch {
	case a == nil:
		return auth.NoUser, nil
	case a.operation == operation:
		return auth.Done, nil
	case strconv.Itoa(a.generation) != u.Generation:
		return auth.Outdated, nil
	}
	s.end(u.ID, func(auth.Session) bool { return true })
	a.password, a.operation = phc, operation
	a.generation++
	return auth.Done, nil
}

// DeleteUser is part of auth.Store.
func (s *Store) DeleteUser(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.live(id); a != nil {
		s.end(id, func(auth.Session) bool { return true })
		delete(s.owners, a.email)
		s.users[id] = &account{gone: true}
	}
	return nil
}

// StartSession is part of auth.Store.
func (s *Store) StartSession(_ context.Context, u auth.User, r auth.Session, idle time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.live(u.ID)
	if a == nil || strconv.Itoa(a.generation) != u.Generation {
		return false, nil
	}
	now := time.UnixMilli(r.Created)
	a.sessions = slices.DeleteFunc(a.sessions, func(x auth.Session) bool { return !x.Live(now, idle) })
	for len(a.sessions) >= auth.MaxSessions {
		oldest := slices.MinFunc(a.sessions, func(x, y auth.Session) int { return cmp.Compare(x.Used, y.Used) })
		s.end(u.ID, func(r auth.Session) bool { return r.ID == oldest.ID })
	}
	a.sessions = append(a.sessions, r)
	return true, nil
}

// UseSession is part of auth.Store.
func (s *Store) UseSession(_ context.Context, userID, sessionID string, now time.Time, idle time.Duration) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.live(userID)
	if a == nil {
		return time.Time{}, nil
	}
	for i := range a.sessions {
		r := &a.sessions[i]
		if r.ID != sessionID {
			continue
		}
		if !r.Live(now, idle) {
			return time.Time{}, nil
		}
		if at := now.UnixMilli(); at-r.Used >= auth.MarkInterval.Milliseconds() {
			r.Used = at
		}
		return time.UnixMilli(r.Expires), nil
	}
	return time.Time{}, nil
}

// StartFamily is part of auth.Store.
func (s *Store) StartFamily(_ context.Context, userID, sessionID string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.live(userID); a != nil && a.find(sessionID) != nil {
		if a.families == nil {
			a.families = map[string]auth.Family{}
		}
		a.families[sessionID] = auth.Family{N: 1, At: now}
		maps.DeleteFunc(a.families, func(id string, _ auth.Family) bool { return a.find(id) == nil })
	}
	return nil
}

// Rotate is part of auth.Store.
func (s *Store) Rotate(_ context.Context, userID, sessionID string, n int64, now time.Time, idle, grace time.Duration) (auth.Family, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.live(userID)
	if a == nil {
		return auth.Family{}, nil
	}
	r, f := a.find(sessionID), a.families[sessionID]
	switch {
	case r == nil || f.N == 0 || !r.Live(now, idle):
		return auth.Family{}, nil
	case n == f.N:
		f.N, f.At = n+1, time.UnixMilli(now.UnixMilli())
		a.families[sessionID], r.Used = f, now.UnixMilli()
	case n != f.N-1 || now.Sub(f.At) > grace:
		s.end(userID, func(r auth.Session) bool { return r.ID == sessionID })
		return auth.Family{Reused: true}, nil
	}
	f.Ends = time.UnixMilli(r.Expires)
	return f, nil
}

func (a *account) find(session string) *auth.Session {
	for i := range a.sessions {
		if a.sessions[i].ID == session {
			return &a.sessions[i]
		}
	}
	return nil
}

// Sessions is part of auth.Store.
func (s *Store) Sessions(_ context.Context, userID string, now time.Time, idle time.Duration) ([]auth.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.live(userID)
	if a == nil {
		return nil, nil
	}
	var live []auth.Session
	for _, r := range a.sessions {
		if r.Live(now, idle) {
			live = append(live, r)
		}
	}
	slices.SortFunc(live, func(x, y auth.Session) int {
		return cmp.Or(cmp.Compare(y.Created, x.Created), strings.Compare(x.ID, y.ID))
	})
	return live, nil
}

// EndSession is part of auth.Store.
func (s *Store) EndSession(_ context.Context, userID, sessionID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(userID, func(r auth.Session) bool { return r.ID == sessionID })
	return nil
}

// EndSessions is part of auth.Store.
func (s *Store) EndSessions(_ context.Context, userID, except string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(userID, func(r auth.Session) bool { return r.ID != except })
	return nil
}

// end ends those sessions of a user that which names, and notes it if there were
// any. s.mu is held.
func (s *Store) end(userID string, which func(auth.Session) bool) {
	a := s.live(userID)
	if a == nil || !slices.ContainsFunc(a.sessions, which) {
		return
	}
	a.sessions = slices.DeleteFunc(a.sessions, which)
	at := auth.Position{Log: s.log, Milli: 1}
	if n := len(s.ended); n > 0 {
		at.Milli = s.ended[n-1].At.Milli + 1
	}
	s.ended = append(s.ended, auth.Revocation{At: at, UserID: userID})
	if len(s.ended) > 2*maxEnded {
		s.ended = append([]auth.Revocation(nil), s.ended[maxEnded:]...)
	}
	close(s.told)
	s.told = make(chan struct{})
}

// ReadRevocations is part of auth.Store.
func (s *Store) ReadRevocations(ctx context.Context, after auth.Position, wait time.Duration) ([]auth.Revocation, error) {
	timeout := time.After(wait)
	for {
		s.mu.Lock()
		told := s.told
		var found []auth.Revocation
		for _, r := range s.ended {
			if r.At.Compare(after) > 0 && len(found) < 1000 {
				found = append(found, r)
			}
		}
		s.mu.Unlock()
		if len(found) > 0 {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timeout:
			return nil, nil
		case <-told:
		}
	}
}

// LastRevocation is part of auth.Store.
func (s *Store) LastRevocation(context.Context) (auth.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ended) == 0 {
		return auth.Position{Log: s.log}, nil
	}
	return s.ended[len(s.ended)-1].At, nil
}

// Take is part of auth.Store.
func (s *Store) Take(_ context.Context, bucket string, l auth.Limit) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.take("bucket "+bucket, l), nil
}

// TakeLogIn is part of auth.Store.
func (s *Store) TakeLogIn(_ context.Context, account, address string, l auth.Limit) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := account + " " + address
	if wait := s.wait("own "+own, l); wait > 0 {
		return wait, nil
	}
	if !s.since("proved " + own) {
		spent := s.take("strangers "+account, auth.Strangers)
		if spent > 0 && s.since("lately "+own) {
			return min(spent, time.Until(s.tries["lately "+own])), nil
		}
	}
	s.tries["lately "+own] = time.Now().Add(auth.Lately)
	return s.take("own "+own, l), nil
}

// Prove is part of auth.Store.
func (s *Store) Prove(_ context.Context, account, address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries["proved "+account+" "+address] = time.Now().Add(auth.Proved)
	return nil
}

// since reports whether what is noted under key holds yet. s.mu is held.
func (s *Store) since(key string) bool { return time.Now().Before(s.tries[key]) }

// wait answers how long until there is a try in the bucket. s.mu is held.
func (s *Store) wait(bucket string, l auth.Limit) time.Duration {
	if !s.since(bucket) {
		return 0
	}
	return max(time.Until(s.tries[bucket])-time.Duration(l.AtOnce-1)*l.Each, 0)
}

// take takes a try, unless there is none. s.mu is held.
func (s *Store) take(bucket string, l auth.Limit) time.Duration {
	wait := s.wait(bucket, l)
	if wait > 0 {
		return wait
	}
	now := time.Now()
	if len(s.tries) > maxTries {
		maps.DeleteFunc(s.tries, func(_ string, until time.Time) bool { return until.Before(now) })
	}
	due := s.tries[bucket]
	if due.Before(now) {
		due = now
	}
	s.tries[bucket] = due.Add(l.Each)
	return 0
}

// live returns the user, nil if there is none. s.mu is held.
func (s *Store) live(id string) *account {
	a := s.users[id]
	if a == nil || a.gone {
		return nil
	}
	return a
}
