package local

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"coatcheck/auth"
	"coatcheck/cart/redisstore"
)

// info is the content of shop.json.
type info struct {
	Address    string    `json:"address"`
	Supervisor owner     `json:"supervisor"`
	Processes  []Process `json:"processes"`
}

// watch is the address of the shop's Prometheus, "" if there is none.
func (i info) watch() string {
	for _, p := range i.Processes {
		if p.Role == Prometheus {
			return p.Address
		}
	}
	return ""
}

// files are those that the processes are given.
type files struct {
	signingKeys, redisConf string
	redisPasswords         map[string]string // by user, who has the name of a role
}

// operator is Redis' own default user, who may do anything; no service is.
const operator = "default"

// redisUsers are what each role may do in Redis, in the words of ACL.
var redisUsers = map[string]string{Auth: auth.RedisRules, Cart: redisstore.Rules}

// errRunning says that a supervisor holds the state folder.
var errRunning = errors.New("a shop is running already in this state folder")

func infoPath(state string) string { return filepath.Join(state, "shop.json") }

func signingKeysPath(state string) string { return filepath.Join(state, "keys", "signing-keys.pem") }

func readInfo(state string) (info, error) {
	var shop info
	content, err := os.ReadFile(infoPath(state))
	if err != nil {
		return shop, err
	}
	if err := json.Unmarshal(content, &shop); err != nil {
		return shop, fmt.Errorf("%s: %w", infoPath(state), err)
	}
	return shop, nil
}

func writeInfo(state string, shop info) error {
	content, err := json.MarshalIndent(shop, "", "  ")
	if err != nil {
		return err
	}
	return replace(infoPath(state), append(content, '\n'))
}

func removeInfo(state string) { _ = os.Remove(infoPath(state)) }

// replace writes a file so that a reader sees the old content or the new.
func replace(path string, content []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// lockState takes the state folder for this process until the file is closed or
// the process ends. errRunning means that another has it.
func lockState(state string) (*os.File, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("the state folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(state, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the state folder: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errRunning
		}
		return nil, fmt.Errorf("locking the state folder: %w", err)
	}
	return file, nil
}

// prepare makes the folders, the secrets (once) and Redis' configuration.
func prepare(state string, redisPort int) (files, error) {
	f := files{
		signingKeys: signingKeysPath(state),
		redisConf:   filepath.Join(state, "keys", "redis.conf"),
		redisPasswords: map[string]string{
			operator: filepath.Join(state, "keys", "redis-password"),
			Auth:     filepath.Join(state, "keys", "redis-password-auth"),
			Cart:     filepath.Join(state, "keys", "redis-password-cart"),
		},
	}
	for _, folder := range []string{"data", "keys", "log"} {
		if err := os.MkdirAll(filepath.Join(state, folder), 0o700); err != nil {
			return f, fmt.Errorf("the state folder: %w", err)
		}
	}
	if err := once(f.signingKeys, newSigningKey); err != nil {
		return f, fmt.Errorf("making the signing key: %w", err)
	}
	// Redis gets its passwords in a file, since arguments show in ps.
	var users []string
	for _, user := range slices.Sorted(maps.Keys(f.redisPasswords)) {
		path := f.redisPasswords[user]
		if err := once(path, newPassword); err != nil {
			return f, fmt.Errorf("making a Redis password: %w", err)
		}
		password, err := os.ReadFile(path)
		if err != nil {
			return f, fmt.Errorf("a Redis password: %w", err)
		}
		if user == operator {
			users = append(users, "requirepass "+string(password))
		} else {
			users = append(users, "user "+user+" on >"+string(password)+" "+redisUsers[user])
		}
	}
	conf := strings.Join([]string{
		strings.Join(users, "\n"),
		"bind 127.0.0.1",
		"port " + strconv.Itoa(redisPort),
		"dir " + strconv.Quote(filepath.Join(state, "data")),
		"daemonize no",
		"appendonly yes",
		"appendfsync always",
		`save ""`,
		"maxmemory 300mb", // as much as the chart gives it
		"maxmemory-policy noeviction",
		"",
	}, "\n")
	if err := replace(f.redisConf, []byte(conf)); err != nil {
		return f, fmt.Errorf("writing Redis' configuration: %w", err)
	}
	return f, nil
}

// once makes a file if it is not there.
func once(path string, content func() ([]byte, error)) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	made, err := content()
	if err != nil {
		return err
	}
	return replace(path, made)
}

func newSigningKey() ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func newPassword() ([]byte, error) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	return []byte(base64.RawURLEncoding.EncodeToString(random)), nil
}
