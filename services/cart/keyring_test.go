package cart_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"coatcheck/cart"
	"coatcheck/chassis/fault"
	"coatcheck/chassis/ticket"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

const (
	ada   = "u_AAAAAAAAAAAAAAAAAAAAAA"
	bob   = "u_BBBBBBBBBBBBBBBBBBBBBB"
	guest = "g_AAAAAAAAAAAAAAAAAAAAAA"
)

// fakeKeys is an auth that has keys and nothing else.
type fakeKeys struct {
	authv1.AuthServiceClient
	keys  []ed25519.PrivateKey
	asked int
	err   error
	bad   bool
}

func (f *fakeKeys) ListSigningKeys(context.Context, *authv1.ListSigningKeysRequest, ...grpc.CallOption) (*authv1.ListSigningKeysResponse, error) {
	f.asked++
	resp := &authv1.ListSigningKeysResponse{Issuer: "coatcheck"}
	for _, key := range f.keys {
		public := key.Public().(ed25519.PublicKey)
		resp.Keys = append(resp.Keys, &authv1.SigningKey{Id: ticket.KeyID(public), PublicKey: public})
	}
	if f.bad {
		resp.Keys[0].PublicKey = []byte("short")
	}
	return resp, f.err
}

func newKey(seed byte) ed25519.PrivateKey {
	raw := make([]byte, ed25519.SeedSize)
	raw[0] = seed
	return ed25519.NewKeyFromSeed(raw)
}

// signed is a ticket for the cart service, or for another audience.
func signed(key ed25519.PrivateKey, audience, owner string, at time.Time) string {
	return ticket.SignInside(func(typ string, claims any) string {
		return ticket.Sign(key, ticket.KeyID(key.Public().(ed25519.PublicKey)), typ, claims)
	}, "coatcheck", audience, owner, "", at)
}

type keyringTest struct {
	*testing.T
	auth *fakeKeys
	ring *cart.Keyring
	now  time.Time
}

func newKeyringTest(t *testing.T) *keyringTest {
	k := &keyringTest{T: t, auth: &fakeKeys{keys: []ed25519.PrivateKey{newKey(1)}}, now: time.Unix(1795435200, 0)}
	k.ring = cart.NewKeyring(k.auth, func() time.Time { return k.now })
	return k
}

// call makes a call with tickets; served tells whether it got through.
func (k *keyringTest) call(method string, req any, tickets ...string) (served bool, err error) {
	ctx := metadata.NewIncomingContext(k.Context(), metadata.MD{"ticket": tickets})
	_, err = k.ring.Check(ctx, req, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) {
		served = true
		return nil, nil
	})
	return served, err
}

func (k *keyringTest) passes(what string, req any, tickets ...string) {
	k.Helper()
	if served, err := k.call("/coatcheck.cart.v1.CartService/X", req, tickets...); !served || err != nil {
		k.Errorf("%s: %v", what, err)
	}
}

func (k *keyringTest) refused(what string, req any, tickets ...string) {
	k.Helper()
	served, err := k.call("/coatcheck.cart.v1.CartService/X", req, tickets...)
	if f := fault.From(err); served || f == nil || f.Kind != fault.Forbidden || f.Code != "wrong_ticket" {
		k.Errorf("%s: served %v, %v", what, served, err)
	}
}

func TestKeyring(t *testing.T) {
	k := newKeyringTest(t)
	key := newKey(1)
	mine, hers, theGuests := signed(key, "cart", bob, k.now), signed(key, "cart", ada, k.now), signed(key, "cart", guest, k.now)
	get, merge := &cartv1.GetCartRequest{Owner: ada}, &cartv1.MergeCartsRequest{From: guest, To: ada}

	k.passes("the owner", get, hers)
	k.passes("the owner, among others", get, mine, hers)
	k.passes("a merge of both", merge, theGuests, hers)
	k.passes("the catalogue", &cartv1.ListProductsRequest{})
	if served, err := k.call("/grpc.health.v1.Health/Check", get); !served || err != nil {
		t.Errorf("another service: %v", err)
	}
	k.refused("without a ticket", get)
	k.refused("another user", get, mine)
	k.refused("nobody's cart", &cartv1.GetCartRequest{}, mine)
	k.refused("a merge without the guest", merge, hers)
	k.refused("a merge without the user", merge, theGuests)
	k.refused("a call that nobody has decided about", &cartv1.Line{}, hers)
	k.refused("a foreign key", get, signed(newKey(2), "cart", ada, k.now))
	k.refused("another audience", get, signed(key, "auth", ada, k.now))
	k.refused("nonsense", get, "..", hers+"x")
	k.now = k.now.Add(64 * time.Second)
	k.passes("at its end", get, hers)
	k.now = k.now.Add(time.Second)
	k.refused("over, though it was seen before", get, hers)
}

// TestKeyringFetches: keys are asked for when they are wanted, and not more often
// than they can have changed.
func TestKeyringFetches(t *testing.T) {
	k := newKeyringTest(t)
	get := &cartv1.GetCartRequest{Owner: ada}
	asked := func(want int) {
		t.Helper()
		if k.auth.asked != want {
			t.Errorf("auth was asked %d times, want %d", k.auth.asked, want)
		}
	}
	k.auth.err = errors.New("away")
	if k.ring.Ready(t.Context()) == nil {
		t.Error("ready without keys")
	}
	_, err := k.call("/coatcheck.cart.v1.CartService/GetCart", get, signed(newKey(1), "cart", ada, k.now))
	if f := fault.From(err); f.Kind != fault.Unavailable || f.Code != "no_keys" {
		t.Errorf("without keys: %v", err)
	}
	asked(1) // for both
	k.auth.err = nil
	k.now = k.now.Add(100 * time.Millisecond)
	k.passes("as soon as auth answers", get, signed(newKey(1), "cart", ada, k.now))
	asked(2)
	for range 5 {
		k.passes("then", get, signed(newKey(1), "cart", ada, k.now))
		if err := k.ring.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	}
	asked(2)

	// A new key is known at its first ticket; what nobody has signed does not have
	// auth asked again and again.
	k.auth.keys = append([]ed25519.PrivateKey{newKey(2)}, k.auth.keys...)
	k.refused("within a second", get, signed(newKey(2), "cart", ada, k.now))
	asked(2)
	k.now = k.now.Add(time.Second)
	k.passes("a new key", get, signed(newKey(2), "cart", ada, k.now))
	old := signed(newKey(1), "cart", ada, k.now)
	k.passes("the old key", get, old)
	asked(3)
	for range 10 {
		k.refused("nonsense", get, "x.y.z")
	}
	asked(3)

	// An outage takes nothing away; a key that is gone signs for nobody.
	k.now = k.now.Add(time.Second)
	k.auth.err = errors.New("away")
	k.refused("nonsense", get, "x.y.z")
	k.passes("in an outage", get, old)
	k.auth.err, k.auth.keys = nil, k.auth.keys[:1]
	k.now = k.now.Add(time.Second)
	k.refused("nonsense", get, "x.y.z")
	k.refused("of a key that is gone, though it was seen before", get, old)
	k.now = k.now.Add(time.Second)
	k.auth.bad = true
	k.refused("nonsense", get, "x.y.z")
	k.passes("after keys that are none", get, signed(newKey(2), "cart", ada, k.now))
}
