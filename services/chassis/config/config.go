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
	"log/slog"
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

// GoString keeps %#v from showing the value.
func (Secret) GoString() string { return "[secret]" }

// LogValue keeps slog from showing the value.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// UnmarshalText takes a file's content less the line ends behind it.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(strings.TrimRight(string(text), "\r\n"))
	return nil
}

// Validator is what a settings struct, or a struct embedded in one, can have:
// each error is one fault, named by the setting's whole name. It must accept
// zero values of settings that Load reports as missing.
type Validator interface{ Validate() []error }

// kubernetesLink matches what Kubernetes puts into the environment for each
// Service in the namespace; those are not settings.
var kubernetesLink = regexp.MustCompile(`_SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)

// Load fills a T from environ ("NAME=value", as os.Environ gives it). Names
// that begin with Prefix and that T does not know are faults too.
func Load[T any](environ []string) (T, error) {
	var settings T
	vars := map[string]string{}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, Prefix) {
			vars[name] = value
		}
	}
	var faults []string
	err := env.ParseWithOptions(&settings, env.Options{Environment: vars, Prefix: Prefix})
	var all env.AggregateError
	switch {
	case errors.As(err, &all):
		for _, e := range all.Errors {
			faults = append(faults, sentence(e, reflect.TypeFor[T]()))
		}
	case err != nil:
		faults = append(faults, err.Error())
	}
	for _, v := range validators(reflect.ValueOf(&settings).Elem()) {
		for _, e := range v.Validate() {
			faults = append(faults, e.Error())
		}
	}
	params, err := env.GetFieldParamsWithOptions(&settings, env.Options{Environment: vars, Prefix: Prefix})
	if err != nil {
		return settings, fmt.Errorf("reading the settings' names: %w", err)
	}
	for name := range vars {
		known := slices.ContainsFunc(params, func(p env.FieldParams) bool { return p.Key == name })
		if !known && !kubernetesLink.MatchString(name) {
			faults = append(faults, name+": no such setting")
		}
	}
	if len(faults) == 0 {
		return settings, nil
	}
	slices.Sort(faults)
	return settings, fmt.Errorf("%d settings are wrong:\n  %s", len(faults), strings.Join(slices.Compact(faults), "\n  "))
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

// validators returns v and the structs embedded in it that can validate.
func validators(v reflect.Value) []Validator {
	var found []Validator
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Anonymous && f.Type.Kind() == reflect.Struct {
			found = append(found, validators(v.Field(i))...)
		}
	}
	// A method promoted from an embedded struct would validate that one twice;
	// the duplicates are dropped with the faults.
	if own, ok := v.Interface().(Validator); ok {
		found = append(found, own)
	}
	return found
}

// sentence says what is wrong with one setting, by the setting's name.
func sentence(err error, settings reflect.Type) string {
	var (
		parse env.ParseError
		unset env.VarIsNotSetError
		empty env.EmptyVarError
		file  env.LoadFileContentError
	)
	switch {
	case errors.As(err, &unset):
		return unset.Key + ": must be set"
	case errors.As(err, &empty):
		return empty.Key + ": must not be empty"
	case errors.As(err, &file):
		return file.Key + ": " + file.Err.Error()
	case errors.As(err, &parse):
		return settingName(settings, parse.Name) + ": " + parse.Err.Error()
	default:
		return err.Error()
	}
}

// settingName finds the setting that fills the named field.
func settingName(t reflect.Type, field string) string {
	if f, ok := t.FieldByName(field); ok {
		name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
		return Prefix + name
	}
	return field
}
