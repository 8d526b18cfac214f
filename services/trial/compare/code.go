package compare

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// code counts the lines of each way: Go and Lua that are neither empty nor only a
// comment, without tests and without what is generated.
func (r *run) code() (map[string]int, error) {
	root, err := r.repository()
	if err != nil {
		return nil, err
	}
	common := []string{
		"gateway/*.go", "cart/*.go", "chassis/*.go", "chassis/config/*.go", "chassis/fault/*.go", "chassis/rpc/*.go",
		"auth/common_password.go", "auth/identity.go", "auth/limits.go", "auth/password.go", "auth/server.go", "auth/settings.go", "auth/store.go", "auth/ticket.go",
	}
	memory := []string{"auth/mapstore/*.go", "cart/mapstore/*.go", "trial/stateful/*.go", "trial/cmd/stateful/*.go"}
	counts := map[string]int{}
	for key, more := range map[string][]string{
		"memory":         memory,
		"memory-cookie":  append(memory[:len(memory):len(memory)], "trial/compare/sticky_cookie.go"),
		"memory-address": append(memory[:len(memory):len(memory)], "trial/compare/sticky_address.go"),
		// In place of the carts in memory; users are still those.
		"cookie": {"auth/mapstore/*.go", "trial/stateful/*.go", "trial/cmd/stateful/*.go", "trial/stateful/pocket/*.go"},
		"redis":  {"auth/redis.go", "auth/*.lua", "cart/redisstore/*.go", "cart/redisstore/*.lua", "chassis/redisconn/*.go", "gateway/cmd/*/*.go", "auth/cmd/*/*.go", "cart/cmd/*/*.go"},
	} {
		for _, pattern := range append(common[:len(common):len(common)], more...) {
			n, err := count(filepath.Join(root, "services", pattern))
			if err != nil {
				return nil, err
			}
			counts[key] += n
		}
	}
	return counts, nil
}

func count(pattern string) (int, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return 0, err
	}
	lines, found := 0, false
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		found = true
		n, err := countFile(file)
		if err != nil {
			return 0, err
		}
		lines += n
	}
	if !found {
		return 0, fmt.Errorf("there is no %s", pattern)
	}
	return lines, nil
}

func countFile(file string) (int, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	n := 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line != "" && !strings.HasPrefix(line, "//") && !strings.HasPrefix(line, "--") {
			n++
		}
	}
	return n, lines.Err()
}
