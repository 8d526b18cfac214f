// Package fault breaks a running shop on purpose, one fault after the other,
// and waits each time until the shop is whole again.
//
// The hazard is a fault that proves nothing, or too much: it must hit what it
// names, it must not take the last running replica of a role (that would be an
// outage that nobody claims to survive unseen), and a shop that does not become
// whole again must be an error, not the start of the next fault.
package fault

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"coatcheck/trial/history"
	"coatcheck/trial/local"
)

// The kinds of fault.
const (
	Kill      = "kill"       // SIGKILL
	Term      = "term"       // SIGTERM: it drains and is restarted
	Stop      = "stop"       // SIGSTOP, and SIGCONT 5 s later
	Roll      = "roll"       // every replica of a role is restarted, one after the other
	ScaleUp   = "scale-up"   // one more replica
	ScaleDown = "scale-down" // one drains and is gone
	RedisKill = "redis-kill" // SIGKILL
	RedisStop = "redis-stop" // held down for 2 s
	Cut       = "cut"        // nothing gets through between two roles
	Slow      = "slow"       // everything takes longer between two roles
	Rotate    = "rotate"     // of the signing keys: the next one is published, and signs 20 s later
	Other     = "command"    // whatever a command of the user does
)

// Bound is how long a fault may take until the shop is whole again.
const Bound = 30 * time.Second

const (
	stopFor      = 5 * time.Second
	redisDownFor = 2 * time.Second
	cutFor       = 1500 * time.Millisecond
	slowFor      = 2 * time.Second
	lookEvery    = 20 * time.Millisecond
)

// Shop is what a fault needs of a shop on this machine.
type Shop interface {
	Processes() []local.Process
	Kill(name string, sig syscall.Signal) error
	StopProcess(name string) error
	StartProcess(name string) error
	RotateKeys() (rotated bool, err error)
	AwaitReady(ctx context.Context) error
}

// Env is where faults happen. Both may be nil where no fault needs them.
type Env struct {
	Shop    Shop
	Network *Network
}

// Fault is one thing that goes wrong.
type Fault struct {
	Name   string // "kill -9 cart-2"
	Kind   string // one of the kinds above
	Target string // a process, a role, or two roles: "cart>redis"
	Class  history.Class
	// Takes is about how long Inject takes, and Gap how long the shop is left
	// alone afterwards.
	Takes, Gap time.Duration
	inject     func(context.Context, Env) error
}

// Inject makes the fault happen and returns when the shop is whole again, with
// an error if it could not be made or the shop is not whole within Bound.
func (f Fault) Inject(ctx context.Context, env Env) error {
	ctx, cancel := context.WithTimeout(ctx, Bound)
	defer cancel()
	if err := f.inject(ctx, env); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	return nil
}

// pause returns false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
