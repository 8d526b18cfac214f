package auth

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/measuretest"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// widest is how wide an interval of times may be that still says something.
const widest = 0.1

// TestUnknownUsersTakeAsLong: how long a refusal takes does not tell whether there
// is such a user. The interval of the median difference, of log-ins in turn, contains
// 0 or stays under 2 % of the median. A machine that has other things to do makes the
// interval wide, and never moves it: so twice as many are measured until it is narrower
// than 4 %, for a minute at most. One that is wide even then passes for what it says,
// unless that is next to nothing.
func TestUnknownUsersTakeAsLong(t *testing.T) {
	server, emails := timed(t)
	var known, unknown []time.Duration
	began := time.Now()
	for n := 300; ; n *= 2 {
		more, others := sample(t, server, emails, n-len(known))
		known, unknown = append(known, more...), append(unknown, others...)
		low, high := medianDifference(known, unknown)
		took := time.Since(began)
		t.Logf("after %d of each, %v: %+.2f %% to %+.2f %% of %v", n, took.Round(time.Second), 100*low, 100*high, median(slices.Clone(known)))
		last := 2*took > time.Minute
		switch {
		case untold(low, high) && (high-low < 0.04 || last && high-low < widest):
			return
		case last && untold(low, high):
			t.Fatalf("the machine is too noisy to tell: the interval is %.0f %% wide", 100*(high-low))
		case last:
			t.Fatal("unknown users can be told by the time that a refusal takes")
		}
	}
}

// TestTimeTells: the test above sees a service that does less for unknown users.
func TestTimeTells(t *testing.T) {
	server, emails := timed(t)
	server.passwords.decoy.memory -= server.passwords.decoy.memory / 4
	known, unknown := sample(t, server, emails, 600)
	if low, high := medianDifference(known, unknown); untold(low, high) {
		t.Errorf("a quarter less work is not seen: %+.2f %% to %+.2f %%", 100*low, 100*high)
	}
}

// TestNobodysPassword: what stands in for it costs as much as users' passwords, and
// is never the same.
func TestNobodysPassword(t *testing.T) {
	h := newHasher(1, newCost)
	salts, keys := map[string]bool{}, map[string]bool{}
	for range 10 {
		c, salt, key, err := parsePHC(h.nobodys())
		if err != nil || c != newCost || len(salt) != hashSalt || len(key) != hashKey {
			t.Fatalf("%+v, %d and %d bytes, %v", c, len(salt), len(key), err)
		}
		salts[string(salt)], keys[string(key)] = true, true
	}
	if len(salts) != 10 || len(keys) != 10 {
		t.Errorf("of 10 there are %d salts and %d keys", len(salts), len(keys))
	}
}

// timed returns a service whose hash is much cheaper than that of a shop, so that
// it hides less of the rest; the way is the same. It has many users, since the salt
// of one alone makes a percent of difference.
func timed(t *testing.T) (server *Server, emails []string) {
	t.Helper()
	measuretest.Costs(t)
	server = newServer(t, startRedis(t).client(t), time.Now)
	server.passwords = newHasher(1, cost{memory: 2 << 10, passes: 1, threads: 1})
	for range 100 {
		email := newEmail()
		_, err := server.Register(t.Context(), &authv1.RegisterRequest{UserId: newUserID(), Email: email, Password: goodPassword})
		ok(t, err)
		emails = append(emails, email)
	}
	return server, emails
}

// sample times n refusals of known users and n of unknown ones, one of each in
// turn, in an order that nobody knows.
func sample(t *testing.T, server *Server, emails []string, n int) (known, unknown []time.Duration) {
	t.Helper()
	refuse := func(email string) time.Duration {
		began := time.Now()
		_, err := server.LogIn(context.Background(), &authv1.LogInRequest{Email: email, Password: "wrong password"})
		took := time.Since(began)
		want(t, err, fault.Unauthenticated, "wrong_credentials")
		return took
	}
	for range n {
		email, other := emails[rand.IntN(len(emails))], newEmail()
		if rand.IntN(2) == 0 {
			known = append(known, refuse(email))
			unknown = append(unknown, refuse(other))
		} else {
			unknown = append(unknown, refuse(other))
			known = append(known, refuse(email))
		}
	}
	return known, unknown
}

// untold is the claim: the interval contains 0, or all of it is under 2 %.
func untold(low, high float64) bool { return low <= 0 && high >= 0 || low > -0.02 && high < 0.02 }

// medianDifference returns the 99.9 % interval of the median of b − a, as parts of
// a's median: that of the sign test, which assumes of each pair only that chance
// decided which of the two was measured first. How fast the machine was at that time
// moves both, and how that changes from pair to pair does not matter.
func medianDifference(a, b []time.Duration) (low, high float64) {
	const z = 3.29 // quantile of the normal distribution that is the binomial's limit
	differences := make([]time.Duration, len(a))
	for i := range a {
		differences[i] = b[i] - a[i]
	}
	slices.Sort(differences)
	n := float64(len(a))
	tail := int((n - z*math.Sqrt(n)) / 2)
	whole := float64(median(slices.Clone(a)))
	return float64(differences[tail]) / whole, float64(differences[len(a)-1-tail]) / whole
}

// median sorts the values.
func median(values []time.Duration) time.Duration {
	slices.Sort(values)
	return values[len(values)/2]
}

// A difference of 8 % is seen through noise of 10 %, and one of half a percent is
// none, on a machine that is steady and on one that is now slower by up to so much
// and now faster.
func TestMedianDifference(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) // of others, one in a thousand is seen wrongly, as it must be
	for _, slower := range []float64{0, 3} {
		draw := func(shift float64) []time.Duration {
			values := make([]time.Duration, 2000)
			for i := range values {
				values[i] = time.Duration(1e6 * (1 + shift + 0.1*random.ExpFloat64()) * (1 + slower*float64(i%100)/100))
			}
			return values
		}
		for _, shift := range []float64{0.005, 0.08, -0.08} {
			want := shift == 0.005
			if low, high := medianDifference(draw(0), draw(shift)); low > high || high-low > 0.06 || untold(low, high) != want {
				t.Errorf("slower by up to %v: a difference of %v is seen as %v to %v", slower, shift, low, high)
			}
		}
	}
}
