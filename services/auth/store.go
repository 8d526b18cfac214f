package auth

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/redisconn"
)

const (
	// unfinished is how long a registration that broke off holds its address.
	unfinished = time.Hour
	// buried is how long an id that was given up cannot be registered; longer
	// than any call may take.
	buried = time.Hour
	// markInterval is how exactly the last use of a session is known.
	markInterval = time.Minute
	maxSessions  = 100 // a user
)

//go:embed *.lua
var scripts embed.FS

// store keeps users and sessions in Redis:
//
//	user:{<user id>}      hash: email, password (PHC), generation and operation of
//	                      the last password change, created (ms); or only
//	                      gone, of an id that was given up
//	sessions:{<user id>}  hash: session id → record
//	email:<digest>        the id of the user who has the address
//
// A user's keys share a slot, so that each change of them is one script; the
// address lies elsewhere, so registration and deletion go in steps, in an order
// in which a crash leaves nothing wrong: an address that leads to no user is
// free. Every error of Redis becomes Unavailable, store_unavailable.
type store struct {
	rdb redis.UniversalClient

	userCreate, userKeep, userBury, userDelete *redis.Script
	emailClaim, emailRelease                   *redis.Script
	passwordChange, sessionCreate, sessionUse  *redis.Script
}

func newStore(rdb redis.UniversalClient) *store {
	return &store{
		rdb:            rdb,
		userCreate:     script("user_create.lua"),
		userKeep:       script("user_keep.lua"),
		userBury:       script("user_bury.lua"),
		userDelete:     script("user_delete.lua"),
		emailClaim:     script("email_claim.lua"),
		emailRelease:   script("email_release.lua"),
		passwordChange: script("password_change.lua"),
		sessionCreate:  script("session_create.lua"),
		sessionUse:     script("session_use.lua"),
	}
}

func script(name string) *redis.Script {
	text, err := scripts.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return redis.NewScript(string(text))
}

func userKey(id string) string      { return "user:{" + id + "}" }
func sessionsKey(id string) string  { return "sessions:{" + id + "}" }
func emailKey(digest string) string { return "email:" + digest }
func seconds(d time.Duration) int64 { return int64(d / time.Second) }
func storeFault(what string, err error) error {
	return redisconn.Unavailable(fmt.Errorf("%s: %w", what, err))
}

// run runs a script that answers a number.
func (s *store) run(ctx context.Context, what string, script *redis.Script, keys []string, args ...any) (int, error) {
	n, err := script.Run(ctx, s.rdb, keys, args...).Int()
	if err != nil {
		return 0, storeFault(what, err)
	}
	return n, nil
}

// register makes the user, who owns the address when this returns nil. Done
// again, after success or after a crash at any point, it has the same result.
// It answers Conflict, email_taken, when the address is another's, and Invalid
// when the id is.
func (s *store) register(ctx context.Context, id, email, phc string, now time.Time) error {
	taken := fault.New(fault.Conflict, "email_taken", "There is an account with this address.")
	created, err := s.run(ctx, "creating the user", s.userCreate, []string{userKey(id)}, email, phc, now.UnixMilli(), seconds(unfinished))
	switch {
	case err != nil:
		return err
	case created == 0:
		return taken // the address has gone to another since, or the user was deleted
	case created == 2:
		return fault.New(fault.Invalid, "invalid_user_id", "The id belongs to another user.")
	}
	address := digest(email)
	from := ""
	for range 3 { // as often as the owner may change meanwhile
		owner, err := s.emailClaim.Run(ctx, s.rdb, []string{emailKey(address)}, id, from).Text()
		if err != nil {
			return storeFault("claiming the address", err)
		}
		if owner == id {
			return s.keep(ctx, id)
		}
		alive, err := s.run(ctx, "looking for the owner", s.userBury, []string{userKey(owner)}, address, seconds(buried))
		if err != nil {
			return err
		}
		if alive == 1 {
			return taken
		}
		from = owner
	}
	return storeFault("claiming the address", errors.New("the owner changed three times"))
}

func (s *store) keep(ctx context.Context, id string) error {
	kept, err := s.run(ctx, "keeping the user", s.userKeep, []string{userKey(id)})
	if err == nil && kept == 0 {
		err = storeFault("keeping the user", errors.New("gone since the registration began"))
	}
	return err
}

// owner returns the id that an address leads to, or "".
func (s *store) owner(ctx context.Context, email string) (string, error) {
	id, err := s.rdb.Get(ctx, emailKey(digest(email))).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", storeFault("looking up the address", err)
	}
	return id, nil
}

