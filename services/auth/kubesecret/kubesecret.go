// Package kubesecret changes one value of one Secret through the Kubernetes API,
// with the rights of the pod that it runs in: get and patch of that Secret.
//
// The hazard is another writer in between, whose change would be lost: each write
// names the version that was read, and is begun again if the API server has a
// newer one. No error shows what is in the Secret.
package kubesecret

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ServiceAccount is the folder where Kubernetes puts a pod's token, its namespace
// and the authority of the API server.
const ServiceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

const (
	// tries is how often a change is begun that others come before.
	tries = 5
	// maxAnswer bounds an answer; a Secret has 1 MiB at most, before base64.
	maxAnswer = 4 << 20
)

// Client is one of the API server.
type Client struct {
	base      string
	folder    string
	namespace string
	http      *http.Client
}

// New returns a client of the API server at host and port, with the token, the
// namespace and the authority that lie in folder.
func New(host, port, folder string) (*Client, error) {
	if host == "" || port == "" {
		return nil, errors.New("KUBERNETES_SERVICE_HOST and _PORT are not set: this must run in a pod")
	}
	namespace, err := os.ReadFile(filepath.Join(folder, "namespace"))
	if err != nil {
		return nil, fmt.Errorf("the pod's namespace: %w", err)
	}
	authority, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("the API server's authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, errors.New("the API server's authority: no certificate in ca.crt")
	}
	return &Client{
		base:      "https://" + net.JoinHostPort(host, port),
		folder:    folder,
		namespace: strings.TrimSpace(string(namespace)),
		http: &http.Client{
			Timeout:       10 * time.Second,
			Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// secret is what is used of a Secret; its data travel in base64, as []byte do.
type secret struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Data map[string][]byte `json:"data"`
}

// Update has change make a new value from what the Secret holds under key, and
// again if somebody else wrote the Secret meanwhile. A value that stays as it is
// is not written.
func (c *Client) Update(ctx context.Context, name, key string, change func(value string) (string, error)) error {
	for range tries {
		var now secret
		if _, err := c.call(ctx, http.MethodGet, name, nil, &now); err != nil {
			return fmt.Errorf("reading Secret %s: %w", name, err)
		}
		value, ok := now.Data[key]
		if !ok {
			return fmt.Errorf("Secret %s has no key %s", name, key)
		}
		changed, err := change(string(value))
		if err != nil {
			return fmt.Errorf("Secret %s, key %s: %w", name, key, err)
		}
		if changed == string(value) {
			return nil
		}
		patch := secret{Data: map[string][]byte{key: []byte(changed)}}
		patch.Metadata = now.Metadata
		status, err := c.call(ctx, http.MethodPatch, name, patch, &secret{})
		if status == http.StatusConflict {
			continue
		}
		if err != nil {
			return fmt.Errorf("writing Secret %s: %w", name, err)
		}
		return nil
	}
	return fmt.Errorf("writing Secret %s: others wrote it %d times meanwhile", name, tries)
}

// call sends a request about the Secret; body, if any, is a merge patch.
func (c *Client) call(ctx context.Context, method, name string, body, answer any) (status int, err error) {
	// The kubelet replaces the token before it expires.
	token, err := os.ReadFile(filepath.Join(c.folder, "token"))
	if err != nil {
		return 0, fmt.Errorf("the pod's token: %w", err)
	}
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		content = bytes.NewReader(text)
	}
	address := c.base + "/api/v1/namespaces/" + url.PathEscape(c.namespace) + "/secrets/" + url.PathEscape(name)
	req, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return resp.StatusCode, err
	}
	if resp.StatusCode != http.StatusOK {
		// Its reason is one word; its message may quote what was sent.
		var said struct {
			Reason string `json:"reason"`
		}
		_ = json.Unmarshal(text, &said)
		return resp.StatusCode, fmt.Errorf("the API server answers %d %s", resp.StatusCode, said.Reason)
	}
	if json.Unmarshal(text, answer) != nil {
		return resp.StatusCode, errors.New("the API server's answer is no Secret")
	}
	return resp.StatusCode, nil
}
