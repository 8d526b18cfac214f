package pocket

import (
	"context"
	"time"

	"coatcheck/auth"
)

// Sessions is an auth.Store whose sessions are carried by the request; the users
// are those of Store. See the package's comment for the promises of an
// auth.Store that it can't keep.
type Sessions struct{ auth.Store }

// StartSession is part of auth.Store.
func (s Sessions) StartSession(ctx context.Context, u auth.User, r auth.Session, _ time.Duration) (bool, error) {
	now, err := s.User(ctx, u.ID)
	if err != nil || now.Password == "" || now.Generation != u.Generation {
		return false, err
	}
	p := of(ctx)
	p.session, p.newSession = sessionState{user: u.ID, record: r}, true
	return true, nil
}

// UseSession is part of auth.Store.
func (s Sessions) UseSession(ctx context.Context, userID, sessionID string, now time.Time, idle time.Duration) (time.Time, error) {
	p := of(ctx)
	r := &p.session.record
	if p.session.user != userID || r.ID != sessionID || !r.Live(now, idle) {
		return time.Time{}, nil
	}
	if at := now.UnixMilli(); at-r.Used >= auth.MarkInterval.Milliseconds() {
		r.Used, p.newSession = at, true
	}
	return time.UnixMilli(r.Expires), nil
}

// Sessions is part of auth.Store. It knows of the one that is shown to it.
func (s Sessions) Sessions(ctx context.Context, userID string, now time.Time, idle time.Duration) ([]auth.Session, error) {
	p := of(ctx)
	if p.session.user != userID || !p.session.record.Live(now, idle) {
		return nil, nil
	}
	return []auth.Session{p.session.record}, nil
}

// EndSession is part of auth.Store. It takes away the cookie that the request
// carries. Another browser's session, and a copy of this one, it cannot end.
func (s Sessions) EndSession(ctx context.Context, userID, sessionID string) error {
	if p := of(ctx); p.session.user == userID && p.session.record.ID == sessionID {
		p.session, p.newSession = sessionState{}, true
	}
	return nil
}

// EndSessions is part of auth.Store; it can end no more than EndSession.
func (s Sessions) EndSessions(ctx context.Context, userID, except string) error {
	if id := of(ctx).session.record.ID; id != except {
		return s.EndSession(ctx, userID, id)
	}
	return nil
}

// ChangePassword is part of auth.Store.
func (s Sessions) ChangePassword(ctx context.Context, u auth.User, phc, operation string) (auth.Changed, error) {
	changed, err := s.Store.ChangePassword(ctx, u, phc, operation)
	if changed == auth.Done {
		_ = s.EndSessions(ctx, u.ID, "")
	}
	return changed, err
}

// DeleteUser is part of auth.Store.
func (s Sessions) DeleteUser(ctx context.Context, id string) error {
	_ = s.EndSessions(ctx, id, "")
	return s.Store.DeleteUser(ctx, id)
}
