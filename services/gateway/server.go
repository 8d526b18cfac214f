package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

// Server serves a Gateway over HTTP/1.1 and, without TLS, HTTP/2; chassis.Run
// runs it.
type Server struct {
	gateway *Gateway
	http    *http.Server
}

// NewServer returns a server with bounds on what a connection may hold. around,
// if given, wraps the gateway's handler.
func NewServer(g *Gateway, around ...func(http.Handler) http.Handler) *Server {
	const readTimeout = 10 * time.Second
	var handler http.Handler = g
	for _, wrap := range around {
		handler = wrap(handler)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &Server{
		gateway: g,
		http: &http.Server{
			Handler:                      handler,
			Protocols:                    protocols,
			HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: 100, SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second, WriteByteTimeout: 10 * time.Second},
			DisableGeneralOptionsHandler: true,
			ReadHeaderTimeout:            5 * time.Second,
			ReadTimeout:                  readTimeout,
			// Counted from the end of the headers, so a slow body and the work come off it.
			WriteTimeout:   readTimeout + g.settings.RequestTimeout + 5*time.Second,
			IdleTimeout:    60 * time.Second,
			MaxHeaderBytes: 16 << 10,
			ConnContext:    g.bound,
			// What clients do wrong on the wire is no error of ours.
			ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
		},
	}
}

// Serve is part of chassis.Part.
func (s *Server) Serve(lis net.Listener) error {
	err := s.http.Serve(lis)
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Drain asks clients with each answer to open no more requests on that
// connection, and goes on serving. Closing idle connections instead would race
// with requests that are on their way. HTTP/2 connections are told by Stop.
func (s *Server) Drain() { s.gateway.draining.Store(true) }

// endKey finds when a connection is to end in the contexts of its requests.
type endKey struct{}

// bound gives a connection its end. Those that came together must not all come
// again together.
func (g *Gateway) bound(ctx context.Context, _ net.Conn) context.Context {
	age := g.settings.ConnectionAge
	if age == 0 {
		return ctx
	}
	return context.WithValue(ctx, endKey{}, time.Now().Add(time.Duration((0.9+0.2*rand.Float64())*float64(age))))
}

// last tells whether the client is to send its next request elsewhere.
func (g *Gateway) last(r *http.Request, now time.Time) bool {
	end, bounded := r.Context().Value(endKey{}).(time.Time)
	return g.draining.Load() || bounded && now.After(end)
}

// Stop refuses new connections and lets requests under way end until ctx does.
func (s *Server) Stop(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Close ends every connection.
func (s *Server) Close() { _ = s.http.Close() }

func (g *Gateway) livez(w *answer, _ *http.Request) error {
	send(w, http.StatusOK, "text/plain; charset=utf-8", []byte("ok\n"))
	return nil
}

func (g *Gateway) readyz(w *answer, _ *http.Request) error {
	if g.draining.Load() {
		return refuse(http.StatusServiceUnavailable, "draining", "This replica is about to stop.")
	}
	if !g.ready.Load() {
		return refuse(http.StatusServiceUnavailable, "starting", "This replica has not reached the cart and auth services yet.")
	}
	send(w, http.StatusOK, "text/plain; charset=utf-8", []byte("ready\n"))
	return nil
}
