package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// tokens asks for tokens and returns them with the status.
func (m *members) tokens(url, body string) (status int, access, refresh string) {
	resp, err := m.http.Post(url+"/v1/tokens", "application/json", bytes.NewBufferString(body))
	if err != nil {
		m.Error(err)
		return 0, "", ""
	}
	defer func() { _ = resp.Body.Close() }()
	var got struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	content, _ := io.ReadAll(resp.Body)
	if err := json.Unmarshal(content, &got); err != nil {
		m.Errorf("%v in %q", err, content)
	}
	return resp.StatusCode, got.Access, got.Refresh
}

// bearer reads a cart with an access token.
func (m *members) bearer(url, access string) int {
	req, err := http.NewRequest(http.MethodGet, url+"/v1/cart", nil)
	if err != nil {
		m.Error(err)
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+access)
	resp, err := m.http.Do(req)
	if err != nil {
		m.Error(err)
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// visitAll has tokens made, renewed and shown until over is closed; nobody may be
// refused.
func (m *members) visitAll(over <-chan struct{}, requests *atomic.Int64) {
	status, access, refresh := m.tokens(m.gateways[0], "{\"grant_type\": \"password\", "+ada[1:])
	if status != http.StatusOK {
		m.Errorf("asking for tokens: %d", status)
		return
	}
	for i := 0; ; i++ {
		select {
		case <-over:
			return
		case <-time.After(5 * time.Millisecond):
		}
		if status := m.bearer(m.gateways[i%4], access); status != http.StatusOK {
			m.Errorf("the access token was answered %d", status)
		}
		body, _ := json.Marshal(map[string]string{"grant_type": "refresh_token", "refresh_token": refresh})
		status, access, refresh = m.tokens(m.gateways[(i+1)%4], string(body))
		if status != http.StatusOK {
			m.Errorf("the refresh token was answered %d", status)
			return
		}
		requests.Add(2)
	}
}

// keyIDs are those of the keys that the shop publishes, in its order.
func (m *members) keyIDs() (ids []string) {
	m.Helper()
	resp, err := m.http.Get(m.gateways[0] + "/.well-known/jwks.json")
	if err != nil {
		m.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var set struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		m.Fatal(err)
	}
	for _, key := range set.Keys {
		ids = append(ids, key.ID)
	}
	return ids
}

// TestSigningKeysChange: the key that signs is replaced while tokens are made,
// renewed and shown all the time. No process restarts and nobody is refused.
func TestSigningKeysChange(t *testing.T) {
	m := openMembers(t)
	file := filepath.Join(m.state, "keys", "signing-keys.pem")
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	another, err := os.ReadFile(signingKeys(t))
	if err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int64
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		m.visitAll(over, &requests)
	}()
	before := m.keyIDs()
	for _, keys := range [][]byte{append(append([]byte(nil), old...), another...), append(append([]byte(nil), another...), old...)} {
		if err := os.WriteFile(file+".next", keys, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".next", file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2500 * time.Millisecond) // each replica looks once a second
	}
	after := m.keyIDs()
	close(over)
	<-ended
	if len(before) != 1 || len(after) != 2 || after[0] == before[0] || after[1] != before[0] {
		t.Errorf("keys were %v and are %v", before, after)
	}
	for _, p := range m.shop.Processes() {
		if p.Restarts > 0 {
			t.Errorf("%s restarted", p.Name)
		}
	}
	if requests.Load() < 100 {
		t.Errorf("%d requests are too few to mean anything", requests.Load())
	}
	t.Logf("%d requests", requests.Load())
}
