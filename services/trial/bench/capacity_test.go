package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestChart: what capacity is reckoned with is what the chart ships.
func TestChart(t *testing.T) {
	content, err := os.ReadFile("../../../helm/coatcheck/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	top := ""
	for line := range strings.Lines(string(content)) {
		line = strings.TrimRight(line, "\n")
		if name, _, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "#") {
			top = name
		}
		found[top+" "+strings.TrimSpace(line)] = true
	}
	for _, s := range chart {
		for _, want := range []string{
			fmt.Sprintf("%s maxReplicas: %.0f", s.role, s.maxReplicas),
			fmt.Sprintf("%s targetCPUUtilizationPercentage: %.0f", s.role, 100*s.target),
		} {
			if !found[want] {
				t.Errorf("the chart has no %q", want)
			}
		}
		requests := false
		for line := range found {
			requests = requests || strings.HasPrefix(line, fmt.Sprintf("%s requests: { cpu: %.0fm,", s.role, s.requestMilli))
		}
		if !requests {
			t.Errorf("the chart does not request %.0fm for %s", s.requestMilli, s.role)
		}
	}
	for _, want := range []string{
		fmt.Sprintf("redis maxMemoryMiB: %d", chartRedisMiB),
		fmt.Sprintf("gateway limits: { memory: %dMi, ephemeral-storage: 256Mi }", chartGatewayMiB),
	} {
		if !found[want] {
			t.Errorf("the chart has no %q", want)
		}
	}
}

// measured is a run in which an add costs 100 µs and a read 50 µs of each role.
func measured() *Report {
	block := func(us float64) Block {
		return Block{CPU: map[string]float64{"gateway": us, "auth": 0, "cart": us, "redis": us / 4}}
	}
	compared := func(key string, us float64) *Comparison {
		return &Comparison{Key: key, Rounds: []Round{{A: block(us), B: block(us), Kept: true}}}
	}
	return &Report{
		Comparisons: []*Comparison{compared("add", 100), compared("read", 50), compared("half", 200), compared("always", 140)},
		Memory:      []Memory{{Lines: 3, Cart: 250, Record: 200}, {Lines: 10, Cart: 350, Record: 200}},
		Gateway:     &Connections{N: 1000, Before: 30 << 20, After: 40 << 20},
		Growth: []Growth{
			{Of: "tickets", Size: 10, CPU: map[string]float64{"gateway": 90, "auth": 1}}, {Of: "tickets", Size: 100, CPU: map[string]float64{"gateway": 96, "auth": 81}},
			{Of: "lines", Size: 500, CPU: map[string]float64{"gateway": 900}},
		},
	}
}

func TestCapacity(t *testing.T) {
	c, err := measured().costs()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ got, want float64 }{
		"an add is taken at half of the maximum":  {c.add["cart"], 200},
		"a read is scaled as the add is":          {c.read["cart"], 100},
		"those not known cost a gateway more":     {c.add["gateway"], 206},
		"in reads as well":                        {c.read["gateway"], 106},
		"and auth":                                {c.read["auth"], 80},
		"an add goes to disk":                     {c.add["redis"], 50 + 10},
		"cores of 1,000 changes and 4,000 reads":  {c.cores("cart", 1000), 0.6},
		"Redis, carts and ten minutes of records": {c.redisBytes(1e6, 100), 250e6 + 60_000*200},
		"the wall of ten pods of 50m":             {c.walls(0)[2].changes, 0.35 / 600e-6},
		"the wall of Redis' core":                 {c.walls(0)[3].changes, 1 / 160e-6},
		"its memory":                              {c.walls(0)[4].changes, 300 * mib / 600 / 200},
		"its memory when it is full of carts":     {c.walls(1e8)[4].changes, 0},
		"connections of a gateway pod":            {c.held(), (0.9*192 - 30) * 100},
	} {
		if diff := tt.got - tt.want; diff > 1e-6*tt.want || diff < -1e-6*tt.want {
			t.Errorf("%s: %v, want %v", name, tt.got, tt.want)
		}
	}
	if got := nearest(c.walls(1e8)).what; got != "300 MiB of Redis" {
		t.Errorf("the first wall is %s", got)
	}
	r := measured()
	r.Memory = nil
	if _, err := r.capacity(); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("without a measurement of memory: %v", err)
	}
}

// TestWriteCapacity: only what is between the markers changes, and a second time nothing does.
func TestWriteCapacity(t *testing.T) {
	dir := t.TempDir()
	content, err := json.Marshal(measured())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bench.json"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(dir, "page.md")
	if err := os.WriteFile(page, []byte("before\n"+capacityBegin+"STALE\n"+capacityEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var last string
	for range 2 {
		if err := WriteCapacity(dir, page); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := string(got)
		if !strings.HasPrefix(text, "before\n"+capacityBegin) || !strings.HasSuffix(text, capacityEnd+"after\n") || strings.Contains(text, "STALE") {
			t.Errorf("the page is\n%s", text)
		}
		if last != "" && text != last {
			t.Errorf("the second time it is\n%s", text)
		}
		last = text
	}
	if err := os.WriteFile(page, []byte("no markers\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteCapacity(dir, page); err == nil {
		t.Error("a page without markers was written")
	}
	real, err := os.ReadFile("../CAPACITY.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(real), capacityBegin) || !strings.Contains(string(real), capacityEnd) {
		t.Error("the page in the repository has no markers")
	}
}
