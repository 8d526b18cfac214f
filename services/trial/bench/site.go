package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/chassis"
	"coatcheck/trial/local"
	"coatcheck/trial/process"
)

// program is one process of a site.
type program struct {
	role  string
	pid   int
	admin string // where /metrics is, "" for a Redis
}

// site is one server that is measured, with all that it needs to answer.
type site struct {
	name     string
	addrs    []string // connections go to them in turn
	programs func() []program
	redis    *redis.Client // its store; nil for one that has none
	newGuest func(*conn) (cookie string, err error)
	scrape   map[string]float64 // allocations of one scrape, by role
	close    func()
}

func (s *site) addr(i int) string { return s.addrs[i%len(s.addrs)] }

// cpu is what the processes have used so far, by role.
func (s *site) cpu() (map[string]time.Duration, error) {
	all := map[string]time.Duration{}
	for _, p := range s.programs() {
		used, err := process.CPU(p.pid)
		if err != nil {
			return nil, err
		}
		all[p.role] += used
	}
	return all, nil
}

// transfer is what the processes have read and written so far, by role.
func (s *site) transfer() (map[string]process.Transfer, error) {
	all := map[string]process.Transfer{}
	for _, p := range s.programs() {
		t, err := process.IO(p.pid)
		if err != nil {
			return nil, err
		}
		sum := all[p.role]
		all[p.role] = process.Transfer{Reads: sum.Reads + t.Reads, Writes: sum.Writes + t.Writes, BytesRead: sum.BytesRead + t.BytesRead, BytesWritten: sum.BytesWritten + t.BytesWritten}
	}
	return all, nil
}

// resident is the processes' memory in RAM, in bytes, by role: the largest of each.
func (s *site) resident() (map[string]int64, error) {
	all := map[string]int64{}
	for _, p := range s.programs() {
		n, err := process.Resident(p.pid)
		if err != nil {
			return nil, err
		}
		all[p.role] = max(all[p.role], n)
	}
	return all, nil
}

// mallocs is how many objects each role has allocated so far, as its Go runtime says.
func (s *site) mallocs(ctx context.Context) (map[string]float64, error) {
	all := map[string]float64{}
	for _, p := range s.programs() {
		if p.admin == "" {
			continue
		}
		n, err := metric(ctx, "http://"+p.admin+"/metrics", "go_memstats_mallocs_total")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.role, err)
		}
		all[p.role] += n
	}
	return all, nil
}

// calibrate finds what asking for mallocs costs itself.
func (s *site) calibrate(ctx context.Context) error {
	const times = 5
	first, err := s.mallocs(ctx)
	if err != nil {
		return err
	}
	last := first
	for range times {
		if last, err = s.mallocs(ctx); err != nil {
			return err
		}
	}
	s.scrape = map[string]float64{}
	for role, n := range last {
		s.scrape[role] = (n - first[role]) / times
	}
	return nil
}

// metric is the value of a metric without labels.
func metric(ctx context.Context, url, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	value, found := 0.0, false
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			if value, err = strconv.ParseFloat(text, 64); err != nil {
				return 0, fmt.Errorf("%s: %w", name, err)
			}
			found = true
		}
	}
	if !found {
		return 0, fmt.Errorf("%s has no %s", url, name)
	}
	return value, nil
}

