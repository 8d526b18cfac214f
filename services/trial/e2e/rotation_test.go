package e2e_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"coatcheck/auth"
	"coatcheck/auth/mapstore"
	"coatcheck/cart"
	"coatcheck/chassis/config"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

const (
	// spreads is how long a changed Secret may take to reach a pod.
	spreads = 100 * time.Second
	// lead is how long a new key is known before it signs.
	lead = 2 * time.Minute
	// lives is how long all tickets live here, but those of the inside.
	lives = 10 * time.Minute
	// between is how often keys are rotated.
	between = 5 * time.Minute
	// step is how far the clock goes at a time.
	step = 2 * time.Second
)

// rotations is three auths and three carts on a clock of their own, whose key
// file is rotated all the time. Each auth gets the file at another time, each cart
// asks one auth or the other.
type rotations struct {
	*testing.T
	random  *mrand.Rand
	now     time.Time
	file    string
	auths   []*replica
	carts   []*cart.Keyring
	routine bool // the carts ask for keys since it is time to, not since a ticket does not fit

	guests  []shown // tickets that are still good
	refresh []shown

	checked, refused, unroutine int
}

type replica struct {
	*auth.Server
	skew time.Duration
	due  time.Time // when the file gets here; zero: it is here
}

type shown struct {
	ticket string
	until  time.Time
}

// anyAuth is what a cart calls: one auth or the other.
type anyAuth struct {
	authv1.AuthServiceClient
	*rotations
}

func (a anyAuth) ListSigningKeys(ctx context.Context, req *authv1.ListSigningKeysRequest, _ ...grpc.CallOption) (*authv1.ListSigningKeysResponse, error) {
	if !a.routine {
		a.unroutine++
	}
	return a.any().ListSigningKeys(ctx, req)
}

func (r *rotations) any() *replica { return r.auths[r.random.IntN(len(r.auths))] }

func (r *rotations) passed(what string, err error) {
	r.checked++
	if err != nil {
		r.refused++
		if r.refused == 1 {
			r.Logf("%s: %v", what, err)
		}
	}
}

// run is as much of it as the clock goes; rotate makes the next file.
func (r *rotations) run(length time.Duration, rotate func(text string, now time.Time) string) {
	ctx := r.Context()
	r.random = mrand.New(mrand.NewPCG(6, 26))
	r.now = time.Date(2026, 11, 26, 6, 0, 0, 0, time.UTC)
	store := mapstore.New()
	for i := range 3 {
		replica := &replica{skew: time.Duration(i-1) * time.Second}
		server, err := auth.New(auth.Settings{SigningKeys: config.Secret(r.file), Issuer: "coatcheck", MaxPasswordHashes: 1,
			Lives: auth.Lives{GuestTicketLife: lives, SessionIdle: lives, SessionLife: lives}}, store, func() time.Time { return r.now.Add(replica.skew) })
		if err != nil {
			r.Fatal(err)
		}
		replica.Server = server
		r.auths = append(r.auths, replica)
		r.carts = append(r.carts, cart.NewKeyring(anyAuth{rotations: r}, func() time.Time { return r.now }))
	}
	start := r.now
	for i := range r.carts { // each has a rhythm of its own
		r.now = start.Add(-time.Duration(i) * 5 * time.Second)
		r.askInTime(ctx, i)
	}
	r.now = start
	user := &authv1.RegisterRequest{UserId: "u_AAAAAAAAAAAAAAAAAAAAAQ", Email: "ada@example.org", Password: "correct horse battery"}
	if _, err := r.any().Register(ctx, user); err != nil {
		r.Fatal(err)
	}
	for tick := 0; tick < int(length/step); tick++ {
		at := time.Duration(tick) * step
		if at%between == 0 {
			r.file = rotate(r.file, r.now)
			for _, a := range r.auths {
				a.due = r.now.Add(time.Duration(r.random.Int64N(int64(spreads))))
			}
		}
		for _, a := range r.auths {
			if !a.due.IsZero() && !r.now.Before(a.due) {
				a.due = time.Time{}
				if err := a.ReloadKeys(r.file); err != nil {
					r.Fatal(err)
				}
			}
		}
		for i := range r.carts {
			r.askInTime(ctx, i)
		}
		if at%time.Minute == 0 {
			r.logIn(ctx, user)
		}
		r.visit(ctx)
		r.now = r.now.Add(step)
	}
}

