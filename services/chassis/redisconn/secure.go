package redisconn

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"coatcheck/chassis/certs"
)

// dialTimeout bounds how long a new connection may take, TLS included.
const dialTimeout = time.Second

// Certificates reads the files of TLS to Redis, and again whenever they change
// until ctx ends; nil without TLS.
func (s Settings) Certificates(ctx context.Context, log *slog.Logger) (*certs.Source, error) {
	if !s.TLS {
		return nil, nil
	}
	source, err := certs.Open(certs.Files{Cert: s.Cert, Key: s.Key, CA: s.CA})
	if err != nil {
		return nil, err
	}
	go source.Follow(ctx, log)
	return source, nil
}

// credentials are those of a new connection. While the file can't be read, or is
// empty because it is about to be replaced, the password of the start counts.
func (s Settings) credentials() (username, password string) {
	text, err := os.ReadFile(s.PasswordFile)
	if now := strings.TrimRight(string(text), "\r\n"); err == nil && now != "" {
		return s.Username, now
	}
	return s.Username, s.Password.Reveal()
}

// dialer opens connections over TLS, by what source holds at that moment; nil,
// which is go-redis' own, without a source.
func dialer(source *certs.Source) func(ctx context.Context, network, addr string) (net.Conn, error) {
	if source == nil {
		return nil
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		plain := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}}
		conn, err := plain.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		config := source.Client()
		config.ServerName, _, err = net.SplitHostPort(addr)
		if err != nil {
			_ = conn.Close()
			return nil, err
		}
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return secured, nil
	}
}
