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
	// endedFor is how long an end of sessions is remembered that nobody was told;
	// longer than a gateway takes any for good that it does not hear of.
	endedFor = 2 * time.Minute
	// readPatience is how long Redis may take to answer that nothing is new.
	readPatience = 300 * time.Millisecond
	// revocationsKey is the one key that all users share.
	revocationsKey = "revocations"
)

var (
	//go:embed *.lua
	scripts embed.FS

	// RedisRules are what a Redis user of the service needs, in the words of ACL:
	// its keys, its commands and those of its scripts, and no other.
	//
	//go:embed redis.acl
	RedisRules string
)

// RedisStore is a Store in Redis:
//
//	user:{<user id>}      hash: email, password (PHC), generation and operation of
//	                      the last password change, created (ms); or only
//	                      gone, of an id that was given up
//	sessions:{<user id>}  hash: session id → record
//	families:{<user id>}  hash: session id → how far its refresh tokens have come
//	ended:{<user id>}     the name of the last end of the user's sessions, until it
//	                      is in the stream
//	email:<digest>        the id of the user who has the address
//	revocations           stream: u, the id of a user whose sessions were ended;
//	                      l, the stream's name
//	limit:<bucket>        when the tries taken will be made up for (µs); bucket and
//	                      addresses as digests
//	limit:{<account>}     the same of who has not proved themselves to the account
//	limit:{<account>}:<address>        the same of one address
//	limit:{<account>}:proved:<address> of one that has
//
// A user's keys share a slot, so that each change of them is one script; the
// address lies elsewhere, so registration and deletion go in steps, in an order
// in which a crash leaves nothing wrong: an address that leads to no user is
// free. Sessions are ended before the stream says so, and nobody hears of an end
// that was not. The script that ends them leaves its name in the same step, behind
// what it ends: Redis lets a script that has freed memory write. Who ended them,
// and after a crash whoever repeats that or is refused for it, tells the stream,
// and only then is the name forgotten. So each end is told, and no number of
// refusals tells it for ever. Every error of Redis becomes Unavailable,
// store_unavailable.
type RedisStore struct {
	rdb redis.UniversalClient

	userCreate, userKeep, userBury, userDelete *redis.Script
	emailClaim, emailRelease                   *redis.Script
	passwordChange                             *redis.Script
	sessionCreate, sessionUse                  *redis.Script
	sessionEnd, sessionsEnd, endedTold         *redis.Script
	familyStart, familyRotate                  *redis.Script
	revocationAdd, revocationOpen              *redis.Script
	limitTake                                  *redis.Script
}

