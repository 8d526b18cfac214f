// Package config turns the environment into a validated struct, or into one
// error that names every fault at once.
//
// The hazard is a process that starts on a wrong guess: a missing address, a
// misspelt name that is silently ignored, two settings that contradict each
// other. Nothing here prints the value of a secret.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Prefix begins the name of every setting.
const Prefix = "COATCHECK_"

// Secret is a value that never shows in logs or errors. Settings of this type
// name a file (tag `env:"…_FILE,file"`), since an environment shows in many places.
type Secret string

// Reveal returns the value itself.
func (s Secret) Reveal() string { return string(s) }

func (Secret) String() string { return "[secret]" }

// Format keeps every verb of fmt from showing the value.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[secret]") }

// LogValue keeps slog from showing the value.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalText keeps JSON, and with it a struct in slog, from showing the value.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// UnmarshalText takes a file's content less the line ends behind it.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(strings.TrimRight(string(text), "\r\n"))
	return nil
}

// Validator is what a settings struct, or a struct in one, can have: each error
// is one fault and begins with the setting's whole name and a colon. Faults of a
// setting that is missing or could not be read are dropped, so Validate need not
// care about those.
type Validator interface{ Validate() []error }

// Load fills a T from environ ("NAME=value", as os.Environ gives it). Names
// that begin with Prefix and that T does not know are faults too. The error
// names every fault; a file's path is not shown, because someone may have put
// the secret where its path belongs.
func Load[T any](environ []string) (T, error) {
	var settings T
	vars := map[string]string{}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, Prefix) {
			vars[name] = value
		}
	}
	emptyFiles := map[string]bool{}
	options := env.Options{Environment: vars, Prefix: Prefix, OnSet: func(name string, value any, _ bool) {
		// Of two fields with one name, one may be the file's path.
		emptyFiles[name] = emptyFiles[name] || vars[name] != "" && strings.TrimSpace(fmt.Sprint(value)) == ""
	}}
	faults := map[string]bool{}
	unread := map[string]bool{}
	err := env.ParseWithOptions(&settings, options)
	var all env.AggregateError
	switch {
	case errors.As(err, &all):
		for _, e := range all.Errors {
			name, what := sentence(e, reflect.TypeFor[T]())
			for n := range strings.SplitSeq(name, " or ") {
				unread[n] = true
			}
			faults[name+": "+what] = true
		}
	case err != nil:
		return settings, fmt.Errorf("reading the settings: %w", err)
	}
	options.OnSet = nil
	params, err := env.GetFieldParamsWithOptions(&settings, options)
	if err != nil {
		return settings, fmt.Errorf("reading the settings' names: %w", err)
	}
	known := map[string]bool{}
	for _, p := range params {
		known[p.Key] = true
		if p.LoadFile && emptyFiles[p.Key] {
			unread[p.Key] = true
			faults[p.Key+": the file is empty"] = true
		}
	}
	// A method promoted from an embedded struct validates that one twice; the
	// set of faults holds each once.
	for _, v := range validators(reflect.ValueOf(&settings).Elem()) {
		for _, e := range v.Validate() {
			if name, _, _ := strings.Cut(e.Error(), ":"); !unread[name] {
				faults[e.Error()] = true
			}
		}
	}
	for name := range vars {
		if !known[name] && !kubernetesLink(name, vars) {
			faults[name+": no such setting"] = true
		}
	}
	if len(faults) == 0 {
		return settings, nil
	}
	lines := slices.Sorted(maps.Keys(faults))
	return settings, fmt.Errorf("settings are wrong (%d):\n  %s", len(lines), strings.Join(lines, "\n  "))
}

// kubernetesLink reports whether the name is one of those that Kubernetes puts
// into the environment for each Service in the namespace, always with the host
// among them; those are not settings.
func kubernetesLink(name string, vars map[string]string) bool {
	link := regexp.MustCompile(`^(.+?)(_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)
	m := link.FindStringSubmatch(name)
	return m != nil && vars[m[1]+"_SERVICE_HOST"] != ""
}

// MustLoad is Load from this process's environment; faults end the process with
// code 2 before anything is started.
func MustLoad[T any]() T {
	settings, err := Load[T](os.Environ())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return settings
}

// validators returns v and the structs in it that can validate.
func validators(v reflect.Value) []Validator {
	var found []Validator
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && f.Type.Kind() == reflect.Struct {
			found = append(found, validators(v.Field(i))...)
		}
	}
	if own, ok := v.Addr().Interface().(Validator); ok {
		found = append(found, own)
	}
	return found
}

// sentence says which setting is wrong and what is wrong with it.
func sentence(err error, settings reflect.Type) (name, what string) {
	var (
		parse env.ParseError
		unset env.VarIsNotSetError
		empty env.EmptyVarError
		file  env.LoadFileContentError
		path  *fs.PathError
	)
	switch {
	case errors.As(err, &unset):
		return unset.Key, "must be set"
	case errors.As(err, &empty):
		return empty.Key, "must not be empty"
	case errors.As(err, &file) && errors.As(file.Err, &path):
		return file.Key, "the file cannot be read: " + path.Err.Error()
	case errors.As(err, &parse):
		return strings.Join(settingNames(settings, parse.Name, parse.Type), " or "), parse.Err.Error()
	default:
		return "settings", err.Error()
	}
}

// settingNames finds the settings that fill a field of this name and type:
// nearly always one.
func settingNames(t reflect.Type, field string, of reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("env"), ","); f.Name == field && f.Type == of && name != "" {
			names = append(names, Prefix+name)
		} else if f.Type.Kind() == reflect.Struct {
			names = append(names, settingNames(f.Type, field, of)...)
		}
	}
	return names
}
