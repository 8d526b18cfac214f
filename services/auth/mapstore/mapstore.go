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
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"coatcheck/auth"
	"coatcheck/chassis/fault"
)

// Store is an auth.Store in memory.
type Store struct {
	mu     sync.Mutex
	users  map[string]*account // by id
	owners map[string]string   // by address: the id
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
	gone       bool
}

// New returns an empty store.
func New() *Store {
	return &Store{users: map[string]*account{}, owners: map[string]string{}}
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
	a.password, a.operation, a.sessions = phc, operation, nil
	a.generation++
	return auth.Done, nil
}

// DeleteUser is part of auth.Store.
func (s *Store) DeleteUser(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.live(id)
	if a == nil {
		return nil
	}
	delete(s.owners, a.email)
	s.users[id] = &account{gone: true}
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
		a.end(oldest.ID)
	}
	a.sessions = append(a.sessions, r)
	return true, nil
}

// UseSession is part of auth.Store.
func (s *Store) UseSession(_ context.Context, userID, sessionID string, now time.Time, idle time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.live(userID)
	if a == nil {
		return false, nil
	}
	for i := range a.sessions {
		r := &a.sessions[i]
		if r.ID != sessionID {
			continue
		}
		if !r.Live(now, idle) {
			return false, nil
		}
		if at := now.UnixMilli(); at-r.Used >= auth.MarkInterval.Milliseconds() {
			r.Used = at
		}
		return true, nil
	}
	return false, nil
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
	if a := s.live(userID); a != nil {
		a.end(sessionID)
	}
	return nil
}

// EndSessions is part of auth.Store.
func (s *Store) EndSessions(_ context.Context, userID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.live(userID); a != nil {
		a.sessions = nil
	}
	return nil
}

// live returns the user, nil if there is none. s.mu is held.
func (s *Store) live(id string) *account {
	a := s.users[id]
	if a == nil || a.gone {
		return nil
	}
	return a
}

func (a *account) end(session string) {
	a.sessions = slices.DeleteFunc(a.sessions, func(r auth.Session) bool { return r.ID == session })
}