// forget deletes the records of operations, which would pile up from block to block.
func (s *site) forget(ctx context.Context) error {
	if s.redis == nil {
		return nil
	}
	for cursor := uint64(0); ; {
		keys, next, err := s.redis.Scan(ctx, cursor, "cart:*:op:*", 5000).Result()
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if len(keys) > 0 {
			if err := s.redis.Unlink(ctx, keys...).Err(); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// durable has the site's Redis write every change to disk before it answers, or
// not at all.
func (s *site) durable(ctx context.Context, always bool) error {
	set := [][2]string{{"appendonly", "no"}}
	if always {
		set = [][2]string{{"appendfsync", "always"}, {"appendonly", "yes"}}
	}
	for _, kv := range set {
		if err := s.redis.ConfigSet(ctx, kv[0], kv[1]).Err(); err != nil {
			return fmt.Errorf("%s: %s: %w", s.name, kv[0], err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; pause(ctx, 50*time.Millisecond) {
		info, err := s.redis.Info(ctx, "persistence").Result()
		if err != nil {
			return err
		}
		if strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0") {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: Redis does not finish its append-only file", s.name)
		}
	}
}

// closeShop ends a shop that not all parts use, and takes its carts out of the last audit: whoever
// made changes there has read them.
func (r *run) closeShop(s *shop) {
	maps.DeleteFunc(r.made, func(_ string, c *carts) bool { return c.site == s.site })
	s.close()
}

// shop is coatcheck itself, as make up opens it, with more room in the carts.
type shop struct {
	*site
	*local.Shop
}

// openShop starts one with as many replicas of each service; env are further
// settings by role.
func (r *run) openShop(ctx context.Context, name string, gateways, auths, carts int, env map[string][]string) (*shop, error) {
	settings := map[string][]string{
		local.Cart: {"COATCHECK_CATALOGUE_FILE=" + r.catalogue, "COATCHECK_MAX_LINES=500", "COATCHECK_MAX_QUANTITY=1000000"},
		// The limits count, and are never reached.
		local.Gateway: {"COATCHECK_ADDRESS_RATE=1000000", "COATCHECK_TICKET_RATE=1000000"},
	}
	for role, more := range env {
		settings[role] = append(settings[role], more...)
	}
	state := filepath.Join(r.work, strings.ReplaceAll(name, " ", "-"))
	s, err := local.Start(local.Options{State: state, Bin: r.Bin, Gateways: gateways, Auths: auths, Carts: carts, Env: settings})
	if err != nil {
		return nil, err
	}
	opened := &shop{Shop: s, site: &site{name: name, close: s.Close, newGuest: firstVisit}}
	ready, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := s.AwaitReady(ready); err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	opened.programs = func() (all []program) {
		for _, p := range s.Processes() {
			if p.PID > 0 {
				all = append(all, program{p.Role, p.PID, p.Admin})
			}
		}
		return all
	}
	password, err := os.ReadFile(filepath.Join(state, "keys", "redis-password"))
	if err != nil {
		s.Close()
		return nil, err
	}
	for _, p := range s.Processes() {
		switch p.Role {
		case local.Gateway:
			opened.addrs = append(opened.addrs, p.Address)
		case local.Redis:
			opened.redis = redis.NewClient(&redis.Options{Addr: p.Address, Password: string(password), MaxRetries: -1})
		}
	}
	opened.close = func() {
		_ = opened.redis.Close()
		s.Close()
	}
	err = errors.Join(opened.durable(ctx, false), opened.calibrate(ctx), r.pin(opened.site))
	if err != nil {
		opened.close()
		return nil, err
	}
	return opened, nil
}

// firstVisit has the shop hand out a ticket.
func firstVisit(c *conn) (string, error) {
	c.setCookie = ""
	if _, err := c.do([]byte("GET /v1/cart HTTP/1.1\r\nHost: shop\r\nUser-Agent: bench\r\n\r\n")); err != nil {
		return "", err
	}
	if c.setCookie == "" {
		return "", errors.New("a first visit got no ticket")
	}
	return c.setCookie, nil
}

// openTuned is direct on equal terms: what the shop's services have set of the Go
// runtime and of the kernel's timers is set there too.
func (r *run) openTuned(ctx context.Context) (*site, error) {
	s, err := r.openReference(ctx, "direct", r.store, []string{"GOGC=400"}, "-timer-slack", chassis.TimerSlack.String())
	if err == nil {
		s.name = "tuned direct"
	}
	return s, err
}

// openReference starts a server that the shop is measured against; store is its
// Redis, nil for one that needs none, env and more are further settings of it.
func (r *run) openReference(ctx context.Context, kind string, store *process.Redis, env []string, more ...string) (*site, error) {
	free, err := process.FreePorts(1)
	if err != nil {
		return nil, err
	}
	args := []string{"-kind", kind, "-listen", free[0]}
	if store != nil {
		args = append(args, "-redis", store.Addr, "-catalogue", r.catalogue, "-script", r.script)
	}
	cmd := exec.Command(filepath.Join(r.Bin, "reference"), append(args, more...)...)
	cmd.Env = append(os.Environ(), env...)
	var said strings.Builder
	cmd.Stderr = &said
	if err := r.starter.Start(cmd); err != nil {
		return nil, err
	}
	programs := []program{{kind, cmd.Process.Pid, free[0]}}
	s := &site{name: kind, addrs: free, newGuest: func(*conn) (string, error) { return newGuestID(), nil }}
	if store != nil {
		programs = append(programs, program{local.Redis, store.PID, ""})
		s.redis = redis.NewClient(&redis.Options{Addr: store.Addr, MaxRetries: -1})
	}
	s.programs = func() []program { return programs }
	s.close = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.redis != nil {
			_ = s.redis.Close()
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; pause(ctx, 20*time.Millisecond) {
		if err = s.calibrate(ctx); err == nil {
			break
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			s.close()
			return nil, fmt.Errorf("%s does not serve: %w %s", kind, err, said.String())
		}
	}
	if err := r.pin(s); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// writeCatalogue writes one of 500 products and returns their SKUs, which have ten
// characters each.
func writeCatalogue(path string) ([]string, error) {
	type product struct {
		SKU   string `json:"sku"`
		Name  string `json:"name"`
		Price int    `json:"unit_price"`
	}
	var products []product
	var skus []string
	for i := range 500 {
		skus = append(skus, fmt.Sprintf("mug-%06d", i))
		products = append(products, product{skus[i], "Enamel mug " + strconv.Itoa(i), 1250})
	}
	content, err := json.Marshal(map[string]any{"currency": "EUR", "products": products})
	if err != nil {
		return nil, err
	}
	return skus, os.WriteFile(path, content, 0o600)
}
