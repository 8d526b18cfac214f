package test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// kubectl stands in for it: the Ready pods of a part are the lines of the file
// with its name; what is to delete goes to the file log, and fails with what the
// file error says. A pod that was deleted is replaced at once, or when it has been
// asked for as often as the file late says.
const kubectl = `#!/usr/bin/env bash
cd "$(dirname "$0")"
all="$*" part=${all##*component=} part=${part%% *}
case $all in
*instance*) cat shops ;;
*'{{range .items}}{{.metadata.uid}}'*)
  late=$(cat late)
  if ((late > 0)); then
    echo $((late - 1)) > late
    exit
  fi
  if [[ -e next ]]; then cat next >> "$part" && rm next; fi
  cut -d' ' -f2 "$part" ;;
*'get pods'*) cat "$part" ;;
*)
  echo "$all" >> log
  if [[ -e error ]]; then cat error >&2; exit 1; fi
  pod=$(grep -oE '(pod |pods/)(gateway|auth|cart|redis)-[0-9]+' <<< "$all" | grep -oE '[a-z]+-[0-9]+')
  n=$(($(wc -l < log)))
  grep -v "^$pod " "${pod%-*}" > rest
  mv rest "${pod%-*}"
  echo "${pod%-*}-1$n another$n" > next
  if (($(cat late) == 0)); then cat next >> "${pod%-*}" && rm next; fi ;;
esac
`

// chaos runs the script beside such a shop for so long at most, and returns its
// exit code, or -1 if it went on; what it said; and what it tried to delete.
func chaos(t *testing.T, limit time.Duration, change func(write func(file, content string)), args ...string) (code int, said string, tried []string) {
	t.Helper()
	dir := t.TempDir()
	write := func(file, content string) {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("kubectl", kubectl)
	write("shops", "shop\n")
	write("late", "0")
	for _, part := range []string{"gateway", "auth", "cart"} {
		write(part, part+"-1 uid1\n"+part+"-2 uid2\n"+part+"-3 uid3\n")
	}
	write("redis", "redis-0 uid0\n")
	change(write)

	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "../../k8s/chaos.sh", args...)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	cmd.WaitDelay = time.Second
	out, _ := cmd.CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	return cmd.ProcessState.ExitCode(), string(out), strings.FieldsFunc(string(log), func(r rune) bool { return r == '\n' })
}

// TestChaosScript runs k8s/chaos.sh where a shop would have to be broken to see
// what it does; the trial on a cluster runs it beside a whole one.
func TestChaosScript(t *testing.T) {
	type writes = func(file, content string)
	whole := func(writes) {}
	lonely := func(write writes) { write("auth", "auth-1 uid1\n") }
	refused := func(reason string) func(writes) {
		return func(write writes) { write("error", "Error from server ("+reason+"): no\n") }
	}
	const (
		gently = "delete pod (gateway|auth|cart)-[0-9]+ --wait=false"
		either = "delete pod (gateway|auth|cart)-[0-9]+( --grace-period=0 --force)? --wait=false"
		evicts = "create --raw /api/v1/namespaces/coatcheck/pods/(gateway|auth|cart)-[0-9]+/eviction -f -"
	)
	for name, tt := range map[string]struct {
		change      func(writes)
		args        string
		code        int
		says        string
		least, most int    // pods that it tries to delete
		each        string // how it does that
	}{
		"five pods":                 {whole, "-e 0 -c 5", 0, "", 5, 5, either},
		"no end unless asked":       {whole, "-e 0", -1, "", 6, 1000, either},
		"a pod that is late":        {func(write writes) { write("late", "2") }, "-e 0 -c 1", 0, "", 1, 1, either},
		"a pod that never comes":    {func(write writes) { write("late", "1000") }, "-e 0 -c 1 -t 1", 1, "does not have 3 Ready pods again", 1, 1, either},
		"a dry run":                 {whole, "-e 0 -c 5 -d", 0, "would ", 0, 0, ""},
		"evictions":                 {whole, "-e 0 -c 2 -w evict", 0, "evict ", 2, 2, evicts},
		"with their grace":          {whole, "-e 0 -c 3 -w delete", 0, "delete ", 3, 3, gently},
		"by force":                  {whole, "-e 0 -c 3 -w force -p gateway", 0, "force gateway-", 3, 3, "delete pod gateway-[0-9]+ --grace-period=0 --force --wait=false"},
		"Redis":                     {whole, "-e 0 -c 2 -p redis", 0, "redis-0", 2, 2, "delete pod redis-[0-9]+( --grace-period=0 --force)? --wait=false"},
		"the last one":              {lonely, "-e 0 -p auth", -1, "auth has 1 Ready pods: waiting", 0, 0, ""},
		"the last one, as told":     {lonely, "-e 0 -p auth -c 1 -l", 0, "auth-1", 1, 1, "delete pod auth-1( --grace-period=0 --force)? --wait=false"},
		"never but the last one":    {lonely, "-e 0 -p auth -c 1 -t 1", 1, "for 1 s, auth has 1 Ready pods", 0, 0, ""},
		"a disruption budget":       {refused("TooManyRequests"), "-e 0 -w evict", -1, "TooManyRequests", 2, 7, evicts},
		"a budget of none":          {refused("TooManyRequests"), "-e 0 -w evict -c 1 -t 2", 1, "TooManyRequests", 3, 3, evicts},
		"a pod that has just ended": {refused("NotFound"), "-e 0", -1, "NotFound", 2, 7, either},
		"no right to":               {refused("Forbidden"), "-e 0", 1, "Forbidden", 1, 1, either},
		"two shops":                 {func(write writes) { write("shops", "one\ntwo\n") }, "-e 0 -c 1", 2, "several shops: one, two", 0, 0, ""},
		"no shop":                   {func(write writes) { write("cart", "") }, "-e 0 -c 1", 2, "no Ready cart", 0, 0, ""},
		"no such part":              {whole, "-p web", 2, "no part 'web'", 0, 0, ""},
		"no such way":               {whole, "-w burn", 2, "no way 'burn'", 0, 0, ""},
		"no number":                 {whole, "-e soon", 2, "whole numbers", 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := time.Minute
			if tt.code < 0 {
				limit = 4 * time.Second
			}
			code, said, tried := chaos(t, limit, tt.change, strings.Fields(tt.args)...)
			for _, one := range tried {
				if ok, err := regexp.MatchString("^--namespace coatcheck ("+tt.each+")$", one); err != nil || !ok {
					t.Errorf("it did: kubectl %s", one)
				}
			}
			if code != tt.code || !strings.Contains(said, tt.says) || len(tried) < tt.least || len(tried) > tt.most {
				t.Errorf("exit code %d, %d tried, said:\n%s", code, len(tried), said)
			}
		})
	}
}
