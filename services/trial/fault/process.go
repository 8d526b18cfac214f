package fault

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"coatcheck/trial/history"
	"coatcheck/trial/local"
)

const (
	// settle is enough for gateways to find a replica that is back.
	settle = 300 * time.Millisecond
	// settleGateway keeps three gateways from dying within the two seconds in which
	// a client makes its three attempts: that nobody claims to survive.
	settleGateway = 900 * time.Millisecond
	// settleOutage is enough for clients to have noticed that an outage is over.
	settleOutage = time.Second
)

// classOf says who is hit when a process of the role is.
func classOf(role string) history.Class {
	switch role {
	case local.Gateway:
		return history.Gateway
	case local.Redis:
		return history.Outage
	}
	return history.Hidden
}

// end is a signal that ends a process, which is then started again.
func end(kind string, p local.Process) Fault {
	sig, word := syscall.SIGKILL, "kill -9 "
	if kind == Term {
		sig, word = syscall.SIGTERM, "kill -TERM "
	}
	f := Fault{Name: word + p.Name, Kind: kind, Target: p.Name, Class: classOf(p.Role), Takes: 3 * time.Second, Gap: settle}
	switch p.Role {
	case local.Redis:
		f.Kind, f.Gap = RedisKill, settleOutage
	case local.Gateway:
		f.Gap = settleGateway
	}
	f.inject = func(ctx context.Context, env Env) error {
		before, err := target(env.Shop, p.Name)
		if err != nil {
			return err
		}
		if err := env.Shop.Kill(p.Name, sig); err != nil {
			return err
		}
		return awaitReplaced(ctx, env.Shop, before)
	}
	return f
}

// freeze is SIGSTOP: the process neither answers nor hangs up.
func freeze(p local.Process) Fault {
	return Fault{
		Name: fmt.Sprintf("kill -STOP %s for %v", p.Name, stopFor), Kind: Stop, Target: p.Name, Class: classOf(p.Role),
		Takes: stopFor + time.Second, Gap: settle,
		inject: func(ctx context.Context, env Env) error {
			if _, err := target(env.Shop, p.Name); err != nil {
				return err
			}
			if err := env.Shop.Kill(p.Name, syscall.SIGSTOP); err != nil {
				return err
			}
			pause(ctx, stopFor)
			if err := env.Shop.Kill(p.Name, syscall.SIGCONT); err != nil {
				return err
			}
			return env.Shop.AwaitReady(ctx)
		},
	}
}

// roll restarts every replica of a role that runs, each once those before it serve.
func roll(role string) Fault {
	return Fault{
		Name: "rolling restart of " + role, Kind: Roll, Target: role, Class: classOf(role), Takes: 6 * time.Second, Gap: settle,
		inject: func(ctx context.Context, env Env) error {
			for _, p := range env.Shop.Processes() {
				if p.Role != role || p.State == local.Stopped {
					continue
				}
				if _, err := target(env.Shop, p.Name); err != nil {
					return err
				}
				if err := env.Shop.StopProcess(p.Name); err != nil {
					return err
				}
				if err := env.Shop.StartProcess(p.Name); err != nil {
					return err
				}
				if err := env.Shop.AwaitReady(ctx); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func scaleUp(p local.Process) Fault {
	return Fault{
		Name: "scale up by " + p.Name, Kind: ScaleUp, Target: p.Name, Class: classOf(p.Role), Takes: 2 * time.Second, Gap: settle,
		inject: func(ctx context.Context, env Env) error {
			now, err := find(env.Shop, p.Name)
			if err != nil {
				return err
			}
			if now.State != local.Stopped {
				return fmt.Errorf("it is %s already", now.State)
			}
			if err := env.Shop.StartProcess(p.Name); err != nil {
				return err
			}
			return env.Shop.AwaitReady(ctx)
		},
	}
}

func scaleDown(p local.Process) Fault {
	return Fault{
		Name: "scale down by " + p.Name, Kind: ScaleDown, Target: p.Name, Class: classOf(p.Role), Takes: 2 * time.Second, Gap: settle,
		inject: func(ctx context.Context, env Env) error {
			if _, err := target(env.Shop, p.Name); err != nil {
				return err
			}
			if err := env.Shop.StopProcess(p.Name); err != nil {
				return err
			}
			return env.Shop.AwaitReady(ctx)
		},
	}
}

// redisDown stops Redis in order and holds it down.
func redisDown() Fault {
	return Fault{
		Name: fmt.Sprintf("redis down for %v", redisDownFor), Kind: RedisStop, Target: local.Redis, Class: history.Outage,
		Takes: redisDownFor + 2*time.Second, Gap: settleOutage,
		inject: func(ctx context.Context, env Env) error {
			if err := env.Shop.StopProcess(local.Redis); err != nil {
				return err
			}
			pause(ctx, redisDownFor)
			if err := env.Shop.StartProcess(local.Redis); err != nil {
				return err
			}
			return env.Shop.AwaitReady(ctx)
		},
	}
}

// rotate gives the shop its next signing key, once the one before it has come to
// sign. That is over at once, so that others are hit before the new key signs.
func rotate() Fault {
	return Fault{
		Name: "rotation of the signing keys", Kind: Rotate, Target: local.Auth, Class: history.Hidden, Takes: time.Second, Gap: settle,
		inject: func(ctx context.Context, env Env) error {
			for {
				rotated, err := env.Shop.RotateKeys()
				if err != nil {
					return err
				}
				if rotated {
					return env.Shop.AwaitReady(ctx)
				}
				if !pause(ctx, lookEvery) {
					return errors.New("the key before it does not come to sign")
				}
			}
		},
	}
}

var errLast = errors.New("it is the last running replica of its role")

func find(shop Shop, name string) (local.Process, error) {
	for _, p := range shop.Processes() {
		if p.Name == name {
			return p, nil
		}
	}
	return local.Process{}, errors.New("there is no such process")
}

// target looks for a process that may be taken: it runs, and (Redis has no
// replicas) so does another one of its role.
func target(shop Shop, name string) (local.Process, error) {
	p, err := find(shop, name)
	if err != nil {
		return p, err
	}
	if p.State != local.Running {
		return p, fmt.Errorf("it is %s", p.State)
	}
	if p.Role == local.Redis {
		return p, nil
	}
	for _, other := range shop.Processes() {
		if other.Role == p.Role && other.Name != name && other.State == local.Running {
			return p, nil
		}
	}
	return p, errLast
}

// awaitReplaced returns nil once another process runs in before's place and the
// shop is ready.
func awaitReplaced(ctx context.Context, shop Shop, before local.Process) error {
	for {
		now, err := find(shop, before.Name)
		if err != nil {
			return err
		}
		if now.State == local.Running && (now.PID != before.PID || now.Start != before.Start) {
			return shop.AwaitReady(ctx)
		}
		if !pause(ctx, lookEvery) {
			return errors.New("it did not come back")
		}
	}
}
