package cart

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/grpc"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/ticket"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

const (
	// refreshKeys is how often auth is asked for its keys.
	refreshKeys = 15 * time.Second
	// leastAge is how old they are at least when a ticket that they do not fit has
	// auth asked for newer ones.
	leastAge = time.Second
	// firstAge is the same while there are none.
	firstAge = 100 * time.Millisecond
	// maxTickets is how many tickets are remembered whose signature was checked.
	maxTickets = 10_000
	// audience names this service in tickets.
	audience = "cart"
)

var errWrongTicket = fault.New(fault.Forbidden, "wrong_ticket", "The call came without a good ticket of the cart's owner.")

// Keyring holds each call against the inside tickets that it came with: whoever
// can reach this service, the gateway included, gets at no cart without a ticket
// that auth has signed for its owner a minute ago at most.
type Keyring struct {
	auth authv1.AuthServiceClient
	now  func() time.Time
	held atomic.Pointer[heldKeys]
	seen *lru.Cache[string, ticket.Inside] // by the whole ticket, so that none passes for another

	fetching sync.Mutex
	asked    time.Time // when auth was last asked for keys
	err      error     // what came of that
}

type heldKeys struct {
	keys   ticket.Keys
	issuer string
}

// NewKeyring returns one without keys; it asks for them when they are wanted.
func NewKeyring(auth authv1.AuthServiceClient, now func() time.Time) *Keyring {
	seen, _ := lru.New[string, ticket.Inside](maxTickets) // fails for sizes below 1
	k := &Keyring{auth: auth, now: now, seen: seen}
	k.held.Store(&heldKeys{})
	return k
}

// fetch asks auth for its keys, unless that was done less than leastAge ago; then
// it answers what came of it. Many callers wait for one answer.
func (k *Keyring) fetch(ctx context.Context, leastAge time.Duration) error {
	k.fetching.Lock()
	defer k.fetching.Unlock()
	if !k.has() {
		leastAge = min(leastAge, firstAge)
	}
	now := k.now()
	if now.Sub(k.asked) < leastAge {
		return k.err
	}
	held, err := k.ask(ctx)
	k.asked, k.err = now, err
	if err != nil {
		return err
	}
	before := k.held.Swap(held)
	for id := range before.keys {
		if held.keys[id] == nil {
			k.seen.Purge() // what a key has signed goes with it
		}
	}
	return nil
}

func (k *Keyring) ask(ctx context.Context) (*heldKeys, error) {
	resp, err := k.auth.ListSigningKeys(ctx, &authv1.ListSigningKeysRequest{})
	if err != nil {
		return nil, fmt.Errorf("asking auth for its keys: %w", err)
	}
	keys := ticket.Keys{}
	for _, key := range resp.GetKeys() {
		if len(key.GetPublicKey()) != ed25519.PublicKeySize {
			return nil, errors.New("auth's keys: one is no Ed25519 key")
		}
		keys[key.GetId()] = key.GetPublicKey()
	}
	if len(keys) == 0 || resp.GetIssuer() == "" {
		return nil, errors.New("auth's keys: there are none, or no issuer")
	}
	return &heldKeys{keys, resp.GetIssuer()}, nil
}

func (k *Keyring) has() bool { return len(k.held.Load().keys) > 0 }

// Ready answers nil once the keys are there.
func (k *Keyring) Ready(ctx context.Context) error { return k.fetch(ctx, refreshKeys) }

// Follow fetches the keys again and again until ctx ends. While auth does not
// answer, those that are held count.
func (k *Keyring) Follow(ctx context.Context) {
	tick := time.NewTicker(refreshKeys)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		_ = k.fetch(try, 0) // the next time
		cancel()
	}
}

// Check is the interceptor of calls to the cart service.
func (k *Keyring) Check(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if !strings.HasPrefix(info.FullMethod, "/"+cartv1.CartService_ServiceDesc.ServiceName+"/") {
		return handler(ctx, req)
	}
	owners := []string{""} // a call that nobody has decided about is nobody's
	switch req := req.(type) {
	case *cartv1.ListProductsRequest:
		owners = nil // everybody's
	case *cartv1.BatchRequest:
		owners = nil // Batch holds each operation against the ticket that came in it
	case *cartv1.MergeCartsRequest:
		owners = []string{req.GetFrom(), req.GetTo()}
	case interface{ GetOwner() string }:
		owners = []string{req.GetOwner()}
	}
	tickets := ticket.From(ctx)
	for _, owner := range owners {
		if k.holds(owner, tickets...) {
			continue
		}
		// auth may have keys that are not known here: always at first.
		if err := k.fetch(ctx, leastAge); err != nil && !k.has() {
			return nil, fault.Wrap(err, fault.Unavailable, "no_keys", "A part of the shop is not answering.")
		}
		if !k.holds(owner, tickets...) {
			return nil, errWrongTicket
		}
	}
	return handler(ctx, req)
}

// holds reports whether one of the tickets is a good one of the owner.
func (k *Keyring) holds(owner string, tickets ...string) bool {
	for _, t := range tickets {
		if in, ok := k.verify(t); ok && in.Owner == owner {
			return true
		}
	}
	return false
}

// verify checks a signature once for as long as the ticket is good: that is most
// of what a cheap call costs.
func (k *Keyring) verify(t string) (ticket.Inside, bool) {
	if len(t) > ticket.MaxLength {
		return ticket.Inside{}, false
	}
	if in, ok := k.seen.Get(t); ok && in.Good(k.now()) {
		return in, true
	}
	held := k.held.Load()
	in, ok := held.keys.VerifyInside(t, held.issuer, audience, k.now())
	if ok {
		k.seen.Add(t, in)
	}
	return in, ok
}