// askInTime has a cart ask for keys if it is time to.
func (r *rotations) askInTime(ctx context.Context, i int) {
	r.routine = true
	r.passed("asking for keys", r.carts[i].Ready(ctx))
	r.routine = false
}

// logIn starts a family whose first refresh token nobody uses before the end of
// its session.
func (r *rotations) logIn(ctx context.Context, user *authv1.RegisterRequest) {
	began := r.now
	resp, err := r.any().IssueTokens(ctx, &authv1.IssueTokensRequest{Email: user.GetEmail(), Password: user.GetPassword()})
	if err != nil {
		r.Fatal(err)
	}
	r.refresh = append(r.refresh, shown{resp.GetTokens().GetRefreshToken(), began.Add(lives - 4*step)})
	_, err = r.any().VerifyAccessToken(ctx, &authv1.VerifyAccessTokenRequest{AccessToken: resp.GetTokens().GetAccessToken()})
	r.passed("a new access token", err)
}

// visit has each auth make a guest and each other part take what it made, and
// tickets that are about to expire be shown a last time.
func (r *rotations) visit(ctx context.Context) {
	for _, a := range r.auths {
		guest, err := a.IssueGuestTicket(ctx, &authv1.IssueGuestTicketRequest{})
		if err != nil {
			r.Fatal(err)
		}
		r.guests = append(r.guests, shown{guest.GetTicket(), guest.GetExpiresAt().AsTime().Add(-2 * step)})
		carried := metadata.NewIncomingContext(ctx, metadata.Pairs("ticket", guest.GetInsideTicket()))
		for _, c := range r.carts {
			_, err := c.Check(carried, &cartv1.GetCartRequest{Owner: guest.GetGuestId()}, &grpc.UnaryServerInfo{FullMethod: cartv1.CartService_GetCart_FullMethodName},
				func(context.Context, any) (any, error) { return nil, nil })
			r.passed("a ticket at a cart", err)
		}
		for _, b := range r.auths {
			_, err := b.VerifyGuestTicket(ctx, &authv1.VerifyGuestTicketRequest{Ticket: guest.GetTicket()})
			r.passed("a new guest ticket", err)
		}
	}
	for len(r.guests) > 0 && r.guests[0].until.Before(r.now.Add(step)) {
		_, err := r.any().VerifyGuestTicket(ctx, &authv1.VerifyGuestTicketRequest{Ticket: r.guests[0].ticket})
		r.passed("a guest ticket about to expire", err)
		r.guests = r.guests[1:]
	}
	for len(r.refresh) > 0 && r.refresh[0].until.Before(r.now.Add(step)) {
		_, err := r.any().RefreshTokens(ctx, &authv1.RefreshTokensRequest{RefreshToken: r.refresh[0].ticket})
		r.passed("a refresh token at the end of its session", err)
		r.refresh = r.refresh[1:]
	}
}

