package auth

import (
	"context"
	"math"
	"time"

	"coatcheck/chassis/fault"
)

// Limits counts tries, for all replicas at once.
type Limits interface {
	// Take takes a try from the bucket, or answers how long until there is one.
	Take(ctx context.Context, bucket string, l Limit) (time.Duration, error)

	// TakeLogIn is Take for a try at an account from an address, of which l is
	// taken, see guard. Accounts that do not exist are counted as others are.
	TakeLogIn(ctx context.Context, account, address string, l Limit) (time.Duration, error)

	// Prove notes that whoever logs in from the address knew the password.
	Prove(ctx context.Context, account, address string) error
}

// Limit is a number of tries at once, and the time in which one comes back.
type Limit struct {
	AtOnce int
	Each   time.Duration
}

// perMinute is the limit of n a minute; 0 is none.
func perMinute(n int) Limit {
	if n == 0 {
		return Limit{}
	}
	return Limit{AtOnce: n, Each: time.Minute / time.Duration(n)}
}

const (
	// Lately is how long an address that has not proved to know an account's
	// password counts as one that has tried.
	Lately = 10 * time.Minute
	// Proved is how long one that has is remembered.
	Proved = 30 * 24 * time.Hour
)

// Strangers is what all addresses together may try at one account that have not
// proved to know its password, before each must wait.
var Strangers = Limit{AtOnce: 20, Each: 3 * time.Minute}

// guard is the limits of who tries passwords.
//
// The hazards are two. Passwords are guessed: many at one account from one place
// (logIns, tries), one each at many accounts (logIns), many at one account from
// many places (Strangers). And an account is shut by whoever fails at it often
// enough: so an address from which somebody has logged in within thirty days is
// counted alone, and no failures of others slow it; and any other address has one
// try in ten minutes at every account, whatever others do. What a stranger elsewhere
// can take from a user is the second try from where they have never been. Those who
// share an address share its tries, too: nothing tells them apart.
//
// A try is taken before the password is looked at, and counts when it was right
// too: tries at the same moment are as dear as those in a row.
type guard struct {
	limits        Limits
	logIns        Limit // of an address
	tries         Limit // of an address at one account, and of a user at their own password
	registrations Limit // of an address
}

func newGuard(s Settings, limits Limits) guard {
	return guard{
		limits: limits,
		logIns: perMinute(s.LogInRate), tries: perMinute(s.AccountLogInRate), registrations: perMinute(s.RegistrationRate),
	}
}

// register admits a registration from an address.
func (g guard) register(ctx context.Context, address string) error {
	return g.take(ctx, "register:"+address, g.registrations, "too_many_registrations")
}

// logIn admits a try at the account with this e-mail address.
func (g guard) logIn(ctx context.Context, email, address string) error {
	err := g.take(ctx, "login:"+address, g.logIns, "too_many_logins")
	if err != nil || g.tries.AtOnce == 0 {
		return err
	}
	wait, err := g.limits.TakeLogIn(ctx, email, address, g.tries)
	return exhausted(wait, err, "too_many_tries")
}

// proved is told of a try that was right.
func (g guard) proved(ctx context.Context, email, address string) error {
	if g.tries.AtOnce == 0 {
		return nil
	}
	return g.limits.Prove(ctx, email, address)
}

// change admits a try at a user's own password. Only who has a session of theirs
// can take it from them.
func (g guard) change(ctx context.Context, userID string) error {
	return g.take(ctx, "change:"+userID, g.tries, "too_many_tries")
}

func (g guard) take(ctx context.Context, bucket string, l Limit, code string) error {
	if l.AtOnce == 0 {
		return nil
	}
	wait, err := g.limits.Take(ctx, bucket, l)
	return exhausted(wait, err, code)
}

// limitWords are the limits as codes and metrics have them.
var limitWords = map[string]string{
	"too_many_logins":        "Too many log-ins from this address.",
	"too_many_tries":         "Too many tries at this account.",
	"too_many_registrations": "Too many registrations from this address.",
}

func exhausted(wait time.Duration, err error, code string) error {
	if err != nil || wait <= 0 {
		return err
	}
	f := fault.New(fault.Exhausted, code, "%s Try again in %.0f s.", limitWords[code], math.Ceil(wait.Seconds()))
	f.After = wait
	return f
}
