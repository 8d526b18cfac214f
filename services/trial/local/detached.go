package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"
)

const (
	upTimeout   = 30 * time.Second
	downTimeout = 3*stopGrace + 2*time.Second
)

// Up starts a shop that outlives this process: program is run with arguments
// supervise, -port, -state and -bin, and must call Supervise. Up returns when
// the shop serves, and says so on out. A shop that runs already is no error.
func Up(ctx context.Context, program string, o Options, out io.Writer) error {
	lock, err := lockState(o.State)
	if errors.Is(err, errRunning) {
		return upAlready(ctx, o, out)
	}
	if err != nil {
		return err
	}
	// What is missing is better said here than in a log.
	err = o.check()
	if err == nil {
		if lis, listenErr := listenPublic(o.Port); listenErr == nil {
			_ = lis.Close()
		} else {
			err = listenErr
		}
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(o.State, "log"), 0o700)
	}
	_ = lock.Close()
	if err != nil {
		return err
	}

	logPath := filepath.Join(o.State, "log", "supervisor.log")
	log, err := os.OpenFile(logPath, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("the supervisor's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	args := []string{"supervise", "-port", strconv.Itoa(o.Port), "-state", o.State, "-bin", o.Bin}
	if o.Watch != "" {
		args = append(args, "-watch", o.Watch)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the supervisor: %w", err)
	}
	ended, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	go func() {
		_ = cmd.Wait()
		cancel()
	}()
	shop, err := awaitUp(ended, o.State, cmd.Process.Pid)
	if err != nil {
		if why := lastLine(logPath); ended.Err() != nil && why != "" {
			err = fmt.Errorf("%w\n  supervisor: %s", err, why)
		}
		for _, p := range shop.Processes {
			if p.Restarts > 0 {
				err = fmt.Errorf("%w\n  %s ended %d times: %s", err, p.Name, p.Restarts, lastLine(filepath.Join(o.State, "log", p.Name+".log")))
			}
		}
		_ = Down(o.State, io.Discard)
		return fmt.Errorf("%w\n  logs: %s", err, filepath.Join(o.State, "log"))
	}
	fmt.Fprintf(out, "The shop is open: http://%s\n", shop.Address)
	hints(ctx, shop, out)
	return nil
}

func upAlready(ctx context.Context, o Options, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	if err := awaitReady(ctx, func() (info, error) { return readInfo(o.State) }); err != nil {
		return err
	}
	shop, err := readInfo(o.State)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "The shop is open already: http://%s\n", shop.Address)
	if o.Watch != "" && shop.watch() == "" {
		fmt.Fprintln(out, "It runs without a Prometheus: close it first to open it with one.")
	}
	hints(ctx, shop, out)
	return nil
}

// awaitUp waits for the shop that the supervisor with this pid runs; it gives up
// early on a process that can't stay up. The last look is returned with the error.
func awaitUp(ctx context.Context, state string, pid int) (info, error) {
	var last info
	loops, cancel := context.WithCancel(ctx)
	defer cancel()
	err := awaitReady(loops, func() (info, error) {
		shop, err := readInfo(state)
		if err != nil || shop.Supervisor.PID != pid {
			return shop, errors.New("the supervisor has not started it")
		}
		last = shop
		for _, p := range shop.Processes {
			if p.Restarts >= 3 {
				cancel()
				return shop, fmt.Errorf("%s does not stay up", p.Name)
			}
		}
		return shop, nil
	})
	return last, err
}

// hints prints what to try next.
func hints(ctx context.Context, shop info, out io.Writer) {
	url := "http://" + shop.Address
	fmt.Fprintf(out, "A browser shows there who served you.\n")
	if watch := shop.watch(); watch != "" {
		fmt.Fprintf(out, "Prometheus watches it: http://%s\n", watch)
	}
	fmt.Fprintf(out, "Try, with a cookie jar that carries the ticket:\n")
	curl := "  curl -s -b /tmp/coatcheck.jar -c /tmp/coatcheck.jar "
	fmt.Fprintf(out, "%s%s/v1/cart\n", curl, url)
	fmt.Fprintf(out, "%s-H 'Content-Type: application/json' -d '{\"items\": [{\"sku\": %q, \"quantity\": 2}]}' %s/v1/cart/items\n", curl, firstSKU(ctx, url), url)
	fmt.Fprintf(out, "%s-i %s/v1/cart    # again and again: Served-By changes, the cart does not\n", curl, url)
}

