package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// proxy is a kubectl proxy, by which pods are taken. A kubectl for each takes as
// much CPU to begin as the shop does for a hundred requests, and where the cluster
// shares the trial's machine the shop would lack it just when a pod is gone.
type proxy struct {
	command *exec.Cmd
	dir     string
	client  *http.Client
	said    strings.Builder
	ended   chan struct{} // closed when kubectl has ended; said is whole then
}

// proxied is how long a proxy may take to listen, and one of its requests.
const proxied = 30 * time.Second

// openProxy starts a proxy that nobody else on the machine can reach: who can
// speak to it is whoever kubectl is.
func openProxy(ctx context.Context, kubectl string) (*proxy, error) {
	dir, err := os.MkdirTemp("", "coatcheck-kubectl-")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "proxy")
	p := &proxy{command: exec.Command(kubectl, "proxy", "--unix-socket", path), dir: dir, ended: make(chan struct{})}
	p.command.Stderr = &p.said
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	p.client = &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: proxied}
	if err := p.command.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() {
		_ = p.command.Wait()
		close(p.ended)
	}()
	ctx, cancel := context.WithTimeout(ctx, proxied)
	defer cancel()
	for {
		conn, err := dial(ctx, "", "")
		if err == nil {
			return p, conn.Close()
		}
		select {
		case <-time.After(50 * time.Millisecond):
			continue
		case <-p.ended:
		case <-ctx.Done():
		}
		p.close()
		return nil, fmt.Errorf("kubectl proxy does not listen: %w: %s", err, strings.TrimSpace(p.said.String()))
	}
}

func (p *proxy) close() {
	p.client.CloseIdleConnections()
	_ = p.command.Process.Kill()
	<-p.ended
	_ = os.RemoveAll(p.dir)
}

// ask makes one request about a pod of the shop's namespace. The error of one that
// is refused has the API server's own words.
func (c *Cluster) ask(ctx context.Context, method, pod, body string) error {
	// The proxy answers to this name only.
	url := "http://localhost/api/v1/namespaces/" + c.options.Namespace + "/pods/" + pod
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.proxy.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 300 {
		return nil
	}
	var status struct{ Message string }
	_ = json.NewDecoder(resp.Body).Decode(&status)
	return fmt.Errorf("%s %s: %s: %s", method, pod, resp.Status, status.Message)
}
