package auth

import (
	"context"
	"time"
)

const (
	// MarkInterval is how exactly the last use of a session is known.
	MarkInterval = time.Minute
	// MaxSessions is how many sessions a user may have.
	MaxSessions = 100
)

// Store keeps users and their sessions. Every method is safe for use by any
// number of goroutines in any number of processes at once, and what it has
// answered holds for all of them.
//
// Absent is not broken: a store that does not answer is fault.Unavailable, never
// a user or a session that is not there. After Unavailable the outcome is
// unknown, and each method may be called again with the same arguments.
type Store interface {
	// Register makes the user, who owns the address when this returns nil. Done
	// again, after success or after a crash at any point, it has the same result.
	//   Conflict email_taken: the address is another's, or the user was deleted
	//   Invalid invalid_user_id: the id is another's
	Register(ctx context.Context, id, email, phc string, now time.Time) error

	// Owner returns the id that an address leads to, or "". There need not be
	// such a user any more.
	Owner(ctx context.Context, email string) (string, error)

	// User returns what is there of the user; one that is not there is no error.
	User(ctx context.Context, id string) (User, error)

	// ChangePassword sets the password and ends all sessions in one step, once
	// under one operation id, if the password is still the one u was read with.
	// Done again under that id, it does what is left to do.
	ChangePassword(ctx context.Context, u User, phc, operation string) (Changed, error)

	// DeleteUser deletes the user, the sessions and, if it is still theirs, the
	// address. A user who is not there is no error.
	DeleteUser(ctx context.Context, id string) error

	// StartSession stores the session, in one step with the check that the
	// password is the one u was read with; false if it is not, or the user is
	// gone. Beyond MaxSessions those unused the longest end.
	StartSession(ctx context.Context, u User, r Session, idle time.Duration) (bool, error)

	// UseSession answers when the session ends at the latest, the zero time if it
	// is not live, and marks it used, to within MarkInterval. A mark never brings
	// back a session that was ended.
	UseSession(ctx context.Context, userID, sessionID string, now time.Time, idle time.Duration) (time.Time, error)

	// StartFamily lets a session be renewed by refresh tokens, from the first on.
	StartFamily(ctx context.Context, userID, sessionID string, now time.Time) error

	// Rotate answers what becomes of a family when its nth refresh token is shown:
	// the token that counts now and since when. The last one makes it the next; the
	// one before, within grace, changes nothing; any other has leaked, and ends the
	// session: Reused, also beside an error. Without a live session, or a family, it
	// answers the zero Family.
	Rotate(ctx context.Context, userID, sessionID string, n int64, now time.Time, idle, grace time.Duration) (Family, error)

	// Sessions returns the live sessions, newest first.
	Sessions(ctx context.Context, userID string, now time.Time, idle time.Duration) ([]Session, error)

	// EndSession and EndSessions have ended one, and all but one ("": all), for
	// everybody, when they return. What is not there is no error.
	EndSession(ctx context.Context, userID, sessionID string) error
	EndSessions(ctx context.Context, userID, except string) error

	// What ends sessions writes the user to the log before it returns nil, and so
	// does what finds them over, where whoever ended them died in between. Where
	// nothing has ended since the last entry, nothing is written.
	Revocations

	Limits
}

// Family is how far the refresh tokens of a session have come.
type Family struct {
	N    int64     // the token that counts
	At   time.Time // since when
	Ends time.Time // the session's end
	// Reused: the token was used up, and the session has ended for it just now.
	Reused bool
}

// User is what is known of a user's password.
type User struct {
	ID         string
	Password   string // PHC; empty: there is no such user
	Generation string // raised by each change of the password
	Operation  string // that last changed the password
}

// Changed is what became of a change of a password; the numbers are those that
// password_change.lua answers.
type Changed int

// What may become of a change.
const (
	NoUser   Changed = 0 // there is no such user
	Done     Changed = 1 // now, or before under this operation id
	Outdated Changed = 2 // the password is another by now
)

// Session is one session as it is stored.
type Session struct {
	ID                     string
	Created, Expires, Used int64 // ms since 1970
	Device                 string
}

// Live reports whether the session is neither over nor idle for too long.
func (r Session) Live(now time.Time, idle time.Duration) bool {
	at := now.UnixMilli()
	return at < r.Expires && at-r.Used < idle.Milliseconds()
}
