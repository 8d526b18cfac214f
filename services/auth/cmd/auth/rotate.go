package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coatcheck/auth"
	"coatcheck/auth/kubesecret"
	"coatcheck/chassis/config"
)

// rotate is "auth rotate-keys": one rotation of the signing keys in a file, or in
// a Secret of the namespace that it runs in. The auth service need not run, and
// takes the keys up by itself.
func rotate(ctx context.Context, args, environ []string, out io.Writer) error {
	set := flag.NewFlagSet("auth rotate-keys", flag.ContinueOnError)
	file := set.String("file", "", "file with the signing keys")
	secret := set.String("secret", "", "or the Secret that holds them, in the namespace of the pod that this runs in")
	key := set.String("key", "signing-keys.pem", "key of that Secret")
	lead := set.Duration("lead", 10*time.Minute, "how long the new key is known before it signs: longer than any replica takes to get the file")
	if err := set.Parse(args); err != nil {
		return err
	}
	if (*file == "") == (*secret == "") || set.NArg() > 0 {
		return errors.New("rotate-keys needs -file or -secret, and nothing else")
	}
	lives, err := config.Load[auth.Lives](environ)
	if err != nil {
		return err
	}
	var did auth.Rotation
	change := func(text string) (string, error) {
		var rotated string
		rotated, did, err = auth.RotateKeys(text, time.Now(), *lead, lives.Longest())
		return rotated, err
	}
	if *file != "" {
		err = changeFile(*file, change)
	} else {
		var client *kubesecret.Client
		client, err = kubesecret.New(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"), kubesecret.ServiceAccount)
		if err == nil {
			err = client.Update(ctx, *secret, *key, change)
		}
	}
	if err != nil {
		return err
	}
	from := did.From.UTC().Format(time.RFC3339)
	if did.Pending {
		fmt.Fprintf(out, "Nothing to do: key %s is known already and signs from %s.\n", did.Next, from)
		return nil
	}
	fmt.Fprintf(out, "Key %s is known from now on and signs from %s; the one before it stays for %v after that.\n", did.Next, from, lives.Longest())
	if len(did.Dropped) > 0 {
		fmt.Fprintf(out, "Gone, since nothing they signed is good any more: %s.\n", strings.Join(did.Dropped, ", "))
	}
	return nil
}

// changeFile replaces a file so that who reads it sees the old content or the new.
func changeFile(path string, change func(text string) (string, error)) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := change(string(text))
	if err != nil || changed == string(text) {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".next-*") // for its owner alone
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(next.Name()) }()
	_, err = next.WriteString(changed)
	if err == nil {
		err = next.Sync()
	}
	if closing := next.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(text) {
		return fmt.Errorf("%s was changed by another meanwhile: try again", path)
	}
	return os.Rename(next.Name(), path)
}
