package compare

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"coatcheck/auth"
	"coatcheck/auth/mapstore"
	"coatcheck/chassis/config"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	"coatcheck/trial/local"
	"coatcheck/trial/process"
	"coatcheck/trial/stateful"
)

// replica is one place that serves all of the shop.
type replica struct {
	Name    string
	Address string   // HTTP
	Admin   []string // asked for readiness: of each of its processes
}

// site is a running shop of one way: replicas, and one more that is held back.
type site interface {
	Replicas() []replica
	// Kill ends all processes of a replica with SIGKILL; they come back by themselves.
	Kill(i int) error
	// Restart ends them with SIGTERM and starts them when they have drained.
	Restart(i int) error
	// Add starts the replica that was held back.
	Add() error
	// PIDs are all processes that serve, Redis among them, and of which program.
	PIDs() map[int]string
	// Metrics are the admin addresses of all processes that have metrics.
	Metrics() []string
	// Programs are the kinds of processes, and how many run.
	Programs() (kinds []string, processes int)
	Close()
}

// files are what the sites are started with.
type files struct {
	keys, catalogue, accounts string
	skus                      []string
	emails                    []string
}

const password = "correct horse battery"

// prepare writes keys, a catalogue of many products with names as long as shops
// give them, and users that every replica of the baselines knows.
func (r *run) prepare(ctx context.Context) (files, error) {
	f := files{keys: filepath.Join(r.work, "keys.pem"), catalogue: filepath.Join(r.work, "catalogue.json"), accounts: filepath.Join(r.work, "accounts.json")}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return f, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return f, err
	}
	keys := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})

	type product struct {
		SKU   string `json:"sku"`
		Name  string `json:"name"`
		Price int    `json:"unit_price"`
	}
	var products []product
	for i := range maxLines + 100 {
		f.skus = append(f.skus, fmt.Sprintf("mug-enamel-blue-%04d", i)) // 20 characters
		products = append(products, product{f.skus[i], "Enamel mug " + strconv.Itoa(i), 1250})
	}
	catalogue, err := json.Marshal(map[string]any{"currency": "EUR", "products": products})
	if err != nil {
		return f, err
	}

	// One hash serves all: the users have the same password.
	users := mapstore.New()
	service, err := auth.New(auth.Settings{SigningKeys: config.Secret(keys), Issuer: "coatcheck", Lives: auth.Lives{SessionLife: time.Hour}, MaxPasswordHashes: 1}, users, time.Now)
	if err != nil {
		return f, err
	}
	id := newID("u_")
	if _, err := service.Register(ctx, &authv1.RegisterRequest{UserId: id, Email: "one@example.com", Password: password}); err != nil {
		return f, err
	}
	one, err := users.User(ctx, id)
	if err != nil {
		return f, err
	}
	var accounts []stateful.Account
	for i := range r.members + r.logOuts + 2 {
		f.emails = append(f.emails, fmt.Sprintf("member-%d@example.com", i))
		accounts = append(accounts, stateful.Account{ID: newID("u_"), Email: f.emails[i], Password: one.Password})
	}
	list, err := json.Marshal(accounts)
	if err != nil {
		return f, err
	}
	for path, content := range map[string][]byte{f.keys: keys, f.catalogue: catalogue, f.accounts: list} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return f, err
		}
	}
	return f, nil
}

func newID(kind string) string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw)
	return kind + base64.RawURLEncoding.EncodeToString(raw)
}

// shop is coatcheck itself.
type shop struct{ *local.Shop }

func openShop(_ context.Context, r *run) (site, error) { return openShopWith(r, "shop") }

// openShopWith opens one in a folder of its own, with settings of the gateways.
func openShopWith(r *run, folder string, gateway ...string) (site, error) {
	s, err := local.Start(local.Options{
		State: filepath.Join(r.work, folder), Bin: r.Bin, Gateways: replicas, Auths: replicas, Carts: replicas, Spares: 1,
		Env: map[string][]string{local.Gateway: gateway, local.Cart: {"COATCHECK_CATALOGUE_FILE=" + r.files.catalogue, "COATCHECK_MAX_LINES=" + strconv.Itoa(maxLines)}},
	})
	if err != nil {
		return nil, err
	}
	return shop{s}, nil
}

func (s shop) Replicas() []replica {
	list := make([]replica, replicas+1)
	for i := range list {
		list[i].Name = s.names(i)[0]
	}
	for _, p := range s.Processes() {
		for i := range list {
			if !strings.HasSuffix(p.Name, "-"+strconv.Itoa(i+1)) {
				continue
			}
			if p.Role == local.Gateway {
				list[i].Address, list[i].Admin = p.Address, []string{p.Admin}
			}
		}
	}
	return list
}

func (s shop) names(i int) []string {
	n := "-" + strconv.Itoa(i+1)
	return []string{local.Gateway + n, local.Auth + n, local.Cart + n}
}

func (s shop) Kill(i int) error {
	for _, name := range s.names(i) {
		if err := s.Shop.Kill(name, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return nil
}

// Restart rolls role by role, as a cluster's roll-outs do.
func (s shop) Restart(i int) error {
	for _, name := range s.names(i) {
		if err := s.StopProcess(name); err != nil {
			return err
		}
		if err := s.StartProcess(name); err != nil {
			return err
		}
		if err := s.ready(name); err != nil {
			return err
		}
	}
	return nil
}

func (s shop) ready(name string) error {
	for _, p := range s.Processes() {
		if p.Name == name {
			return awaitReadyAt([]string{p.Admin})
		}
	}
	return fmt.Errorf("there is no %s", name)
}

func (s shop) Add() error {
	for _, name := range s.names(replicas) {
		if err := s.StartProcess(name); err != nil {
			return err
		}
	}
	return s.ready(s.names(replicas)[0])
}

func (s shop) Metrics() (admins []string) {
	for _, p := range s.Processes() {
		if p.State == local.Running && p.Role != local.Redis {
			admins = append(admins, p.Admin)
		}
	}
	return admins
}

func (s shop) PIDs() map[int]string {
	pids := map[int]string{}
	for _, p := range s.Processes() {
		if p.PID > 0 {
			pids[p.PID] = p.Role
		}
	}
	return pids
}

func (s shop) Programs() ([]string, int) {
	var kinds []string
	n := 0
	for _, p := range s.Processes() {
		if p.State == local.Running {
			n++
		}
		if !strings.Contains(strings.Join(kinds, " "), p.Role) {
			kinds = append(kinds, p.Role)
		}
	}
	return kinds, n
}

// usage is CPU time by program, user and system.
type usage map[string]time.Duration

func (u usage) sum() (sum time.Duration) {
	for _, d := range u {
		sum += d
	}
	return sum
}

// cpu is what the processes have used so far.
func cpu(pids map[int]string) (usage, error) {
	u := usage{}
	for pid, program := range pids {
		used, err := process.CPU(pid)
		if err != nil {
			return nil, err
		}
		u[program] += used
	}
	return u, nil
}

func machine() string {
	return fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}
