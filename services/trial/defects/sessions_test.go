package defects

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"coatcheck/auth"
	"coatcheck/chassis/redisconn"
	"coatcheck/chassis/ticket"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// selfContained is a gateway whose session is a JWT: whoever holds one whose
// signature is good is logged in until it expires, and nobody is asked.
func selfContained() grpc.UnaryClientInterceptor {
	const typ = "session+jwt"
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public := private.Public().(ed25519.PublicKey)
	keys := ticket.Keys{ticket.KeyID(public): public}
	type claims struct {
		User    string `json:"sub"`
		Session string `json:"sid"`
		Inside  string `json:"inside"`
		Expires int64  `json:"exp"`
	}
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if path.Base(method) == "VerifySession" {
			var c claims
			if keys.Verify(req.(*authv1.VerifySessionRequest).GetSessionToken(), typ, &c) && time.Now().Unix() < c.Expires {
				proto.Merge(reply.(proto.Message), &authv1.VerifySessionResponse{
					UserId: c.User, SessionId: c.Session, InsideTicket: c.Inside, ExpiresAt: timestamppb.New(time.Unix(c.Expires, 0)),
				})
				return nil
			}
		}
		err := invoke(ctx, method, req, reply, conn, opts...)
		if in, ok := reply.(*authv1.LogInResponse); ok && err == nil {
			in.SessionToken = ticket.Sign(private, ticket.KeyID(public), typ, claims{
				in.GetUserId(), in.GetSession().GetId(), in.GetInsideTicket(), in.GetSession().GetExpiresAt().GetSeconds(),
			})
		}
		return err
	}
}

// lateAnswers is a gateway that remembers sessions, forgets a user's when it ends
// one, and asks auth anew meanwhile: what auth was asked before the end, and
// answers after it, is remembered as if it were asked after.
func lateAnswers() grpc.UnaryClientInterceptor {
	var mu sync.Mutex
	known := map[string]*authv1.VerifySessionResponse{} // by token
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		switch in := req.(type) {
		case *authv1.VerifySessionRequest:
			mu.Lock()
			before := known[in.GetSessionToken()]
			mu.Unlock()
			err := invoke(ctx, method, req, reply, conn, opts...)
			answer := proto.Clone(reply.(proto.Message)).(*authv1.VerifySessionResponse)
			if err == nil {
				time.AfterFunc(3*window, func() {
					mu.Lock()
					defer mu.Unlock()
					known[in.GetSessionToken()] = answer
				})
			}
			if before != nil {
				proto.Reset(reply.(proto.Message))
				proto.Merge(reply.(proto.Message), before)
				return nil
			}
			return err
		case *authv1.RevokeSessionRequest:
			err := invoke(ctx, method, req, reply, conn, opts...)
			mu.Lock()
			defer mu.Unlock()
			for token, answer := range known {
				if answer.GetUserId() == in.GetUserId() {
					delete(known, token)
				}
			}
			return err
		}
		return invoke(ctx, method, req, reply, conn, opts...)
	}
}

// deaf is a stream of news that takes silence for no news.
type deaf struct {
	grpc.ClientStream
	began    time.Time
	position string
	words    chan *authv1.WatchRevocationsResponse
	over     chan error
}

func newDeaf(stream grpc.ClientStream) grpc.ClientStream {
	d := &deaf{ClientStream: stream, began: time.Now(), words: make(chan *authv1.WatchRevocationsResponse), over: make(chan error, 1)}
	go func() {
		for {
			word := &authv1.WatchRevocationsResponse{}
			if err := stream.RecvMsg(word); err != nil {
				d.over <- err
				return
			}
			select {
			case d.words <- word:
			case <-stream.Context().Done():
			}
		}
	}()
	return d
}

func (d *deaf) RecvMsg(m any) error {
	news := m.(*authv1.WatchRevocationsResponse)
	proto.Reset(news)
	select {
	case err := <-d.over:
		return err
	case word := <-d.words:
		proto.Merge(news, word)
		d.position = word.GetPosition()
	case <-time.After(3 * window):
		news.Position, news.Complete = d.position, durationpb.New(time.Since(d.began))
	}
	return nil
}

// rotated is the next file of signing keys, as a shop has it whose last rotation
// began as long ago as a new key waits: it signs within a second.
func rotated(keys string) (string, error) {
	next, _, err := auth.RotateKeys(keys, time.Now().Add(-auth.LeastLead), auth.LeastLead, time.Hour)
	return next, err
}

// newKeyAlone is the same without the key before it, which has signed what is
// shown yet.
func newKeyAlone(keys string) (string, error) {
	next, err := rotated(keys)
	_, alone := pem.Decode([]byte(next)) // the one that signs comes first
	return string(alone), err
}

// forgiving takes any refresh token of a session for the one that counts.
type forgiving struct {
	auth.Store
	rdb redis.UniversalClient
}

func newForgiving(s auth.Store, rdb redis.UniversalClient) auth.Store { return forgiving{s, rdb} }

func (s forgiving) Rotate(ctx context.Context, userID, sessionID string, _ int64, now time.Time, idle, grace time.Duration) (auth.Family, error) {
	family, err := s.rdb.HGet(ctx, "families:{"+userID+"}", sessionID).Result()
	if err != nil {
		return auth.Family{}, redisconn.Unavailable(err)
	}
	count, _, _ := strings.Cut(family, " ")
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		return auth.Family{}, err
	}
	return s.Store.Rotate(ctx, userID, sessionID, n, now, idle, grace)
}