func firstSKU(ctx context.Context, url string) string {
	const fallback = "mug-01"
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/products", nil)
	if err != nil {
		return fallback
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fallback
	}
	defer func() { _ = resp.Body.Close() }()
	var list struct {
		Products []struct {
			SKU string `json:"sku"`
		} `json:"products"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&list); err != nil || len(list.Products) == 0 {
		return fallback
	}
	return list.Products[0].SKU
}

// Supervise runs a shop until ctx ends, then stops it in order.
func Supervise(ctx context.Context, o Options) error {
	shop, err := Start(o)
	if err != nil {
		return err
	}
	o.Log.Info("open", "addr", shop.Address())
	<-ctx.Done()
	shop.Close()
	o.Log.Info("closed")
	return nil
}

// Down stops the shop of a state folder, or what a crashed supervisor left of
// it, and says on out what it did. Where nothing runs it does nothing. The data
// stay.
func Down(state string, out io.Writer) error {
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(out, "No shop is running.")
		return nil
	}
	var told owner // the supervisor that was asked to stop
	var shop info
	lock, err := lockState(state)
	for deadline := time.Now().Add(downTimeout); errors.Is(err, errRunning); lock, err = lockState(state) {
		now, readErr := readInfo(state)
		switch {
		case readErr != nil || !now.Supervisor.alive():
		case time.Now().After(deadline):
			_ = syscall.Kill(now.Supervisor.PID, syscall.SIGKILL)
		case now.Supervisor != told:
			told, shop = now.Supervisor, now
			_ = syscall.Kill(told.PID, syscall.SIGTERM)
		}
		if time.Now().After(deadline.Add(5 * time.Second)) {
			return errors.New("the shop does not stop: its supervisor can't be ended")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	told.awaitEnd(2 * time.Second)
	left, readErr := readInfo(state)
	ended := 0
	if readErr == nil {
		ended = endLeftovers(left)
	}
	removeInfo(state)
	switch {
	case told.PID != 0 && readErr != nil:
		fmt.Fprintf(out, "Stopped the shop on http://%s: %d processes, in order. The data stay in %s.\n", shop.Address, len(shop.Processes), filepath.Join(state, "data"))
	case readErr == nil && ended == 0:
		fmt.Fprintln(out, "Cleaned up after a supervisor that did not end in order; its processes had ended with it.")
	case readErr == nil:
		fmt.Fprintf(out, "Cleaned up after a supervisor that did not end in order: %d processes were left and were killed.\n", ended)
	default:
		fmt.Fprintln(out, "No shop is running.")
	}
	return nil
}

// endLeftovers kills those processes of a shop without supervisor that still
// run, waits for their end, and returns how many there were.
func endLeftovers(shop info) int {
	ended := 0
	for _, p := range shop.Processes {
		process := owner{PID: p.PID, Start: p.Start}
		if !process.alive() {
			continue
		}
		ended++
		_ = syscall.Kill(p.PID, syscall.SIGKILL)
		process.awaitEnd(5 * time.Second)
	}
	return ended
}

// List prints the processes of the shop of a state folder, and how each does at
// this moment.
func List(ctx context.Context, state string, out io.Writer) error {
	shop, err := readInfo(state)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(out, "No shop is running.")
		return nil
	}
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "ROLE\tNAME\tPID\tADDRESS\tRESTARTS\tSTATE")
	state = "gone: make down cleans up"
	if shop.Supervisor.alive() {
		state = Running
	}
	fmt.Fprintf(table, "supervisor\tpublic address\t%d\t%s\t0\t%s\n", shop.Supervisor.PID, shop.Address, state)
	for _, p := range shop.Processes {
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%d\t%s\n", p.Role, p.Name, p.PID, p.Address, p.Restarts, condition(ctx, p))
	}
	return table.Flush()
}

// condition is what a process says of itself now, or how it is known to be.
func condition(ctx context.Context, p Process) string {
	if p.State != Running {
		return p.State
	}
	if !(owner{PID: p.PID, Start: p.Start}).alive() {
		return "gone"
	}
	url := p.readyURL()
	if url == "" {
		return Running
	}
	if err := get(ctx, url); err != nil {
		return "not ready"
	}
	return "ready"
}

// lastLine is the last line of a log, shortened, or "".
func lastLine(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	last := lines[len(lines)-1]
	return string(last[:min(len(last), 300)])
}