// TestRotations: twelve rotations while everybody signs and checks, each with a
// key file of another age. No valid ticket is refused, and no cart has to ask for a
// key because a ticket came that it did not know.
func TestRotations(t *testing.T) {
	first, err := os.ReadFile(signingKeys(t))
	if err != nil {
		t.Fatal(err)
	}
	longest := auth.Lives{GuestTicketLife: lives, SessionLife: lives}.Longest()
	dropped, most := 0, 0
	r := &rotations{T: t, file: string(first)}
	r.run(time.Hour, func(text string, now time.Time) string {
		rotated, did, err := auth.RotateKeys(text, now, lead, longest)
		if err != nil || did.Pending {
			t.Fatalf("%+v, %v", did, err)
		}
		dropped += len(did.Dropped)
		most = max(most, strings.Count(rotated, "BEGIN"))
		return rotated
	})
	if r.refused != 0 || r.unroutine != 0 || r.checked < 20_000 {
		t.Errorf("of %d valid tickets %d were refused; carts had to ask %d times", r.checked, r.refused, r.unroutine)
	}
	if dropped < 7 || most > 6 {
		t.Errorf("%d keys were dropped, and %d were there at once", dropped, most)
	}
	t.Logf("%d valid tickets, %d keys dropped, at most %d at once", r.checked, dropped, most)

	// The same with a mistake in it must be seen.
	for name, rotate := range map[string]func(text string, now time.Time) string{
		"a key signs as soon as it is there": func(text string, now time.Time) string { return newKeyFrom(t, now) + text },
		"a key goes when it no longer signs": func(text string, now time.Time) string {
			rotated, _, err := auth.RotateKeys(text, now, lead, time.Nanosecond)
			if err != nil {
				t.Fatal(err)
			}
			return rotated
		},
	} {
		bad := &rotations{T: t, file: string(first)}
		bad.run(25*time.Minute, rotate)
		if bad.refused == 0 {
			t.Errorf("%s: nobody notices", name)
		}
		t.Logf("%s: of %d valid tickets %d were refused", name, bad.checked, bad.refused)
	}
}

// newKeyFrom is a key that signs from then on.
func newKeyFrom(t *testing.T, from time.Time) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der, Headers: map[string]string{"Signs-From": from.UTC().Format(time.RFC3339)}}))
}

// TestRotateKeysCommand rotates the keys of a shop that runs, as make rotate-keys
// does: the new key is published at once, signs when its time comes, and nobody is
// refused or restarted meanwhile.
func TestRotateKeysCommand(t *testing.T) {
	t.Parallel()
	m := openMembers(t)
	file := filepath.Join(m.state, "keys", "signing-keys.pem")
	rotate := func() string {
		t.Helper()
		cmd := exec.Command(filepath.Join(bin, "auth"), "rotate-keys", "-file", file, "-lead", auth.LeastLead.String())
		cmd.Env = environment()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	var requests atomic.Int64
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		m.visitAll(over, &requests)
	}()
	before := m.keyIDs()
	said := rotate()
	if again := rotate(); !strings.HasPrefix(again, "Nothing to do") {
		t.Errorf("a second rotation says %q", again)
	}
	time.Sleep(1500 * time.Millisecond)
	published := m.keyIDs()
	if len(before) != 1 || len(published) != 2 || published[0] != before[0] || !strings.Contains(said, published[1]) {
		t.Fatalf("keys were %v and are %v; it said %q", before, published, said)
	}
	time.Sleep(auth.LeastLead)
	after := m.keyIDs()
	close(over)
	<-ended
	slices.Reverse(published)
	if !slices.Equal(after, published) {
		t.Errorf("keys are %v, want %v", after, published)
	}
	for _, p := range m.shop.Processes() {
		if p.Restarts > 0 {
			t.Errorf("%s restarted", p.Name)
		}
	}
	if requests.Load() < 500 {
		t.Errorf("%d requests are too few to mean anything", requests.Load())
	}
	t.Logf("%d requests", requests.Load())
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
	for _, wrong := range [][]string{{}, {"-file", file, "-secret", "x"}, {"-file", file, "-lead", "1s"}, {"-file", filepath.Join(t.TempDir(), "none")}, {"-secret", "x"}} {
		cmd := exec.Command(filepath.Join(bin, "auth"), append([]string{"rotate-keys"}, wrong...)...)
		cmd.Env = environment()
		if out, err := cmd.CombinedOutput(); err == nil || len(out) == 0 {
			t.Errorf("%v is taken: %s", wrong, out)
		}
	}
}