// NewRedisStore returns a store on rdb, which the caller closes.
func NewRedisStore(rdb redis.UniversalClient) *RedisStore {
	return &RedisStore{
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
		sessionEnd:     script("session_end.lua"),
		sessionsEnd:    script("sessions_end.lua"),
		endedTold:      script("ended_told.lua"),
		familyStart:    script("family_start.lua"),
		familyRotate:   script("family_rotate.lua"),
		revocationAdd:  script("revocation_add.lua"),
		revocationOpen: script("revocation_open.lua"),
		limitTake:      script("limit_take.lua"),
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
func familiesKey(id string) string  { return "families:{" + id + "}" }
func endedKey(id string) string     { return "ended:{" + id + "}" }
func emailKey(digest string) string { return "email:" + digest }
func limitKey(bucket string) string { return "limit:" + digest(bucket) }
func seconds(d time.Duration) int64 { return int64(d / time.Second) }
func storeFault(what string, err error) error {
	return redisconn.Unavailable(fmt.Errorf("%s: %w", what, err))
}

// run runs a script that answers a number.
func (s *RedisStore) run(ctx context.Context, what string, script *redis.Script, keys []string, args ...any) (int, error) {
	n, err := script.Run(ctx, s.rdb, keys, args...).Int()
	if err != nil {
		return 0, storeFault(what, err)
	}
	return n, nil
}

// Register is part of Store. A crash at any point leaves nothing that a repeat
// of it, or of another's for the same address, does not put right.
func (s *RedisStore) Register(ctx context.Context, id, email, phc string, now time.Time) error {
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

func (s *RedisStore) keep(ctx context.Context, id string) error {
	kept, err := s.run(ctx, "keeping the user", s.userKeep, []string{userKey(id)})
	if err == nil && kept == 0 {
		err = storeFault("keeping the user", errors.New("gone since the registration began"))
	}
	return err
}

// Owner is part of Store.
func (s *RedisStore) Owner(ctx context.Context, email string) (string, error) {
	id, err := s.rdb.Get(ctx, emailKey(digest(email))).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", storeFault("looking up the address", err)
	}
	return id, nil
}

// User is part of Store.
func (s *RedisStore) User(ctx context.Context, id string) (User, error) {
	values, err := s.rdb.HMGet(ctx, userKey(id), "password", "generation", "operation").Result()
	if err != nil {
		return User{}, storeFault("reading the user", err)
	}
	return User{ID: id, Password: text(values[0]), Generation: text(values[1]), Operation: text(values[2])}, nil
}

// text is the value of a field, "" if it is not there.
func text(value any) string {
	s, _ := value.(string)
	return s
}

// ChangePassword is part of Store.
func (s *RedisStore) ChangePassword(ctx context.Context, u User, phc, operation string) (Changed, error) {
	answer, err := s.end(ctx, "changing the password", s.passwordChange, u.ID,
		[]string{userKey(u.ID), sessionsKey(u.ID)}, u.Generation, phc, operation)
	return Changed(answer[0]), err
}

// DeleteUser is part of Store.
func (s *RedisStore) DeleteUser(ctx context.Context, id string) error {
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
	if _, err := s.end(ctx, "deleting the user", s.userDelete, id, []string{userKey(id), sessionsKey(id)}, address, seconds(buried)); err != nil {
		return err
	}
	_, err = s.run(ctx, "freeing the address", s.emailRelease, []string{emailKey(address)}, id)
	return err
}

func (r Session) record() string {
	return fmt.Sprintf("%d %d %d %s", r.Created, r.Expires, r.Used, r.Device)
}

func parseSession(id, record string) (Session, error) {
	parts := strings.SplitN(record, " ", 4)
	if len(parts) != 4 {
		return Session{}, errors.New("a session's record is malformed")
	}
	r := Session{ID: id, Device: parts[3]}
	for i, at := range []*int64{&r.Created, &r.Expires, &r.Used} {
		n, err := strconv.ParseInt(parts[i], 10, 64)
		if err != nil {
			return Session{}, fmt.Errorf("a session's record is malformed: %w", err)
		}
		*at = n
	}
	return r, nil
}

// StartSession is part of Store.
func (s *RedisStore) StartSession(ctx context.Context, u User, r Session, idle time.Duration) (bool, error) {
	answer, err := s.end(ctx, "starting a session", s.sessionCreate, u.ID, []string{userKey(u.ID), sessionsKey(u.ID)},
		u.Generation, r.ID, r.record(), r.Created, r.Expires, idle.Milliseconds(), MaxSessions)
	return answer[0] == 1, err
}

// UseSession is part of Store.
func (s *RedisStore) UseSession(ctx context.Context, userID, sessionID string, now time.Time, idle time.Duration) (time.Time, error) {
	answer, err := s.end(ctx, "looking up the session", s.sessionUse, userID, []string{sessionsKey(userID)},
		sessionID, now.UnixMilli(), idle.Milliseconds(), MarkInterval.Milliseconds())
	if err != nil || answer[0] == 0 {
		return time.Time{}, err
	}
	return time.UnixMilli(answer[0]), nil
}

// StartFamily is part of Store.
func (s *RedisStore) StartFamily(ctx context.Context, userID, sessionID string, now time.Time) error {
	_, err := s.run(ctx, "starting a family", s.familyStart, []string{sessionsKey(userID), familiesKey(userID)}, sessionID, now.UnixMilli())
	return err
}

// Rotate is part of Store.
func (s *RedisStore) Rotate(ctx context.Context, userID, sessionID string, n int64, now time.Time, idle, grace time.Duration) (Family, error) {
	answer, err := s.end(ctx, "rotating a refresh token", s.familyRotate, userID, []string{sessionsKey(userID), familiesKey(userID)},
		sessionID, n, now.UnixMilli(), idle.Milliseconds(), grace.Milliseconds())
	if err != nil || answer[0] <= 0 {
		return Family{Reused: answer[0] < 0}, err
	}
	return Family{N: answer[0], At: time.UnixMilli(answer[1]), Ends: time.UnixMilli(answer[2])}, nil
}

// Sessions is part of Store.
func (s *RedisStore) Sessions(ctx context.Context, userID string, now time.Time, idle time.Duration) ([]Session, error) {
	records, err := s.rdb.HGetAll(ctx, sessionsKey(userID)).Result()
	if err != nil {
		return nil, storeFault("listing the sessions", err)
	}
	var live []Session
	for id, record := range records {
		r, err := parseSession(id, record)
		if err != nil {
			return nil, err
		}
		if r.Live(now, idle) {
			live = append(live, r)
		}
	}
	slices.SortFunc(live, func(a, b Session) int {
		return cmp.Or(cmp.Compare(b.Created, a.Created), strings.Compare(a.ID, b.ID))
	})
	return live, nil
}

// EndSession is part of Store.
func (s *RedisStore) EndSession(ctx context.Context, userID, sessionID string) error {
	_, err := s.end(ctx, "ending the session", s.sessionEnd, userID, []string{sessionsKey(userID)}, sessionID)
	return err
}

// EndSessions is part of Store.
func (s *RedisStore) EndSessions(ctx context.Context, userID, except string) error {
	_, err := s.end(ctx, "ending the sessions", s.sessionsEnd, userID, []string{sessionsKey(userID)}, except)
	return err
}

// end runs a script that ends sessions of the user, or finds that they are over,
// and tells the stream of an end that is yet to be told. The script gets ended:{user
// id} behind its other keys, and behind its other arguments a name for the end and
// how long it is kept; it answers the name of the end to tell, ” for none, and up
// to three numbers.
func (s *RedisStore) end(ctx context.Context, what string, script *redis.Script, userID string, keys []string, args ...any) (numbers [3]int64, err error) {
	answer, err := script.Run(ctx, s.rdb, append(keys, endedKey(userID)), append(args, draw(idBytes), endedFor.Milliseconds())...).Slice()
	if err != nil {
		return numbers, storeFault(what, err)
	}
	if len(answer) < 1 || len(answer) > 1+len(numbers) {
		return numbers, fmt.Errorf("%s: the script answered %d values", what, len(answer))
	}
	for i, value := range answer[1:] {
		n, ok := value.(int64)
		if !ok {
			return numbers, fmt.Errorf("%s: the script answered %T", what, value)
		}
		numbers[i] = n
	}
	if name := text(answer[0]); name != "" {
		err = s.tell(ctx, userID, name)
	}
	return numbers, err
}

// tell announces an end and then forgets it, unless another has followed: that
// one's own announcement is yet to come.
func (s *RedisStore) tell(ctx context.Context, userID, name string) error {
	if err := s.announce(ctx, userID); err != nil {
		return err
	}
	_, err := s.run(ctx, "forgetting an end of sessions", s.endedTold, []string{endedKey(userID)}, name)
	return err
}

// announce writes to the stream that sessions of the user have ended.
func (s *RedisStore) announce(ctx context.Context, userID string) error {
	oldest := time.Now().Add(-keptRevocations).UnixMilli()
	err := s.revocationAdd.Run(ctx, s.rdb, []string{revocationsKey}, oldest, userID, draw(idBytes)).Err()
	if err != nil {
		return storeFault("announcing the end of sessions", err)
	}
	return nil
}

// ReadRevocations is part of Store.
func (s *RedisStore) ReadRevocations(ctx context.Context, after Position, wait time.Duration) ([]Revocation, error) {
	// A reader that hangs must notice: only what is read is told.
	ctx, cancel := context.WithTimeout(ctx, wait+readPatience)
	defer cancel()
	streams, err := s.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{revocationsKey, after.place()}, Count: page, Block: wait}).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, storeFault("reading the revocations", err)
	}
	var found []Revocation
	for _, entry := range streams[0].Messages {
		at, err := ParsePosition(entry.ID)
		if err != nil {
			return nil, fmt.Errorf("the revocations: %w", err)
		}
		at.Log = after.Log
		found = append(found, Revocation{At: at, UserID: text(entry.Values["u"])})
	}
	return found, nil
}

