package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coatcheck/chassis/config"
)

// Common is embedded, Store is not, both validate, and both have a Timeout: the
// shapes that services use.
type Common struct {
	Level   slog.Level    `env:"LEVEL" envDefault:"info"`
	Timeout time.Duration `env:"TIMEOUT" envDefault:"1s"`
}

func (c Common) Validate() []error {
	if c.Timeout <= 0 {
		return []error{errors.New("COATCHECK_TIMEOUT: must be above 0")}
	}
	return nil
}

type Store struct {
	Addrs    []string      `env:"STORE_ADDRS,required,notEmpty"`
	Password config.Secret `env:"STORE_PASSWORD_FILE,file"`
	Timeout  time.Duration `env:"STORE_TIMEOUT" envDefault:"1s"`
}

// Validate has a pointer receiver, which must count too.
func (s *Store) Validate() []error {
	if s.Timeout > time.Minute {
		return []error{errors.New("COATCHECK_STORE_TIMEOUT: must be at most 1m")}
	}
	return nil
}

type settings struct {
	Common
	Store Store
	Key   config.Secret `env:"KEY_FILE,required,file"`
	Lines int           `env:"LINES" envDefault:"3"`
	Plain bool          `env:"PLAIN"`
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	got, err := config.Load[settings]([]string{
		"COATCHECK_STORE_ADDRS=a:1,b:2",
		"COATCHECK_KEY_FILE=" + write(t, "hunter2\r\n"),
		"COATCHECK_LEVEL=warn",
		"COATCHECK_LINES=7",
		"COATCHECK_PLAIN=true",
		"PATH=/bin",
		"LINES=no number and not ours",
		// What Kubernetes adds for a Service named coatcheck-cart.
		"COATCHECK_CART_SERVICE_HOST=10.0.0.1",
		"COATCHECK_CART_SERVICE_PORT=9090",
		"COATCHECK_CART_SERVICE_PORT_GRPC=9090",
		"COATCHECK_CART_PORT=tcp://10.0.0.1:9090",
		"COATCHECK_CART_PORT_9090_TCP=tcp://10.0.0.1:9090",
		"COATCHECK_CART_PORT_9090_TCP_PROTO=tcp",
		"COATCHECK_CART_PORT_9090_TCP_PORT=9090",
		"COATCHECK_CART_PORT_9090_TCP_ADDR=10.0.0.1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Key.Reveal() != "hunter2" {
		t.Errorf("the key is %q, want the file's content without the line's end", got.Key.Reveal())
	}
	if len(got.Store.Addrs) != 2 || got.Level != slog.LevelWarn || got.Lines != 7 || !got.Plain || got.Timeout != time.Second {
		t.Errorf("got %+v", got)
	}
}

func TestFaults(t *testing.T) {
	key := "COATCHECK_KEY_FILE=" + write(t, "hunter2\n")
	addrs := "COATCHECK_STORE_ADDRS=a:1"
	for name, c := range map[string]struct {
		environ []string
		want    []string // all faults, each on its line, in order
	}{
		"required and missing": {[]string{key}, []string{"COATCHECK_STORE_ADDRS: must be set"}},
		"required and empty":   {[]string{key, "COATCHECK_STORE_ADDRS="}, []string{"COATCHECK_STORE_ADDRS: must not be empty"}},
		"no number":            {[]string{key, addrs, "COATCHECK_LINES=many"}, []string{`COATCHECK_LINES: strconv.ParseInt: parsing "many": invalid syntax`}},
		"no boolean":           {[]string{key, addrs, "COATCHECK_PLAIN=maybe"}, []string{`COATCHECK_PLAIN: strconv.ParseBool: parsing "maybe": invalid syntax`}},
		"no level":             {[]string{key, addrs, "COATCHECK_LEVEL=loud"}, []string{`COATCHECK_LEVEL: slog: level string "loud": unknown name`}},
		"unknown name":         {[]string{key, addrs, "COATCHECK_LINE=3"}, []string{"COATCHECK_LINE: no such setting"}},
		"looks like a link, but there is no such Service": {[]string{key, addrs, "COATCHECK_HTTP_PORT=8080"},
			[]string{"COATCHECK_HTTP_PORT: no such setting"}},
		"embedded validator, once although promoted": {[]string{key, addrs, "COATCHECK_TIMEOUT=-1s"}, []string{"COATCHECK_TIMEOUT: must be above 0"}},
		"validator of a field, pointer receiver":     {[]string{key, addrs, "COATCHECK_STORE_TIMEOUT=1h"}, []string{"COATCHECK_STORE_TIMEOUT: must be at most 1m"}},
		"file missing":                               {[]string{addrs, "COATCHECK_KEY_FILE=hunter2"}, []string{"COATCHECK_KEY_FILE: the file cannot be read: no such file or directory"}},
		"file is a folder":                           {[]string{addrs, "COATCHECK_KEY_FILE=" + t.TempDir()}, []string{"COATCHECK_KEY_FILE: the file cannot be read: is a directory"}},
		"file without anything":                      {[]string{addrs, "COATCHECK_KEY_FILE=" + write(t, "\n")}, []string{"COATCHECK_KEY_FILE: the file is empty"}},
		"file named nowhere":                         {[]string{addrs}, []string{"COATCHECK_KEY_FILE: must be set"}},
		// A value that cannot be read is one fault, not one more from Validate; the
		// name stays open only because two settings have this field and type.
		"ambiguous field": {[]string{key, addrs, "COATCHECK_TIMEOUT=soon"},
			[]string{`COATCHECK_TIMEOUT or COATCHECK_STORE_TIMEOUT: unable to parse duration: time: invalid duration "soon"`}},
		"all at once": {
			[]string{"COATCHECK_KEY_FILE=hunter2", "COATCHECK_LINES=many", "COATCHECK_PLAIN=maybe", "COATCHECK_LEVEL=loud",
				"COATCHECK_TIMEOUT=-1s", "COATCHECK_STORE_TIMEOUT=1h", "COATCHECK_LINE=3"},
			[]string{
				"COATCHECK_KEY_FILE: the file cannot be read: no such file or directory",
				`COATCHECK_LEVEL: slog: level string "loud": unknown name`,
				"COATCHECK_LINE: no such setting",
				`COATCHECK_LINES: strconv.ParseInt: parsing "many": invalid syntax`,
				`COATCHECK_PLAIN: strconv.ParseBool: parsing "maybe": invalid syntax`,
				"COATCHECK_STORE_ADDRS: must be set",
				"COATCHECK_STORE_TIMEOUT: must be at most 1m",
				"COATCHECK_TIMEOUT: must be above 0",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load[settings](c.environ)
			if err == nil {
				t.Fatal("no error")
			}
			head, lines, _ := strings.Cut(err.Error(), "\n  ")
			if want := fmt.Sprintf("settings are wrong (%d):", len(c.want)); head != want {
				t.Errorf("the error begins with %q, want %q", head, want)
			}
			if want := strings.Join(c.want, "\n  "); lines != want {
				t.Errorf("got\n  %s\nwant\n  %s", lines, want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows what may be a secret: %v", err)
			}
		})
	}
}

func TestSecretNeverShows(t *testing.T) {
	s := settings{Key: "hunter2", Store: Store{Password: "hunter2"}}
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown = append(shown, fmt.Sprintf(verb, s.Key), fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, []config.Secret{s.Key}))
	}
	asJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	for _, h := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		slog.New(h).Info("settings", "key", s.Key, "all", s, "pointer", &s)
	}
	shown = append(shown, string(asJSON), log.String(), fmt.Errorf("with %v", s.Key).Error())
	for _, text := range shown {
		for _, secret := range []string{"hunter2", fmt.Sprintf("%x", "hunter2")} {
			if strings.Contains(text, secret) {
				t.Errorf("shows the secret: %s", text)
			}
		}
	}
	if s.Key.Reveal() != "hunter2" {
		t.Error("Reveal does not give the value")
	}
}
