package fault

import (
	"slices"
	"strings"
	"testing"

	"coatcheck/trial/history"
	"coatcheck/trial/local"
)

// first takes up to n faults.
func first(s Scenario, seed uint64, n int) []Fault {
	var faults []Fault
	for f := range s.Faults(seed, newShop(3, s.Spares).Processes()) {
		if faults = append(faults, f); len(faults) == n {
			break
		}
	}
	return faults
}

func names(faults []Fault) []string {
	var all []string
	for _, f := range faults {
		all = append(all, f.Name)
	}
	return all
}

func TestSameSeedSameFaults(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Scenarios() {
		if seen[s.Name] || s.About == "" || strings.Contains(s.About, "\n") || s.Length == 0 {
			t.Errorf("%+v", s)
		}
		seen[s.Name] = true
		if found, ok := Named(s.Name); !ok || found.About != s.About {
			t.Errorf("%s is not found by its name", s.Name)
		}
		once, again := names(first(s, 7, 200)), names(first(s, 7, 200))
		if !slices.Equal(once, again) {
			t.Errorf("%s: the same seed gives\n%v\n%v", s.Name, once, again)
		}
		if other := names(first(s, 8, 200)); len(once) > 0 && slices.Equal(once, other) {
			t.Errorf("%s: another seed gives the same", s.Name)
		}
	}
	if _, ok := Named("nothing"); ok {
		t.Error("a scenario that is not there was found")
	}
}

// TestNoScenarioTakesTheLast follows who would run.
func TestNoScenarioTakesTheLast(t *testing.T) {
	for _, s := range Scenarios() {
		for seed := range uint64(20) {
			shop := newShop(3, s.Spares)
			for _, f := range first(s, seed, 300) {
				p, err := find(shop, f.Target)
				if err != nil || p.Role == local.Redis {
					continue
				}
				if f.Kind == ScaleUp {
					if p.State != local.Stopped {
						t.Fatalf("%s: %s, which is %s", s.Name, f.Name, p.State)
					}
					_ = shop.StartProcess(p.Name)
					continue
				}
				if _, err := target(shop, p.Name); err != nil {
					t.Fatalf("%s: %s: %v", s.Name, f.Name, err)
				}
				if f.Kind == ScaleDown {
					_ = shop.StopProcess(p.Name)
				}
				running := slices.DeleteFunc(shop.Processes(), func(o local.Process) bool { return o.Role != p.Role || o.State != local.Running })
				if len(running) < 3 {
					t.Fatalf("%s: %s leaves %d", s.Name, f.Name, len(running))
				}
			}
		}
	}
}

func TestWhatScenariosAreMadeOf(t *testing.T) {
	count := func(faults []Fault, holds func(Fault) bool) int {
		return len(slices.DeleteFunc(slices.Clone(faults), func(f Fault) bool { return !holds(f) }))
	}
	for seed := range uint64(10) {
		demo := first(Scenarios()[0], seed, 1000)
		if len(demo) < 40 || len(demo) > 60 {
			t.Errorf("demo has %d faults", len(demo))
		}
		for _, kind := range []string{Kill, Term, Stop, Roll, ScaleUp, ScaleDown, RedisKill, RedisStop, Cut, Slow} {
			if count(demo, func(f Fault) bool { return f.Kind == kind }) == 0 {
				t.Errorf("demo has no %s", kind)
			}
		}
		var parts []history.Class
		for _, f := range demo {
			parts = append(parts, f.Class)
		}
		if parts = slices.Compact(parts); !slices.Equal(parts, []history.Class{history.Hidden, history.Gateway, history.Outage}) {
			t.Errorf("demo's parts are %v", parts)
		}
		for _, p := range newShop(3, 0).list {
			if count(demo, func(f Fault) bool {
				return f.Target == p.Name && (f.Kind == Kill || f.Kind == RedisKill || f.Kind == ScaleDown)
			}) == 0 {
				t.Errorf("demo never takes %s", p.Name)
			}
		}
	}
	classes := map[string][]history.Class{
		"hidden": {history.Hidden}, "processes": {history.Hidden, history.Gateway}, "rolling": {history.Hidden, history.Gateway},
		"redis": {history.Outage}, "network": {history.Outage}, "rotation": {history.Hidden, history.Gateway}, "long": {history.Hidden, history.Gateway, history.Outage},
	}
	for name, want := range classes {
		s, _ := Named(name)
		faults := first(s, 1, 300)
		for _, class := range []history.Class{history.Hidden, history.Gateway, history.Outage} {
			if n := count(faults, func(f Fault) bool { return f.Class == class }); (n > 0) != slices.Contains(want, class) {
				t.Errorf("%s has %d faults of class %s", name, n, class)
			}
		}
	}
	// What long promises, it keeps if a fault takes what it does on a slow machine.
	s, _ := Named("long")
	faults := first(s, 1, 800)
	if n := count(faults, func(f Fault) bool { return strings.HasPrefix(f.Name, "kill -9") }); n < 600 {
		t.Errorf("of 800 faults of long, %d are kills", n)
	}
	s, _ = Named("rotation")
	faults = first(s, 1, s.LeastFaults)
	kills := count(faults, func(f Fault) bool { return f.Kind == Kill })
	if rotations := count(faults, func(f Fault) bool { return f.Kind == Rotate }); kills < 500 || rotations < 20 || kills+rotations != len(faults) {
		t.Errorf("of %d faults of rotation, %d are kills and %d rotations", len(faults), kills, rotations)
	}
	if none, _ := Named("none"); len(first(none, 1, 1)) > 0 {
		t.Error("none has a fault")
	}
}
