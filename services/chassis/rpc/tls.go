package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"coatcheck/chassis/certs"
	"coatcheck/chassis/fault"
)

// TLSSettings have the services call each other over TLS with certificates on
// both sides, all of one authority. Either all are set or none.
type TLSSettings struct {
	Cert string `env:"TLS_CERT_FILE"`
	Key  string `env:"TLS_KEY_FILE"`
	CA   string `env:"TLS_CA_FILE"`
}

// Validate names each fault.
func (s TLSSettings) Validate() []error {
	var faults []error
	if s == (TLSSettings{}) {
		return nil
	}
	for _, f := range []struct{ name, value string }{{"CERT", s.Cert}, {"KEY", s.Key}, {"CA", s.CA}} {
		if f.value == "" {
			faults = append(faults, errors.New("COATCHECK_TLS_"+f.name+"_FILE: must be set if another of the three is"))
		}
	}
	return faults
}

// TLS is how this process calls others and is called. The zero TLS is none.
type TLS struct{ source *certs.Source }

// OpenTLS reads the files, and again whenever they change until ctx ends.
func OpenTLS(ctx context.Context, s TLSSettings, log *slog.Logger) (TLS, error) {
	if s == (TLSSettings{}) {
		return TLS{}, nil
	}
	source, err := certs.Open(certs.Files(s))
	if err != nil {
		return TLS{}, err
	}
	go source.Follow(ctx, log)
	return TLS{source}, nil
}

// ServerOptions are for a server that only those may call whose certificate has
// one of the names; without names, those with any of the authority's.
func (t TLS) ServerOptions(names []string) []grpc.ServerOption {
	if t.source == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(t.source.Server(names)))}
}

// Limit is for a server that those whose certificate has one of the names may ask
// for the methods and for its health, and for nothing else. A certificate that has
// another name too is limited all the same.
func (t TLS) Limit(names []string, methods ...string) []grpc.ServerOption {
	if t.source == nil || len(names) == 0 {
		return nil
	}
	check := func(ctx context.Context, method string) error {
		if slices.Contains(methods, method) || strings.HasPrefix(method, "/"+grpc_health_v1.Health_ServiceDesc.ServiceName+"/") {
			return nil
		}
		for _, name := range callerNames(ctx) {
			if slices.Contains(names, name) {
				return fault.New(fault.Forbidden, "not_for_caller", "The caller's certificate is not for this call.")
			}
		}
		return nil
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := check(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if err := check(ss.Context(), info.FullMethod); err != nil {
				return err
			}
			return handler(srv, ss)
		}),
	}
}

// callerNames are those in the certificate of whoever calls.
func callerNames(ctx context.Context) []string {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	return info.State.PeerCertificates[0].DNSNames
}

// DialOptions are for a connection to servers that must prove the name of the
// target, or the address where the target is a list of addresses.
func (t TLS) DialOptions() []grpc.DialOption {
	if t.source == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithTransportCredentials(dialing{credentials.NewTLS(&tls.Config{}), t.source})}
}

// dialing goes by what the files hold at the moment of each handshake.
type dialing struct {
	credentials.TransportCredentials
	source *certs.Source
}

func (d dialing) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(d.source.Client()).ClientHandshake(ctx, authority, conn)
}

func (d dialing) Clone() credentials.TransportCredentials {
	return dialing{d.TransportCredentials.Clone(), d.source}
}
