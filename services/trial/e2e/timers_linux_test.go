package e2e_test

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coatcheck/chassis"
	"coatcheck/trial/local"
)

// timerSlack is that of a thread, or of a process' first.
func timerSlack(t *testing.T, id string) time.Duration {
	t.Helper()
	text, err := os.ReadFile("/proc/" + id + "/timerslack_ns")
	if err != nil {
		t.Fatal(err)
	}
	slack, err := time.ParseDuration(strings.TrimSpace(string(text)) + "ns")
	if err != nil {
		t.Fatal(err)
	}
	return slack
}

// TestServicesSlackTimers: each thread of a service lets its sleeps end late.
func TestServicesSlackTimers(t *testing.T) {
	info, err := buildinfo.ReadFile(filepath.Join(bin, "gateway"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" && s.Value != "0" {
			t.Skip("these services use cgo, where it can't be set for all threads")
		}
	}
	if timerSlack(t, "self") == chassis.TimerSlack {
		t.Fatal("what this process has, its children have without doing anything")
	}
	shop, _ := openShop(t)
	roles := map[string]bool{}
	for _, p := range shop.Processes() {
		if !slices.Contains([]string{local.Gateway, local.Auth, local.Cart}, p.Role) {
			continue
		}
		roles[p.Role] = true
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID))
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			if got := timerSlack(t, thread.Name()); got != chassis.TimerSlack {
				t.Errorf("%s: thread %s of process %d has a slack of %v, want %v", p.Name, thread.Name(), p.PID, got, chassis.TimerSlack)
			}
		}
	}
	if len(roles) != 3 {
		t.Errorf("only %v were looked at", roles)
	}
}
