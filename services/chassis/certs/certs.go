// Package certs is TLS from files: a certificate with its key, and the
// authorities whose certificates are taken, each as the files are now.
//
// The hazard is a certificate that is replaced in time on the disk and expires
// all the same, in the memory of a process that nobody restarted; and one of the
// files read before a replacement and another after it. So files are looked at
// every second, taken together or not at all, and each new connection goes by
// what was taken last. Connections that are open go on.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// reread is how often the files are looked at.
const reread = time.Second

// Files name PEM files. Without Cert and Key there is no certificate to show,
// without CA the system's authorities count.
type Files struct{ Cert, Key, CA string }

// Source is what the files hold.
type Source struct {
	files Files
	held  atomic.Pointer[held]
}

type held struct {
	text        [3]string
	certificate *tls.Certificate // nil: none to show
	authorities *x509.CertPool   // nil: the system's
}

// Open reads the files. Follow keeps up with them.
func Open(files Files) (*Source, error) {
	s := &Source{files: files}
	h, err := s.read()
	if err != nil {
		return nil, err
	}
	s.held.Store(h)
	return s, nil
}

func (s *Source) read() (*held, error) {
	h := &held{}
	for i, path := range []string{s.files.Cert, s.files.Key, s.files.CA} {
		if path == "" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		h.text[i] = string(text)
	}
	if s.files.Cert != "" {
		pair, err := tls.X509KeyPair([]byte(h.text[0]), []byte(h.text[1]))
		if err != nil {
			return nil, fmt.Errorf("TLS: %s and its key: %w", s.files.Cert, err)
		}
		h.certificate = &pair
	}
	if s.files.CA != "" {
		h.authorities = x509.NewCertPool()
		if !h.authorities.AppendCertsFromPEM([]byte(h.text[2])) {
			return nil, fmt.Errorf("TLS: %s: no certificate in it", s.files.CA)
		}
	}
	return h, nil
}

// Follow takes the files again each time they change, until ctx ends. What can't
// be used is logged once, and what was there before goes on counting.
func (s *Source) Follow(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(reread)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.reload(log)
		if err == nil {
			last = ""
		} else if err.Error() != last {
			last = err.Error()
			log.Error("the certificates that came are not taken", "err", err)
		}
	}
}

func (s *Source) reload(log *slog.Logger) error {
	h, err := s.read()
	if err != nil || h.text == s.held.Load().text {
		return err
	}
	s.held.Store(h)
	attributes := []any{}
	if h.certificate != nil {
		attributes = append(attributes, "expires", h.certificate.Leaf.NotAfter)
	}
	log.Info("certificates taken", attributes...)
	return nil
}

// Client is how to call somebody now: one configuration for each connection.
// ServerName is the caller's to set.
func (s *Source) Client() *tls.Config {
	h := s.held.Load()
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: h.authorities}
	if h.certificate != nil {
		c.Certificates = []tls.Certificate{*h.certificate}
	}
	return c
}

// Server is how to be called by those with a certificate of one of the
// authorities that has one of the names; without names, of any.
func (s *Source) Server(names []string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			h := s.held.Load()
			if h.certificate == nil || h.authorities == nil {
				return nil, errors.New("a server needs a certificate, and authorities for those of its clients")
			}
			return &tls.Config{
				MinVersion:   tls.VersionTLS13, // of one's own there is nobody older
				NextProtos:   []string{"h2"},
				Certificates: []tls.Certificate{*h.certificate},
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    h.authorities,
				// A session that is taken up again would go by the authorities of before.
				SessionTicketsDisabled: true,
				VerifyConnection: func(state tls.ConnectionState) error {
					if len(names) == 0 {
						return nil
					}
					for _, name := range state.PeerCertificates[0].DNSNames {
						if slices.Contains(names, name) {
							return nil
						}
					}
					return errors.New("the certificate is of nobody who may call")
				},
			}, nil
		},
	}
}
