package redisstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"strconv"

	"github.com/redis/go-redis/v9"

	"coatcheck/cart"
	"coatcheck/chassis/redisconn"
)

// constants are arguments of change.lua that no call changes: made for each, they
// would be an allocation each.
type constants struct{ window, guestLife, userLife, quantity, lines any }

var (
	evalSHA, changeSHA any = "evalsha", changeScript.Hash()
	eval, changeText   any = "eval", changeLua
	two                any = 2 // keys

	fullForm, linesForm any = "f", "l"
)

// changing is the run of change.lua that makes a change, by the script's hash.
// Its arguments point into the change.
func (s *Store) changing(ctx context.Context, owner cart.Owner, c cart.Change) *redis.StringCmd {
	form := fullForm
	if c.Minimal {
		form = linesForm
	}
	life := s.constant.userLife
	if owner.Guest() {
		life = s.constant.guestLife
	}
	text := &struct{ key, record, kind, fingerprint, incarnation, condition string }{
		record: recordKey(owner, c.Key), kind: string(c.Kind), incarnation: newIncarnation(), condition: condition(c.Operation),
	}
	text.key = cartKeyIn(text.record, owner)
	fingerprint := c.Fingerprint()
	text.fingerprint = string(fingerprint[:])
	args := make([]any, 0, 14+2*len(c.Lines))
	args = append(args, evalSHA, changeSHA, two, &text.key, &text.record, &text.kind, &text.fingerprint, s.constant.window, life,
		&text.incarnation, &text.condition, s.constant.quantity, s.constant.lines, form)
	for i := range c.Lines {
		args = append(args, &c.Lines[i].SKU, &c.Lines[i].Quantity)
	}
	return redis.NewStringCmd(ctx, args...)
}

// lost reports whether the server does not have the script, so that nothing was done.
func lost(run *redis.StringCmd) bool {
	return run.Err() != nil && redis.HasErrorPrefix(run.Err(), "NOSCRIPT")
}

// withText is the same run by the script's text.
func withText(ctx context.Context, run *redis.StringCmd) *redis.StringCmd {
	args := run.Args()
	args[0], args[1] = eval, changeText
	return redis.NewStringCmd(ctx, args...)
}

// change makes a change in a round trip of its own.
func (s *Store) change(ctx context.Context, owner cart.Owner, c cart.Change) (answer, error) {
	run := s.changing(ctx, owner, c)
	_ = s.rdb.Process(ctx, run) // it has its own error
	if lost(run) {
		run = withText(ctx, run)
		_ = s.rdb.Process(ctx, run)
	}
	return answerOf(run)
}

// answerOf is what a run of change.lua answered.
func answerOf(run *redis.StringCmd) (answer, error) {
	raw, err := run.Result()
	if err != nil {
		return answer{}, redisconn.Unavailable(err)
	}
	return parseAnswer(raw)
}

func cartKey(o cart.Owner) string             { return "cart:{" + string(o) + "}" }
func orderKey(o cart.Owner, id string) string { return "order:{" + string(o) + "}:" + id }
func ordersKey(o cart.Owner) string           { return "orders:{" + string(o) + "}" }

// recordKey begins with the cart's key.
func recordKey(o cart.Owner, key string) string {
	sum := sha256.Sum256([]byte(key))
	return "cart:{" + string(o) + "}:op:" + string(sum[:16])
}

// cartKeyIn is the cart's key, which the key of the owner's record begins with.
func cartKeyIn(recordKey string, o cart.Owner) string { return recordKey[:len("cart:{}")+len(o)] }

// newIncarnation returns 48 random bits in 8 characters. No one gains by guessing
// them: they only must differ from those of the owner's carts before. So what is
// drawn for each change, needed or not, takes no system call.
func newIncarnation() string {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	return base64.RawURLEncoding.EncodeToString(b[:6])
}

// condition is a list of versions as the scripts search it.
func condition(op cart.Operation) string {
	if !op.Conditional {
		return ""
	}
	list := make([]byte, 0, 64)
	list = append(list, ',')
	for _, v := range op.Versions {
		list = append(append(list, v.Incarnation...), '.')
		list = append(strconv.AppendUint(list, v.Number, 10), ',')
	}
	return string(list)
}
