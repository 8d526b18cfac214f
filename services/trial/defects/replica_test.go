package defects

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"coatcheck/chassis"
)

// replica is a process of the shop, as far as one can be had in this process:
// what chassis.Run runs, on an address that stays its own.
type replica struct {
	name, addr string
	// open makes what a new process would: nothing is left of the one before.
	open func(name string) (chassis.Service, error)
	part chassis.Part
	term context.CancelFunc
	end  chan error
}

// startBound is how long a replica may take to listen, or to end.
const startBound = 20 * time.Second

// settle gives the replica an address and starts it. The port is below those
// that kernels choose, so that nobody else gets it while the replica is down.
func (r *replica) settle() error {
	for deadline := time.Now().Add(startBound); ; {
		r.addr = fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(9_000))
		lis, err := net.Listen("tcp", r.addr)
		if err == nil {
			err = lis.Close()
		}
		if err == nil {
			err = r.start()
		}
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return err
		}
	}
}

// start returns when the replica listens.
func (r *replica) start() error {
	s, err := r.open(r.name)
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.Name, s.Addr = r.name, r.addr
	r.part, r.term, r.end = s.Part, cancel, make(chan error, 1)
	go func(end chan error) { end <- chassis.Run(ctx, s) }(r.end)
	for deadline := time.Now().Add(startBound); ; {
		conn, err := net.Dial("tcp", r.addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case err := <-r.end:
			return fmt.Errorf("%s does not start: %w", r.name, err)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not listen: %w", r.name, err)
		}
	}
}

// kill is kill -9, as its clients see it: listener and connections close at
// once, and calls under way are given up wherever they are.
func (r *replica) kill() {
	r.part.Close()
	r.term()
}

// stop is SIGTERM. It returns when the replica has ended.
func (r *replica) stop() error {
	r.term()
	select {
	case <-r.end:
		return nil
	case <-time.After(startBound):
		return fmt.Errorf("%s does not end after %v", r.name, syscall.SIGTERM)
	}
}
