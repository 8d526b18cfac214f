package compare

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"coatcheck/trial/process"
)

// fleet is the replicas of a baseline.
type fleet struct {
	starter *process.Starter
	mu      sync.Mutex
	all     []*server
	closed  bool
}

type server struct {
	replica
	path  string
	env   []string
	log   *os.File
	held  bool // do not start it again
	cmd   *exec.Cmd
	ended chan struct{}
}

func openFleet(_ context.Context, r *run, state string) (*fleet, error) {
	f := &fleet{starter: r.starter}
	folder, err := os.MkdirTemp(r.work, state+"-")
	if err != nil {
		return nil, err
	}
	for i := range replicas + 1 {
		p := &server{path: filepath.Join(r.Bin, "stateful"), held: i == replicas}
		p.Name = "stateful-" + strconv.Itoa(i+1)
		ports, err := process.FreePorts(2)
		if err != nil {
			return nil, err
		}
		p.Address, p.Admin = ports[0], ports[1:]
		p.env = []string{
			"PATH=" + os.Getenv("PATH"),
			"COATCHECK_STATE=" + state,
			"COATCHECK_INSTANCE=" + p.Name,
			"COATCHECK_HTTP_ADDR=" + p.Address,
			"COATCHECK_ADMIN_ADDR=" + p.Admin[0],
			"COATCHECK_PLAIN_HTTP=true",
			"COATCHECK_DRAIN_DELAY=" + drainDelay.String(),
			"COATCHECK_STOP_TIMEOUT=" + stopTimeout.String(),
			"COATCHECK_SIGNING_KEYS_FILE=" + r.files.keys,
			"COATCHECK_CATALOGUE_FILE=" + r.files.catalogue,
			"COATCHECK_ACCOUNTS_FILE=" + r.files.accounts,
			"COATCHECK_MAX_LINES=" + strconv.Itoa(maxLines),
		}
		if p.log, err = os.Create(filepath.Join(folder, p.Name+".log")); err != nil {
			return nil, err
		}
		f.all = append(f.all, p)
	}
	for _, p := range f.all[:replicas] {
		if err := f.start(p); err != nil {
			f.Close()
			return nil, err
		}
	}
	for _, p := range f.all[:replicas] {
		if err := p.awaitReady(); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

func (f *fleet) start(p *server) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || p.cmd != nil {
		return nil
	}
	p.held = false
	cmd := exec.Command(p.path)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, p.log, p.log
	if err := f.starter.Start(cmd); err != nil {
		return err
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		_ = cmd.Wait()
		f.mu.Lock()
		p.cmd = nil
		again := !p.held
		f.mu.Unlock()
		close(ended)
		if again {
			time.Sleep(restartDelay)
			_ = f.start(p)
		}
	}()
	return nil
}

// stop ends the process in order and holds it down.
func (f *fleet) stop(p *server) {
	f.mu.Lock()
	p.held = true
	cmd, ended := p.cmd, p.ended
	f.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(drainDelay + stopTimeout + time.Second):
		_ = cmd.Process.Kill()
		<-ended
	}
}

func (f *fleet) Replicas() []replica {
	var list []replica
	for _, p := range f.all {
		list = append(list, p.replica)
	}
	return list
}

func (f *fleet) Kill(i int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all[i].cmd == nil {
		return errors.New("it does not run")
	}
	return f.all[i].cmd.Process.Kill()
}

func (f *fleet) Restart(i int) error {
	f.stop(f.all[i])
	if err := f.start(f.all[i]); err != nil {
		return err
	}
	return f.all[i].awaitReady()
}

func (f *fleet) Add() error {
	p := f.all[replicas]
	if err := f.start(p); err != nil {
		return err
	}
	return p.awaitReady()
}

func (f *fleet) Metrics() (admins []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.all {
		if p.cmd != nil {
			admins = append(admins, p.Admin...)
		}
	}
	return admins
}

func (f *fleet) PIDs() map[int]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	pids := map[int]string{}
	for _, p := range f.all {
		if p.cmd != nil {
			pids[p.cmd.Process.Pid] = "stateful"
		}
	}
	return pids
}

func (f *fleet) Programs() ([]string, int) { return []string{"stateful"}, len(f.PIDs()) }

func (f *fleet) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	var group sync.WaitGroup
	for _, p := range f.all {
		group.Go(func() {
			f.stop(p)
			_ = p.log.Close()
		})
	}
	group.Wait()
}

// awaitReady says with an error what the process said.
func (p *server) awaitReady() error {
	if err := awaitReadyAt(p.Admin); err != nil {
		log, _ := os.ReadFile(p.log.Name())
		return fmt.Errorf("%s: %w\n%s", p.Name, err, log)
	}
	return nil
}

func awaitReadyAt(admins []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for {
		err := readyAt(ctx, client, admins)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s never became ready: %w", strings.Join(admins, ", "), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