// user is what is known of a user's password.
type user struct {
	id         string
	password   string // PHC; empty: there is no such user
	generation string // raised by each change of the password
	operation  string // that last changed the password
}

// user returns what is there of the user; one that is not there is no error.
func (s *store) user(ctx context.Context, id string) (user, error) {
	values, err := s.rdb.HMGet(ctx, userKey(id), "password", "generation", "operation").Result()
	if err != nil {
		return user{}, storeFault("reading the user", err)
	}
	return user{id: id, password: text(values[0]), generation: text(values[1]), operation: text(values[2])}, nil
}

// text is the value of a field, "" if it is not there.
func text(value any) string {
	s, _ := value.(string)
	return s
}

// changePassword answers what password_change.lua does.
func (s *store) changePassword(ctx context.Context, u user, phc, operation string) (int, error) {
	return s.run(ctx, "changing the password", s.passwordChange,
		[]string{userKey(u.id), sessionsKey(u.id)}, u.generation, phc, operation)
}

// deleteUser deletes the user, the sessions and, if it is still theirs, the
// address. A user who is not there is no error.
func (s *store) deleteUser(ctx context.Context, id string) error {
	values, err := s.rdb.HMGet(ctx, userKey(id), "email", "gone").Result()
	if err != nil {
		return storeFault("reading the user", err)
	}
	address := text(values[1])
	if email := text(values[0]); email != "" {
		address = digest(email)
	}
	if address == "" {
		return nil
	}
	if _, err := s.run(ctx, "deleting the user", s.userDelete, []string{userKey(id), sessionsKey(id)}, address, seconds(buried)); err != nil {
		return err
	}
	_, err = s.run(ctx, "freeing the address", s.emailRelease, []string{emailKey(address)}, id)
	return err
}

// session is one session as it is stored.
type session struct {
	id                     string
	created, expires, used int64 // ms since 1970
	device                 string
}

func (r session) record() string {
	return fmt.Sprintf("%d %d %d %s", r.created, r.expires, r.used, r.device)
}

func parseSession(id, record string) (session, error) {
	parts := strings.SplitN(record, " ", 4)
	if len(parts) != 4 {
		return session{}, errors.New("a session's record is malformed")
	}
	r := session{id: id, device: parts[3]}
	for i, at := range []*int64{&r.created, &r.expires, &r.used} {
		n, err := strconv.ParseInt(parts[i], 10, 64)
		if err != nil {
			return session{}, fmt.Errorf("a session's record is malformed: %w", err)
		}
		*at = n
	}
	return r, nil
}

// startSession stores the session. false: the password is no longer the one
// that u was read with, or the user is gone.
func (s *store) startSession(ctx context.Context, u user, r session, idle time.Duration) (bool, error) {
	n, err := s.run(ctx, "starting a session", s.sessionCreate, []string{userKey(u.id), sessionsKey(u.id)},
		u.generation, r.id, r.record(), r.created, r.expires, idle.Milliseconds(), maxSessions)
	return n == 1, err
}

// useSession reports whether the session is live, and counts as use of it.
func (s *store) useSession(ctx context.Context, userID, sessionID string, now time.Time, idle time.Duration) (bool, error) {
	n, err := s.run(ctx, "looking up the session", s.sessionUse, []string{sessionsKey(userID)},
		sessionID, now.UnixMilli(), idle.Milliseconds(), markInterval.Milliseconds())
	return n == 1, err
}

// sessions returns the live sessions, newest first.
func (s *store) sessions(ctx context.Context, userID string, now time.Time, idle time.Duration) ([]session, error) {
	records, err := s.rdb.HGetAll(ctx, sessionsKey(userID)).Result()
	if err != nil {
		return nil, storeFault("listing the sessions", err)
	}
	var live []session
	for id, record := range records {
		r, err := parseSession(id, record)
		if err != nil {
			return nil, err
		}
		if at := now.UnixMilli(); at < r.expires && at-r.used < idle.Milliseconds() {
			live = append(live, r)
		}
	}
	slices.SortFunc(live, func(a, b session) int {
		return cmp.Or(cmp.Compare(b.created, a.created), strings.Compare(a.id, b.id))
	})
	return live, nil
}

func (s *store) endSession(ctx context.Context, userID, sessionID string) error {
	if err := s.rdb.HDel(ctx, sessionsKey(userID), sessionID).Err(); err != nil {
		return storeFault("ending the session", err)
	}
	return nil
}

func (s *store) endSessions(ctx context.Context, userID string) error {
	if err := s.rdb.Del(ctx, sessionsKey(userID)).Err(); err != nil {
		return storeFault("ending the sessions", err)
	}
	return nil
}
