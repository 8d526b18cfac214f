// Package trial_test holds the rules of the repository as tests.
package trial_test

import (
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// tracked lists the repository's files: what git tracks, and what it would.
func tracked(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var files []string
	for _, f := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		if _, err := os.Lstat(filepath.Join(root, f)); err == nil {
			files = append(files, f)
		}
	}
	if len(files) < 50 {
		t.Fatalf("git lists only %d files", len(files))
	}
	return files
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTopLevel(t *testing.T) {
	allowed := []string{"services", "proto", "k8s", "helm", "Makefile", "go.work", "go.work.sum", "README.md", "LICENSE"}
	for _, file := range tracked(t) {
		top, _, _ := strings.Cut(file, "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(allowed, top) {
			t.Errorf("%s: the top level has %s only", file, strings.Join(allowed, ", "))
		}
	}
}

// TestPackageComments: a package says once what it is for and which hazard it handles.
func TestPackageComments(t *testing.T) {
	comments := map[string]int{}
	for _, file := range tracked(t) {
		dir := filepath.Dir(file)
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || strings.HasSuffix(file, ".pb.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		comments[dir] += 0
		if f.Doc != nil && !strings.HasPrefix(f.Doc.Text(), "//go:build") {
			comments[dir]++
		}
	}
	for dir, n := range comments {
		if n != 1 {
			t.Errorf("%s has %d package comments", dir, n)
		}
	}
}

// TestModules: a module of the workspace replaces its siblings by relative paths
// and nothing else, so that it also builds alone, and two agree on each version.
func TestModules(t *testing.T) {
	replace := regexp.MustCompile(`(?m)^\s*(?:replace )?(coatcheck/\S+) => (\S+)$`)
	require := regexp.MustCompile(`(?m)^\s*(?:require )?([a-z0-9.]+\.[a-z]+/\S+) (v\S+)`)
	versions := map[string]map[string]string{}
	workspace := read(t, "go.work")
	modules := 0
	for _, file := range tracked(t) {
		if filepath.Base(file) != "go.mod" || !strings.Contains(workspace, "./"+filepath.Dir(file)+"\n") {
			continue
		}
		modules++
		text := read(t, file)
		for _, m := range replace.FindAllStringSubmatch(text, -1) {
			if !strings.HasPrefix(m[2], "../") {
				t.Errorf("%s replaces %s by %s", file, m[1], m[2])
			}
		}
		if arrows, ours := strings.Count(text, "=>"), len(replace.FindAllString(text, -1)); arrows != ours {
			t.Errorf("%s has %d replacements, of which %d are of siblings", file, arrows, ours)
		}
		for _, m := range require.FindAllStringSubmatch(text, -1) {
			if versions[m[1]] == nil {
				versions[m[1]] = map[string]string{}
			}
			versions[m[1]][m[2]] = file
		}
	}
	if modules < 6 {
		t.Errorf("only %d modules were found", modules)
	}
	direct := []string{"google.golang.org/grpc", "google.golang.org/protobuf", "github.com/redis/go-redis/v9", "github.com/prometheus/client_golang"}
	for _, name := range direct {
		if len(versions[name]) != 1 {
			t.Errorf("%s is required at %d versions: %v", name, len(versions[name]), versions[name])
		}
	}
}

// TestPinned: nothing is fetched at whatever version is newest.
func TestPinned(t *testing.T) {
	newest := "@" + "latest"
	for _, file := range tracked(t) {
		if strings.HasSuffix(file, ".sum") || strings.HasSuffix(file, ".png") {
			continue
		}
		if strings.Contains(read(t, file), newest) {
			t.Errorf("%s takes something at %s", file, newest)
		}
	}
}

// TestSecurityTests: the tests that .github/SECURITY.md names are there, and are of
// the shop: one of the trial's own parts shows nothing of what it tries.
func TestSecurityTests(t *testing.T) {
	tests := map[string]bool{}
	wholeShops := regexp.MustCompile(`^services/trial/(e2e|defects)/`)
	for _, file := range tracked(t) {
		if strings.HasPrefix(file, "services/trial/") && !wholeShops.MatchString(file) {
			continue
		}
		if strings.HasSuffix(file, "_test.go") || strings.Contains(file, "storetest/") {
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(read(t, file), -1) {
				tests[m[1]] = true
			}
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)").FindAllStringSubmatch(read(t, ".github/SECURITY.md"), -1)
	if len(named) < 40 {
		t.Fatalf("only %d tests are named", len(named))
	}
	for _, m := range named {
		if !tests[m[1]] {
			t.Errorf("the shop has no %s", m[1])
		}
	}
}
