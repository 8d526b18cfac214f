package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/cart"
)

// patience is how long what one server of a cluster has answered waits for what
// the others will.
const patience = 20 * time.Millisecond

// Batch is part of cart.Batcher: one pipeline for each server. What finds a merge
// to complete takes more than that; and the steps of a server that is slower than
// another by patience are left to calls by themselves.
func (s *Store) Batch(ctx context.Context, steps []*cart.Step) {
	shards := s.shards(ctx, steps)
	if len(shards) == 1 {
		s.batch(ctx, steps)
		return
	}
	came := make(chan func(), len(shards)) // each sets the outcomes of a shard
	for _, shard := range shards {
		mine := make([]*cart.Step, len(shard)) // this may end when nobody waits any more
		for i, step := range shard {
			mine[i] = &cart.Step{Owner: step.Owner, Change: step.Change}
			step.Result, step.Err, step.Apart = cart.Result{}, nil, true
		}
		go func() {
			s.batch(ctx, mine)
			came <- func() {
				for i, step := range shard {
					*step = *mine[i]
				}
			}
		}()
	}
	var late <-chan time.Time
	for range shards {
		select {
		case set := <-came:
			set()
		case <-late:
			return
		}
		if late == nil {
			late = time.After(s.patience)
		}
	}
}

// shards parts the steps by the server that has their carts, as far as that is known.
func (s *Store) shards(ctx context.Context, steps []*cart.Step) [][]*cart.Step {
	cluster, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		return [][]*cart.Step{steps}
	}
	var shards [][]*cart.Step
	at := map[*redis.Client]int{}
	for _, step := range steps {
		server, _ := cluster.MasterForKey(ctx, cartKey(step.Owner))
		i, known := at[server]
		if !known {
			i = len(shards)
			at[server] = i
			shards = append(shards, nil)
		}
		shards[i] = append(shards[i], step)
	}
	return shards
}

// batch makes the steps in one pipeline. On a cluster, go-redis follows carts that
// have moved.
func (s *Store) batch(ctx context.Context, steps []*cart.Step) {
	sent := make([]sending, len(steps))
	pipe := s.rdb.Pipeline()
	for i, step := range steps {
		sent[i] = s.queue(ctx, pipe, step)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	s.sendAgain(ctx, steps, sent)
	for i, step := range steps {
		step.Result, step.Apart, step.Err = sent[i].came()
	}
}

// sending is the commands of one step: a reading, or a run of the script.
type sending struct {
	reading
	run *redis.StringCmd
}

func (s *Store) queue(ctx context.Context, p redis.Pipeliner, step *cart.Step) sending {
	if step.Change == nil {
		return sending{reading: queueReading(ctx, p, step.Owner)}
	}
	run := s.changing(ctx, step.Owner, *step.Change)
	_ = p.Process(ctx, run)
	return sending{run: run}
}

// sendAgain is for a server that has lost the script, or never had it: the changes
// that it did not make are sent once more, in their order and with the script,
// and with them what came after one of them for the same cart.
func (s *Store) sendAgain(ctx context.Context, steps []*cart.Step, sent []sending) {
	var pipe redis.Pipeliner
	var missed map[cart.Owner]bool
	for i, step := range steps {
		switch run := sent[i].run; {
		case run == nil && missed[step.Owner]:
			sent[i] = s.queue(ctx, pipe, step)
		case run != nil && lost(run):
			if missed == nil {
				pipe, missed = s.rdb.Pipeline(), map[cart.Owner]bool{}
			}
			missed[step.Owner] = true
			sent[i].run = withText(ctx, run)
			_ = pipe.Process(ctx, sent[i].run)
		}
	}
	if missed != nil {
		_, _ = pipe.Exec(ctx)
	}
}

// came is what came of the step.
func (s sending) came() (result cart.Result, apart bool, err error) {
	if s.run == nil {
		h, err := s.reading.hash()
		if err != nil || h.merging() {
			return result, err == nil, err
		}
		if err := h.refusal(); err != nil {
			return result, false, err
		}
		result.Cart, err = h.cart()
		return result, false, err
	}
	a, err := answerOf(s.run)
	if err != nil || a.hash.merging() {
		return result, err == nil, err
	}
	result, err = a.result()
	return result, false, err
}
