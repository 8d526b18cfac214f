package auth

import (
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/chassis/fault"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

func TestRegisterInterrupted(t *testing.T) {
	server, now := startRedis(t), time.Now()
	rdb := server.client(t)
	whole := NewRedisStore(rdb)
	ctx := t.Context()
	phc, err := cheapHasher(1).hash(ctx, goodPassword)
	ok(t, err)
	replica := newCheapServer(t, rdb, time.Now)

	// interrupted starts a registration on a replica that dies.
	interrupted := func(t *testing.T, c *crash, id, email string) {
		err := NewRedisStore(server.client(t, c.hook())).Register(ctx, id, email, phc, now)
		if c.happened {
			want(t, err, fault.Unavailable, "store_unavailable")
		} else {
			ok(t, err)
		}
	}
	kept := func(t *testing.T, id, email string) {
		t.Helper()
		if left := rdb.TTL(ctx, userKey(id)).Val(); left != -1 {
			t.Fatalf("the user is kept for %v, want for ever", left)
		}
		resp, err := replica.LogIn(ctx, &authv1.LogInRequest{Email: email, Password: goodPassword})
		ok(t, err)
		if resp.GetUserId() != id {
			t.Fatalf("logged in as %s, want %s", resp.GetUserId(), id)
		}
	}

	t.Run("same id", func(t *testing.T) {
		crashes(t, func(t *testing.T, c *crash) {
			id, email := newUserID(), newEmail()
			interrupted(t, c, id, email)
			ok(t, whole.Register(ctx, id, email, phc, now))
			kept(t, id, email)
		})
	})
	t.Run("same id after the hour", func(t *testing.T) {
		crashes(t, func(t *testing.T, c *crash) {
			id, email := newUserID(), newEmail()
			interrupted(t, c, id, email)
			server.Age(t, unfinished)
			ok(t, whole.Register(ctx, id, email, phc, now))
			kept(t, id, email)
		})
	})
	t.Run("another id", func(t *testing.T) {
		crashes(t, func(t *testing.T, c *crash) {
			id, other, email := newUserID(), newUserID(), newEmail()
			interrupted(t, c, id, email)
			if owner := rdb.Get(ctx, emailKey(digest(email))).Val(); owner != "" {
				want(t, whole.Register(ctx, other, email, phc, now), fault.Conflict, "email_taken")
				ok(t, whole.Register(ctx, id, email, phc, now))
				kept(t, id, email)
			} else {
				ok(t, whole.Register(ctx, other, email, phc, now))
				want(t, whole.Register(ctx, id, email, phc, now), fault.Conflict, "email_taken")
				kept(t, other, email)
			}
		})
	})
	t.Run("another id after the hour", func(t *testing.T) {
		crashes(t, func(t *testing.T, c *crash) {
			id, other, email := newUserID(), newUserID(), newEmail()
			interrupted(t, c, id, email)
			server.Age(t, unfinished)
			if rdb.Exists(ctx, userKey(id)).Val() == 1 { // only the last answer was lost
				want(t, whole.Register(ctx, other, email, phc, now), fault.Conflict, "email_taken")
				kept(t, id, email)
				return
			}
			ok(t, whole.Register(ctx, other, email, phc, now))
			want(t, whole.Register(ctx, id, email, phc, now), fault.Conflict, "email_taken")
			kept(t, other, email)
		})
	})
	t.Run("log in instead", func(t *testing.T) {
		crashes(t, func(t *testing.T, c *crash) {
			id, email := newUserID(), newEmail()
			interrupted(t, c, id, email)
			if rdb.Exists(ctx, emailKey(digest(email))).Val() == 1 {
				_, err := replica.LogIn(ctx, &authv1.LogInRequest{Email: email, Password: goodPassword})
				ok(t, err)
				kept(t, id, email)
			}
		})
	})
	t.Run("taking over a dead address", func(t *testing.T) {
		crashes(t, func(t *testing.T, c *crash) {
			dead, id, other, email := newUserID(), newUserID(), newUserID(), newEmail()
			ok(t, rdb.Set(ctx, emailKey(digest(email)), dead, 0).Err())
			interrupted(t, c, id, email)
			server.Age(t, unfinished)
			if rdb.Exists(ctx, userKey(id)).Val() == 1 {
				want(t, whole.Register(ctx, other, email, phc, now), fault.Conflict, "email_taken")
				kept(t, id, email)
				return
			}
			ok(t, whole.Register(ctx, other, email, phc, now))
			kept(t, other, email)
		})
	})
}

// TestRegisterRaces runs registrations of one address in every order of their
// commands: one of them gets it, and nobody else believes so.
func TestRegisterRaces(t *testing.T) {
	server, now := startRedis(t), time.Now()
	rdb := server.client(t)
	ctx := t.Context()
	var ids [2]string
	var email string
	register := func(i int) func(redis.UniversalClient) error {
		return func(rdb redis.UniversalClient) error {
			return NewRedisStore(rdb).Register(ctx, ids[i], email, "phc", now)
		}
	}
	remove := func(rdb redis.UniversalClient) error { return NewRedisStore(rdb).DeleteUser(ctx, ids[0]) }

	// owns reports whether the user is there for good and has the address.
	owns := func(id string) bool {
		return rdb.TTL(ctx, userKey(id)).Val() == -1 && rdb.HExists(ctx, userKey(id), "email").Val() &&
			rdb.Get(ctx, emailKey(digest(email))).Val() == id
	}
	oneWins := func(order []int, results []error) {
		winners := 0
		for i, err := range results {
			if err == nil {
				winners++
			} else if fault.From(err).Code != "email_taken" && fault.From(err).Code != "store_unavailable" {
				t.Errorf("order %v: user %d: %v", order, i, err)
			}
			if (err == nil) != owns(ids[i]) {
				t.Errorf("order %v: user %d was answered %v, and that they have the address is %v", order, i, err, owns(ids[i]))
			}
		}
		if winners != 1 {
			t.Errorf("order %v: %d winners: %v", order, winners, results)
		}
	}
	fresh := func() { ids, email = [2]string{newUserID(), newUserID()}, newEmail() }

	t.Run("new address", func(t *testing.T) {
		explore(t, server, []func(redis.UniversalClient) error{register(0), register(1)}, fresh, oneWins)
	})
	t.Run("address of a dead user", func(t *testing.T) {
		explore(t, server, []func(redis.UniversalClient) error{register(0), register(1)}, func() {
			fresh()
			ok(t, rdb.Set(ctx, emailKey(digest(email)), newUserID(), 0).Err())
		}, oneWins)
	})
	t.Run("the dead user comes back", func(t *testing.T) {
		explore(t, server, []func(redis.UniversalClient) error{register(0), register(1)}, func() {
			fresh()
			ok(t, rdb.Set(ctx, emailKey(digest(email)), ids[0], 0).Err())
		}, oneWins)
	})
	t.Run("the hour passes meanwhile", func(t *testing.T) {
		lapse := redis.NewScript("if redis.call('TTL', KEYS[1]) > 0 then redis.call('DEL', KEYS[1]) end")
		ok(t, lapse.Load(ctx, rdb).Err())
		hour := func(rdb redis.UniversalClient) error {
			if err := lapse.Run(ctx, rdb, []string{userKey(ids[0])}).Err(); err != redis.Nil {
				return err
			}
			return nil
		}
		explore(t, server, []func(redis.UniversalClient) error{register(0), register(1), hour}, fresh, func(order []int, results []error) {
			winners := 0
			for i, id := range ids {
				if (results[i] == nil) != owns(id) {
					t.Errorf("order %v: user %d was answered %v, and that they have the address is %v", order, i, results[i], owns(id))
				}
				if results[i] == nil {
					winners++
				}
			}
			if winners > 1 {
				t.Errorf("order %v: both have the address", order)
			}
			if winners == 0 { // the other repeats
				ok(t, register(1)(rdb))
			}
		})
	})
	t.Run("deleted meanwhile", func(t *testing.T) {
		explore(t, server, []func(redis.UniversalClient) error{remove, register(1)}, func() {
			fresh()
			ok(t, register(0)(rdb))
		}, func(order []int, results []error) {
			if results[0] != nil || rdb.HExists(ctx, userKey(ids[0]), "email").Val() {
				t.Errorf("order %v: not deleted: %v", order, results[0])
			}
			if (results[1] == nil) != owns(ids[1]) {
				t.Errorf("order %v: answered %v, and that they have the address is %v", order, results[1], owns(ids[1]))
			}
			if results[1] != nil {
				ok(t, register(1)(rdb))
			}
		})
	})
	t.Run("many at once", func(t *testing.T) {
		for range 20 {
			email := newEmail()
			var group sync.WaitGroup
			results := make([]error, 16)
			for i := range results {
				group.Go(func() { results[i] = NewRedisStore(rdb).Register(ctx, newUserID(), email, "phc", now) })
			}
			group.Wait()
			winners := 0
			for _, err := range results {
				if err == nil {
					winners++
				} else {
					want(t, err, fault.Conflict, "email_taken")
				}
			}
			if winners != 1 {
				t.Fatalf("%d winners", winners)
			}
		}
	})
}

// TestDeleteInterrupted: a deletion that is done again finishes, and leaves
// nothing that stays.
func TestDeleteInterrupted(t *testing.T) {
	server := startRedis(t)
	rdb := server.client(t)
	whole, ctx := NewRedisStore(rdb), t.Context()
	crashes(t, func(t *testing.T, c *crash) {
		id, email := newUserID(), newEmail()
		ok(t, whole.Register(ctx, id, email, "phc", time.Now()))
		ok(t, rdb.HSet(ctx, sessionsKey(id), "session", "1 2 3 x").Err())
		err := NewRedisStore(server.client(t, c.hook())).DeleteUser(ctx, id)
		if c.happened {
			want(t, err, fault.Unavailable, "store_unavailable")
		}
		if exists := rdb.HExists(ctx, userKey(id), "email").Val(); exists != (rdb.Exists(ctx, sessionsKey(id)).Val() == 1) {
			t.Fatalf("user there: %v, but sessions not the same", exists)
		}
		ok(t, whole.DeleteUser(ctx, id))
		keys, err := rdb.Keys(ctx, "*").Result()
		ok(t, err)
		for _, key := range keys {
			if key != revocationsKey && rdb.TTL(ctx, key).Val() <= 0 {
				t.Errorf("%s stays", key)
			}
		}
	})
	// An address that has gone to another is not freed.
	id, other, email := newUserID(), newUserID(), newEmail()
	ok(t, whole.Register(ctx, id, email, "phc", time.Now()))
	ok(t, rdb.Set(ctx, emailKey(digest(email)), other, 0).Err())
	ok(t, whole.DeleteUser(ctx, id))
	if owner := rdb.Get(ctx, emailKey(digest(email))).Val(); owner != other {
		t.Fatalf("the address is %q's, want %q's", owner, other)
	}
}
