package redisstore

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"coatcheck/cart"
	"coatcheck/chassis/redisconn"
)

// A guest's cart and a user's cart lie in different slots, so a merge is five
// steps, each one script, each harmless to repeat:
//
//	1 hold    guest's slot  the guest's cart no longer expires
//	2 intend  user's slot   an intent under a merge id names the guest's cart
//	3 seal    guest's slot  no more changes; the first merge id to seal has the cart
//	4 apply   user's slot   the intent is consumed and the lines are added
//	5 bury    guest's slot  the sealed cart becomes a tombstone
//
// Exactly once, because a merge id is used for one intent only, only the merge
// that sealed the cart can apply it, and applying consumes the intent in the
// same step. Sealed with its intent gone means applied. Whoever finds a step
// undone in a cart that it touches goes on from there.
var (
	//go:embed merge_hold.lua
	holdLua string
	//go:embed merge_intend.lua
	intendLua string
	//go:embed merge_seal.lua
	sealLua string
	//go:embed merge_apply.lua
	applyLua string
	//go:embed merge_bury.lua
	buryLua string

	holdScript   = redis.NewScript(holdLua)
	intendScript = redis.NewScript(intendLua)
	sealScript   = redis.NewScript(sealLua)
	applyScript  = redis.NewScript(applyLua)
	buryScript   = redis.NewScript(buryLua)
)

// merge is one run of a merge: what an intent says, and what the state of a
// held or sealed guest's cart says but for the incarnation.
type merge struct {
	id          string // mergeIDSize random bytes
	guest, user cart.Owner
	incarnation string // of the guest's cart
}

const (
	mergeIDSize = 12
	ownerSize   = len("g_") + 22
)

// parseGuestState reads "h" or "s", merge id, user.
func parseGuestState(guest cart.Owner, state string) (merge, error) {
	if len(state) != 1+mergeIDSize+ownerSize {
		return merge{}, fmt.Errorf("guest state of %d bytes", len(state))
	}
	return merge{id: state[1 : 1+mergeIDSize], guest: guest, user: cart.Owner(state[1+mergeIDSize:])}, nil
}

// parseIntent reads a field "@m" merge id, and its value: guest, incarnation.
func parseIntent(user cart.Owner, field, value string) (merge, error) {
	if len(field) != len("@m")+mergeIDSize || len(value) <= ownerSize {
		return merge{}, fmt.Errorf("merge intent of %d and %d bytes", len(field), len(value))
	}
	return merge{id: field[len("@m"):], user: user, guest: cart.Owner(value[:ownerSize]), incarnation: value[ownerSize:]}, nil
}

// Merge is part of cart.Store.
func (s *Store) Merge(ctx context.Context, guest, user cart.Owner) error {
	var id [mergeIDSize]byte
	_, _ = rand.Read(id[:])
	m := merge{id: string(id[:]), guest: guest, user: user}
	held, err := s.run(ctx, holdScript, guest, m.id, string(user), s.GuestCartLife.Milliseconds())
	if err != nil {
		return err
	}
	if len(held) != 2 {
		return fmt.Errorf("hold script answered %d values", len(held))
	}
	switch text(held[0]) {
	case "moved":
		return nil
	case "sealed":
		other, err := parseGuestState(guest, text(held[1]))
		if err != nil {
			return err
		}
		return s.complete(ctx, other)
	}
	m.incarnation = text(held[1])
	intended, err := intendScript.Run(ctx, s.rdb, []string{cartKey(user)}, m.id, string(guest)+m.incarnation).Int()
	if err != nil {
		return redisconn.Unavailable(err)
	}
	if intended == 0 {
		return cart.ErrClosed
	}
	return s.complete(ctx, m)
}

// complete goes on with a merge from wherever it stands: steps 3 to 5.
func (s *Store) complete(ctx context.Context, m merge) error {
	sealed, err := s.run(ctx, sealScript, m.guest, m.id, string(m.user), m.incarnation)
	if err != nil {
		return err
	}
	if len(sealed) == 0 {
		return fmt.Errorf("seal script answered nothing")
	}
	switch text(sealed[0]) {
	case "gone":
		return s.apply(ctx, m, nil)
	case "other":
		other, err := parseGuestState(m.guest, text(sealed[1]))
		if err != nil {
			return err
		}
		if err := s.complete(ctx, other); err != nil {
			return err
		}
		return s.apply(ctx, m, nil)
	}
	var lines []any
	for i := 1; i+1 < len(sealed); i += 2 {
		if field := text(sealed[i]); !strings.HasPrefix(field, "@") {
			lines = append(lines, field, sealed[i+1])
		}
	}
	if err := s.apply(ctx, m, lines); err != nil {
		return err
	}
	return s.do(ctx, buryScript, m.guest, "s"+m.id+string(m.user), s.GuestCartLife.Milliseconds())
}

// apply is step 4; without lines it gives the intent up.
func (s *Store) apply(ctx context.Context, m merge, lines []any) error {
	args := append([]any{m.id, s.life(m.user), newIncarnation()}, lines...)
	return s.do(ctx, applyScript, m.user, args...)
}

// completeMerges completes the merges that a cart showed traces of.
func (s *Store) completeMerges(ctx context.Context, owner cart.Owner) error {
	// What change.lua answers shows no merge ids, and either may be stale.
	h, err := s.read(ctx, owner)
	if err != nil || !h.merging() {
		return err
	}
	if owner.Guest() {
		return s.completeGuest(ctx, owner, h.guest)
	}
	for _, i := range h.intents {
		m, err := parseIntent(owner, i.field, i.value)
		if err != nil {
			return err
		}
		if err := s.complete(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// completeGuest completes the merge that holds or has sealed a guest's cart. A
// hold without an intent is a merge that died before its second step, or that is
// just taking it: there is nothing to complete.
func (s *Store) completeGuest(ctx context.Context, guest cart.Owner, state string) error {
	m, err := parseGuestState(guest, state)
	if err != nil {
		return err
	}
	if strings.HasPrefix(state, "s") {
		return s.complete(ctx, m)
	}
	field := "@m" + m.id
	intent, err := s.rdb.HMGet(ctx, cartKey(m.user), field).Result()
	if err != nil {
		return redisconn.Unavailable(err)
	}
	if intent[0] == nil {
		return nil
	}
	if m, err = parseIntent(m.user, field, text(intent[0])); err != nil {
		return err
	}
	return s.complete(ctx, m)
}

func (s *Store) run(ctx context.Context, script *redis.Script, owner cart.Owner, args ...any) ([]any, error) {
	out, err := script.Run(ctx, s.rdb, []string{cartKey(owner)}, args...).Slice()
	if err != nil {
		return nil, redisconn.Unavailable(err)
	}
	return out, nil
}

func (s *Store) do(ctx context.Context, script *redis.Script, owner cart.Owner, args ...any) error {
	if err := script.Run(ctx, s.rdb, []string{cartKey(owner)}, args...).Err(); err != nil {
		return redisconn.Unavailable(err)
	}
	return nil
}