// LastRevocation is part of Store. A log that has no name yet gets one.
func (s *RedisStore) LastRevocation(ctx context.Context) (Position, error) {
	answer, err := s.revocationOpen.Run(ctx, s.rdb, []string{revocationsKey}, draw(idBytes)).StringSlice()
	if err != nil {
		return Position{}, storeFault("reading the last revocation", err)
	}
	if len(answer) != 2 {
		return Position{}, fmt.Errorf("the script that opens the revocations answered %d values", len(answer))
	}
	last, err := ParsePosition(answer[1])
	last.Log = answer[0]
	return last, err
}

// Take is part of Store.
func (s *RedisStore) Take(ctx context.Context, bucket string, l Limit) (time.Duration, error) {
	wait, err := s.run(ctx, "taking a try", s.limitTake, []string{limitKey(bucket)}, l.Each.Microseconds(), l.AtOnce)
	return time.Duration(wait) * time.Microsecond, err
}

// TakeLogIn is part of Store.
func (s *RedisStore) TakeLogIn(ctx context.Context, account, address string, l Limit) (time.Duration, error) {
	all, own, proof := accountKeys(account, address)
	wait, err := s.run(ctx, "taking a try at an account", s.limitTake, []string{own, all, proof},
		l.Each.Microseconds(), l.AtOnce, Strangers.Each.Microseconds(), Strangers.AtOnce, Lately.Milliseconds())
	return time.Duration(wait) * time.Microsecond, err
}

// Prove is part of Store.
func (s *RedisStore) Prove(ctx context.Context, account, address string) error {
	_, _, proof := accountKeys(account, address)
	if err := s.rdb.Set(ctx, proof, "", Proved).Err(); err != nil {
		return storeFault("noting who logged in", err)
	}
	return nil
}

// accountKeys are the keys of the tries at an account, in a slot of its own. An
// address is hashed with the account: what is kept for long tells nobody where a
// user has been.
func accountKeys(account, address string) (all, own, proof string) {
	all = "limit:{" + digest(account) + "}"
	address = digest(account + " " + address)
	return all, all + ":" + address, all + ":proved:" + address
}
