package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"coatcheck/trial/report"
	"coatcheck/trial/watch"
)

func watchFlags(*flag.FlagSet) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		where, err := trialAt(filepath.Join(filepath.Dir(folder()), ".run"), args)
		if err != nil {
			return err
		}
		url, err := watch.Find(where)
		if err != nil {
			return err
		}
		ctx, leave := context.WithCancel(ctx)
		defer leave()
		var verdict report.Verdict
		terminal := watch.NewTerminal(os.Stdout, os.Stdin, leave)
		err = watch.Follow(ctx, url, func(s watch.State) {
			verdict = s.Verdict
			terminal.Show(s)
		})
		terminal.Stop()
		if errors.Is(err, context.Canceled) {
			return nil // whoever watched has left
		}
		return judged(verdict, err)
	}
}

// trialAt is where the trial is that the arguments name, or the only one that
// runs under the folder.
func trialAt(folder string, args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	var running []string
	for _, trials := range []string{"trial", filepath.Join("kind", "trial")} {
		files, err := filepath.Glob(filepath.Join(folder, trials, "*", watch.AddressFile))
		if err != nil {
			return "", err
		}
		for _, file := range files {
			running = append(running, filepath.Dir(file))
		}
	}
	switch len(running) {
	case 0:
		return "", fmt.Errorf("no trial runs under %s: start one (trial run), or name its URL or its folder", folder)
	case 1:
		return running[0], nil
	}
	return "", fmt.Errorf("several trials run, name one: %s", strings.Join(running, ", "))
}
