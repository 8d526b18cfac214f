package gateway

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"coatcheck/chassis/fault"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// hook runs before a call of a replica; an error is the call's answer.
type hook func(ctx context.Context, call string, req any) error

// calls counts what reached the services.
type calls struct {
	mu   sync.Mutex
	seen []string
}

func (c *calls) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, name)
}

func (c *calls) count(names ...string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, s := range c.seen {
		if slices.Contains(names, s) {
			n++
		}
	}
	return n
}

// cartStore is what the replicas of the fake cart share.
type cartStore struct {
	calls
	mu     sync.Mutex
	carts  map[string]*cartState
	orders map[string][]*cartv1.Order
	next   int
}

type cartState struct {
	incarnation string
	version     uint64
	lines       map[string]int64
	keys        map[string]keyState
	moved       bool
	closed      bool
}

type keyState struct {
	fingerprint string
	version     uint64
	order       *cartv1.Order
}

func newCartStore() *cartStore {
	return &cartStore{carts: map[string]*cartState{}, orders: map[string][]*cartv1.Order{}}
}

func (s *cartStore) changes() int {
	return s.count("AddItems", "SetItem", "RemoveItem", "ClearCart", "Checkout", "MergeCarts", "EraseOwner")
}

type fakeCart struct {
	cartv1.UnimplementedCartServiceServer
	*cartStore
	before    hook
	noBatches bool                         // as a replica of an older release
	apart     func(*cartv1.Operation) bool // what a batch leaves to a call by itself
}

func (f *fakeCart) enter(ctx context.Context, call string, req any) error {
	f.add(call)
	if f.before != nil {
		return f.before(ctx, call, req)
	}
	return nil
}

// of is called with mu held.
func (s *cartStore) of(owner string) (*cartState, error) {
	c := s.carts[owner]
	if c == nil {
		c = &cartState{lines: map[string]int64{}, keys: map[string]keyState{}}
		s.carts[owner] = c
	}
	if c.closed {
		return nil, fault.New(fault.Refused, "account_closed", "The account is being deleted.")
	}
	if c.moved {
		return nil, fault.New(fault.Refused, "cart_moved", "The cart went to a user's at log-in.")
	}
	return c, nil
}

func eur(amount int64) *cartv1.Money { return &cartv1.Money{Amount: amount, Currency: "EUR"} }

func (c *cartState) proto(only ...string) *cartv1.Cart {
	out := &cartv1.Cart{Version: &cartv1.CartVersion{Incarnation: c.incarnation, Version: c.version}, Total: eur(0), CatalogueRevision: "rev1"}
	for _, sku := range slices.Sorted(maps.Keys(c.lines)) {
		if len(only) > 0 && !slices.Contains(only, sku) {
			continue
		}
		q := c.lines[sku]
		i := &cartv1.Item{Sku: sku, Name: sku, Quantity: q, UnitPrice: eur(100), LineTotal: eur(100 * q)}
		if sku == "gone" {
			i.Unavailable, i.UnitPrice, i.LineTotal = true, eur(0), eur(0)
		}
		out.Items = append(out.Items, i)
		out.Total.Amount += i.GetLineTotal().GetAmount()
	}
	if c.version > 0 {
		out.ExpiresAt = timestamppb.New(time.Now().Add(time.Hour))
	}
	return out
}

func (s *cartStore) change(owner, key, fingerprint string, p *cartv1.Precondition, minimal bool, skus []string, apply func(*cartState) error) (*cartv1.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.of(owner)
	if err != nil {
		return nil, err
	}
	show := func() *cartv1.Cart {
		if minimal {
			out := c.proto(append(skus, "-")...)
			out.Total = nil
			return out
		}
		return c.proto()
	}
	if k, ok := c.keys[key]; ok {
		if k.fingerprint != fingerprint {
			return nil, fault.New(fault.Refused, "idempotency_key_reused", "The key was used with another request.")
		}
		return &cartv1.Change{Cart: show(), Version: k.version, Replayed: true}, nil
	}
	if !c.holds(p) {
		return nil, fault.New(fault.Stale, "stale_version", "The cart is at another version.")
	}
	err = apply(c)
	if err != nil {
		return nil, err
	}
	if c.incarnation == "" {
		s.next++
		c.incarnation = fmt.Sprintf("inc-%d", s.next)
	}
	c.version++
	c.keys[key] = keyState{fingerprint: fingerprint, version: c.version}
	return &cartv1.Change{Cart: show(), Version: c.version}, nil
}

func (c *cartState) holds(p *cartv1.Precondition) bool {
	return p == nil || slices.ContainsFunc(p.GetAnyOf(), func(v *cartv1.CartVersion) bool {
		return v.GetIncarnation() == c.incarnation && v.GetVersion() == c.version
	})
}

func (f *fakeCart) GetCart(ctx context.Context, r *cartv1.GetCartRequest) (*cartv1.GetCartResponse, error) {
	err := f.enter(ctx, "GetCart", r)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.of(r.GetOwner())
	if err != nil {
		return nil, err
	}
	return &cartv1.GetCartResponse{Cart: c.proto()}, nil
}

func (f *fakeCart) AddItems(ctx context.Context, r *cartv1.AddItemsRequest) (*cartv1.AddItemsResponse, error) {
	err := f.enter(ctx, "AddItems", r)
	if err != nil {
		return nil, err
	}
	var named []string
	for _, l := range r.GetLines() {
		named = append(named, l.GetSku())
	}
	c, err := f.change(r.GetOwner(), r.GetIdempotencyKey(), fmt.Sprint("add", r.GetLines()), r.GetIfMatch(), r.GetMinimal(), named, func(c *cartState) error {
		for _, l := range r.GetLines() {
			switch {
			case l.GetSku() == "unknown":
				return fault.New(fault.Refused, "unknown_sku", "There is no such product.")
			case l.GetQuantity() > 999:
				return fault.New(fault.Refused, "quantity_limit", "At most 999 of one line.")
			}
		}
		for _, l := range r.GetLines() {
			c.lines[l.GetSku()] += l.GetQuantity()
		}
		return nil
	})
	return &cartv1.AddItemsResponse{Change: c}, err
}

func (f *fakeCart) SetItem(ctx context.Context, r *cartv1.SetItemRequest) (*cartv1.SetItemResponse, error) {
	err := f.enter(ctx, "SetItem", r)
	if err != nil {
		return nil, err
	}
	l := r.GetLine()
	c, err := f.change(r.GetOwner(), r.GetIdempotencyKey(), fmt.Sprint("set", l), r.GetIfMatch(), r.GetMinimal(), []string{l.GetSku()}, func(c *cartState) error {
		c.lines[l.GetSku()] = l.GetQuantity()
		if l.GetQuantity() == 0 {
			delete(c.lines, l.GetSku())
		}
		return nil
	})
	return &cartv1.SetItemResponse{Change: c}, err
}

func (f *fakeCart) RemoveItem(ctx context.Context, r *cartv1.RemoveItemRequest) (*cartv1.RemoveItemResponse, error) {
	err := f.enter(ctx, "RemoveItem", r)
	if err != nil {
		return nil, err
	}
	c, err := f.change(r.GetOwner(), r.GetIdempotencyKey(), "remove"+r.GetSku(), r.GetIfMatch(), r.GetMinimal(), []string{r.GetSku()}, func(c *cartState) error {
		delete(c.lines, r.GetSku())
		return nil
	})
	return &cartv1.RemoveItemResponse{Change: c}, err
}

func (f *fakeCart) ClearCart(ctx context.Context, r *cartv1.ClearCartRequest) (*cartv1.ClearCartResponse, error) {
	err := f.enter(ctx, "ClearCart", r)
	if err != nil {
		return nil, err
	}
	c, err := f.change(r.GetOwner(), r.GetIdempotencyKey(), "clear", r.GetIfMatch(), r.GetMinimal(), nil, func(c *cartState) error {
		clear(c.lines)
		return nil
	})
	return &cartv1.ClearCartResponse{Change: c}, err
}

func (f *fakeCart) MergeCarts(ctx context.Context, r *cartv1.MergeCartsRequest) (*cartv1.MergeCartsResponse, error) {
	err := f.enter(ctx, "MergeCarts", r)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	from, err := f.of(r.GetFrom())
	if err != nil {
		return &cartv1.MergeCartsResponse{}, nil
	}
	to, err := f.of(r.GetTo())
	if err != nil {
		return nil, err
	}
	for sku, q := range from.lines {
		to.lines[sku] += q
	}
	to.version++
	to.incarnation = "merged"
	from.moved = true
	return &cartv1.MergeCartsResponse{}, nil
}

func (f *fakeCart) Checkout(ctx context.Context, r *cartv1.CheckoutRequest) (*cartv1.CheckoutResponse, error) {
	err := f.enter(ctx, "Checkout", r)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.of(r.GetOwner())
	if err != nil {
		return nil, err
	}
	if k, ok := c.keys[r.GetIdempotencyKey()]; ok {
		return &cartv1.CheckoutResponse{Order: k.order, Replayed: true}, nil
	}
	if !c.holds(r.GetIfMatch()) || r.GetIfMatch() == nil {
		return nil, fault.New(fault.Stale, "stale_version", "The cart is at another version.")
	}
	if len(c.lines) == 0 {
		return nil, fault.New(fault.Refused, "cart_empty", "There is nothing to order.")
	}
	f.next++
	o := &cartv1.Order{Id: fmt.Sprintf("order-%d", f.next), Items: c.proto().GetItems(), Total: c.proto().GetTotal(), CreatedAt: timestamppb.Now()}
	f.orders[r.GetOwner()] = append([]*cartv1.Order{o}, f.orders[r.GetOwner()]...)
	clear(c.lines)
	c.version++
	c.keys[r.GetIdempotencyKey()] = keyState{order: o}
	return &cartv1.CheckoutResponse{Order: o}, nil
}

func (f *fakeCart) GetOrder(ctx context.Context, r *cartv1.GetOrderRequest) (*cartv1.GetOrderResponse, error) {
	err := f.enter(ctx, "GetOrder", r)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.orders[r.GetOwner()] {
		if o.GetId() == r.GetOrderId() {
			return &cartv1.GetOrderResponse{Order: o}, nil
		}
	}
	return nil, fault.New(fault.Absent, "no_such_order", "There is no such order.")
}

func (f *fakeCart) ListOrders(ctx context.Context, r *cartv1.ListOrdersRequest) (*cartv1.ListOrdersResponse, error) {
	err := f.enter(ctx, "ListOrders", r)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.orders[r.GetOwner()]
	if r.GetPageToken() != "" {
		at := slices.IndexFunc(all, func(o *cartv1.Order) bool { return o.GetId() == r.GetPageToken() })
		all = all[at+1:]
	}
	size := int(r.GetPageSize())
	if size == 0 {
		size = 20
	}
	if len(all) <= size {
		return &cartv1.ListOrdersResponse{Orders: all}, nil
	}
	return &cartv1.ListOrdersResponse{Orders: all[:size], NextPageToken: all[size-1].GetId()}, nil
}

func (f *fakeCart) EraseOwner(ctx context.Context, r *cartv1.EraseOwnerRequest) (*cartv1.EraseOwnerResponse, error) {
	err := f.enter(ctx, "EraseOwner", r)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.carts[r.GetOwner()] = &cartState{closed: true}
	delete(f.orders, r.GetOwner())
	return &cartv1.EraseOwnerResponse{}, nil
}

func (f *fakeCart) ListProducts(ctx context.Context, r *cartv1.ListProductsRequest) (*cartv1.ListProductsResponse, error) {
	err := f.enter(ctx, "ListProducts", r)
	if err != nil {
		return nil, err
	}
	return &cartv1.ListProductsResponse{Products: []*cartv1.Product{{Sku: "mug-01", Name: "Mug", UnitPrice: eur(1250)}}, Revision: "rev1"}, nil
}

// authStore is what the replicas of the fake auth share.
type authStore struct {
	calls
	mu       sync.Mutex
	next     int
	users    map[string]fakeUser // by e-mail
	sessions map[string]*authv1.VerifySessionResponse
	guests   map[string]string // ticket → guest
	access   map[string]*authv1.VerifySessionResponse
	refresh  map[string]string // refresh token → access token that it was issued with
	renew    bool
	userIDs  []string // asked for by Register
	ended    []string // users whose sessions were ended, in the log
	log      string   // the log's name
}

type fakeUser struct{ id, password string }

func newAuthStore() *authStore {
	return &authStore{users: map[string]fakeUser{}, sessions: map[string]*authv1.VerifySessionResponse{}, guests: map[string]string{},
		access: map[string]*authv1.VerifySessionResponse{}, refresh: map[string]string{}, log: "one"}
}

// serial returns 22 characters that were never returned before; mu is held.
func (s *authStore) serial() string {
	s.next++
	return fmt.Sprintf("%022d", s.next)
}

type fakeAuth struct {
	authv1.UnimplementedAuthServiceServer
	*authStore
	before hook
	after  hook        // VerifySession has looked, and has not answered yet
	silent atomic.Bool // WatchRevocations says nothing
	stale  atomic.Bool // it says that it knows nothing new
}

func (f *fakeAuth) enter(ctx context.Context, call string, req any) error {
	f.add(call)
	if f.before != nil {
		return f.before(ctx, call, req)
	}
	return nil
}

func (f *fakeAuth) IssueGuestTicket(ctx context.Context, r *authv1.IssueGuestTicketRequest) (*authv1.IssueGuestTicketResponse, error) {
	err := f.enter(ctx, "IssueGuestTicket", r)
	if err != nil {
		return nil, err
	}
	f.authStore.mu.Lock()
	defer f.authStore.mu.Unlock()
	guest := "g_" + f.serial()
	ticket := "ticket-of-" + guest
	f.guests[ticket] = guest
	return &authv1.IssueGuestTicketResponse{Ticket: ticket, GuestId: guest, InsideTicket: "inside-ticket-of-" + guest, ExpiresAt: timestamppb.New(time.Now().Add(time.Hour))}, nil
}

func (f *fakeAuth) VerifyGuestTicket(ctx context.Context, r *authv1.VerifyGuestTicketRequest) (*authv1.VerifyGuestTicketResponse, error) {
	err := f.enter(ctx, "VerifyGuestTicket", r)
	if err != nil {
		return nil, err
	}
	f.authStore.mu.Lock()
	defer f.authStore.mu.Unlock()
	guest, ok := f.guests[r.GetTicket()]
	if !ok {
		return nil, fault.New(fault.Unauthenticated, "invalid_ticket", "The ticket is not valid.")
	}
	resp := &authv1.VerifyGuestTicketResponse{GuestId: guest, InsideTicket: "inside-ticket-of-" + guest, ExpiresAt: timestamppb.New(time.Now().Add(time.Hour))}
	if f.renew {
		resp.RenewedTicket = "renewed-" + r.GetTicket()
		resp.RenewedExpiresAt = timestamppb.New(time.Now().Add(time.Hour))
		f.guests[resp.RenewedTicket] = guest
	}
	return resp, nil
}

func (f *fakeAuth) Register(ctx context.Context, r *authv1.RegisterRequest) (*authv1.RegisterResponse, error) {
	f.authStore.mu.Lock()
	f.userIDs = append(f.userIDs, r.GetUserId())
	f.authStore.mu.Unlock()
	err := f.enter(ctx, "Register", r)
	if err != nil {
		return nil, err
	}
	f.authStore.mu.Lock()
	defer f.authStore.mu.Unlock()
	if len(r.GetPassword()) < 8 {
		return nil, fault.New(fault.Invalid, "invalid_password", "A password has 8 to 256 characters.")
	}
	if u, ok := f.users[r.GetEmail()]; ok && u.id != r.GetUserId() {
		return nil, fault.New(fault.Conflict, "email_taken", "The address belongs to another user.")
	}
	f.users[r.GetEmail()] = fakeUser{r.GetUserId(), r.GetPassword()}
	return &authv1.RegisterResponse{UserId: r.GetUserId()}, nil
}

func (f *fakeAuth) LogIn(ctx context.Context, r *authv1.LogInRequest) (*authv1.LogInResponse, error) {
	err := f.enter(ctx, "LogIn", r)
	if err != nil {
		return nil, err
	}
	f.authStore.mu.Lock()
	defer f.authStore.mu.Unlock()
	s, err := f.open(r.GetEmail(), r.GetPassword())
	if err != nil {
		return nil, err
	}
	return &authv1.LogInResponse{SessionToken: fakeToken(s.GetSessionId()), UserId: s.GetUserId(), Session: fakeSession(s.GetSessionId())}, nil
}

// open starts a session; mu is held.
func (f *fakeAuth) open(email, password string) (*authv1.VerifySessionResponse, error) {
	u, ok := f.users[email]
	if !ok || u.password != password {
		return nil, fault.New(fault.Unauthenticated, "wrong_credentials", "Address or password is wrong.")
	}
	id := fmt.Sprintf("%043s", f.serial())
	s := &authv1.VerifySessionResponse{UserId: u.id, SessionId: id, ExpiresAt: timestamppb.New(time.Now().Add(time.Hour))}
	f.sessions[fakeToken(id)] = s
	return s, nil
}

func fakeSession(id string) *authv1.Session {
	now := timestamppb.Now()
	return &authv1.Session{Id: id, CreatedAt: now, LastUsedAt: now, ExpiresAt: timestamppb.New(time.Now().Add(time.Hour)), Device: "test"}
}

// fakeToken is the token of a session, in the form that real ones have.
func fakeToken(id string) string { return strings.Repeat("A", 22) + "." + id }

func (f *fakeAuth) VerifySession(ctx context.Context, r *authv1.VerifySessionRequest) (*authv1.VerifySessionResponse, error) {
	err := f.enter(ctx, "VerifySession", r)
	if err != nil {
		return nil, err
	}
	f.authStore.mu.Lock()
	s, ok := f.sessions[r.GetSessionToken()]
	f.authStore.mu.Unlock()
	if f.after != nil {
		_ = f.after(ctx, "VerifySession", r)
	}
	if !ok {
		return nil, fault.New(fault.Unauthenticated, "invalid_session", "The session has ended.")
	}
	return s, nil
}

// tokens are for a session that is as any other; mu is held.
func (f *fakeAuth) tokens(s *authv1.VerifySessionResponse) *authv1.Tokens {
	n := f.serial()
	f.access["access-"+n], f.refresh["refresh-"+n] = s, "access-"+n
	return &authv1.Tokens{AccessToken: "access-" + n, AccessExpiresAt: timestamppb.New(time.Now().Add(5 * time.Minute)), RefreshToken: "refresh-" + n}
}

func (f *fakeAuth) IssueTokens(ctx context.Context, r *authv1.IssueTokensRequest) (*authv1.IssueTokensResponse, error) {
	err := f.enter(ctx, "IssueTokens", r)
	if err != nil {
		return nil, err
	}
	f.authStore.mu.Lock()
	defer f.authStore.mu.Unlock()
	s, err := f.open(r.GetEmail(), r.GetPassword())
	if err != nil {
		return nil, err
	}
	return &authv1.IssueTokensResponse{Tokens: f.tokens(s)}, nil
}

func (f *fakeAuth) RefreshTokens(ctx context.Context, r *authv1.RefreshTokensRequest) (*authv1.RefreshTokensResponse, error) {
	err := f.enter(ctx, "RefreshTokens", r)
	if err != nil {
		return nil, err
	}
	f.authStore.mu.Lock()
	defer f.authStore.mu.Unlock()
	s := f.access[f.refresh[r.GetRefreshToken()]]
	delete(f.refresh, r.GetRefreshToken())
	if s == nil {
		return nil, fault.New(fault.Unauthenticated, "invalid_grant", "The refresh token is not valid any more.")
	}
	return &authv1.RefreshTokensResponse{Tokens: f.tokens(s)}, nil
}

func (f *fakeAuth) VerifyAccessToken(ctx context.Context, r *authv1.VerifyAccessTokenRequest) (*authv1.VerifyAccessTokenResponse, error) {
	err := f.enter(ctx, "VerifyAccessToken", r)
	if err != nil {
		return nil, err
	}
	f.authStore.mu.Lock()
	defer f.authStore.mu.Unlock()
	s := f.access[r.GetAccessToken()]
	if s == nil || f.sessions[fakeToken(s.GetSessionId())] == nil {
		return nil, fault.New(fault.Unauthenticated, "invalid_token", "The access token is not valid.")
	}
	return &authv1.VerifyAccessTokenResponse{UserId: s.GetUserId(), SessionId: s.GetSessionId(), ExpiresAt: s.GetExpiresAt()}, nil
}

func (f *fakeAuth) ListSessions(ctx context.Context, r *authv1.ListSessionsRequest) (*authv1.ListSessionsResponse, error) {
	err := f.enter(ctx, "ListSessions", r)
	if err != nil {
		return nil, err
	}
	f.authStore.mu.Lock()
	defer f.authStore.mu.Unlock()
	resp := &authv1.ListSessionsResponse{}
	for _, s := range f.sessions {
		if s.GetUserId() == r.GetUserId() {
			resp.Sessions = append(resp.Sessions, fakeSession(s.GetSessionId()))
		}
	}
	return resp, nil
}

func (f *fakeAuth) RevokeSession(ctx context.Context, r *authv1.RevokeSessionRequest) (*authv1.RevokeSessionResponse, error) {
	err := f.enter(ctx, "RevokeSession", r)
	if err != nil {
		return nil, err
	}
	f.revoke(func(s *authv1.VerifySessionResponse) bool {
		return s.GetUserId() == r.GetUserId() && s.GetSessionId() == r.GetSessionId()
	})
	return &authv1.RevokeSessionResponse{}, nil
}

func (f *fakeAuth) revoke(which func(*authv1.VerifySessionResponse) bool) {
	f.authStore.mu.Lock()
	defer f.authStore.mu.Unlock()
	maps.DeleteFunc(f.sessions, func(_ string, s *authv1.VerifySessionResponse) bool {
		if which(s) {
			f.ended = append(f.ended, s.GetUserId())
		}
		return which(s)
	})
}

// loseLog has another log follow this one.
func (s *authStore) loseLog(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log, s.ended = name, nil
}

// WatchRevocations speaks every 10 ms. A position is the log's name and a number.
func (f *fakeAuth) WatchRevocations(r *authv1.WatchRevocationsRequest, stream authv1.AuthService_WatchRevocationsServer) error {
	began := time.Now()
	err := f.enter(stream.Context(), "WatchRevocations", r)
	if err != nil {
		return err
	}
	log, place, _ := strings.Cut(r.GetAfter(), "/")
	at, _ := strconv.Atoi(place)
	if log == "of another version" {
		return fault.New(fault.Invalid, "invalid_position", "A position is another thing now.")
	}
	for stream.Context().Err() == nil {
		complete := time.Since(began)
		if f.stale.Load() {
			complete = 0
		}
		f.authStore.mu.Lock()
		news := &authv1.WatchRevocationsResponse{Gap: log != "" && log != f.log, Complete: durationpb.New(complete)}
		if news.Gap {
			at = 0
		}
		news.UserIds = slices.Clone(f.ended[at:])
		log, at = f.log, len(f.ended)
		f.authStore.mu.Unlock()
		news.Position = log + "/" + strconv.Itoa(at)
		for f.silent.Load() && stream.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		err := stream.Send(news)
		if err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

func (f *fakeAuth) RevokeAllSessions(ctx context.Context, r *authv1.RevokeAllSessionsRequest) (*authv1.RevokeAllSessionsResponse, error) {
	err := f.enter(ctx, "RevokeAllSessions", r)
	if err != nil {
		return nil, err
	}
	f.revoke(func(s *authv1.VerifySessionResponse) bool {
		return s.GetUserId() == r.GetUserId() && s.GetSessionId() != r.GetExceptSessionId()
	})
	return &authv1.RevokeAllSessionsResponse{}, nil
}

func (f *fakeAuth) ChangePassword(ctx context.Context, r *authv1.ChangePasswordRequest) (*authv1.ChangePasswordResponse, error) {
	err := f.enter(ctx, "ChangePassword", r)
	if err != nil {
		return nil, err
	}
	f.authStore.mu.Lock()
	for email, u := range f.users {
		if u.id == r.GetUserId() {
			if u.password != r.GetCurrentPassword() {
				f.authStore.mu.Unlock()
				return nil, fault.New(fault.Forbidden, "wrong_password", "The current password is another one.")
			}
			f.users[email] = fakeUser{u.id, r.GetNewPassword()}
		}
	}
	f.authStore.mu.Unlock()
	f.revoke(func(s *authv1.VerifySessionResponse) bool { return s.GetUserId() == r.GetUserId() })
	return &authv1.ChangePasswordResponse{}, nil
}

func (f *fakeAuth) DeleteUser(ctx context.Context, r *authv1.DeleteUserRequest) (*authv1.DeleteUserResponse, error) {
	err := f.enter(ctx, "DeleteUser", r)
	if err != nil {
		return nil, err
	}
	f.revoke(func(s *authv1.VerifySessionResponse) bool { return s.GetUserId() == r.GetUserId() })
	f.authStore.mu.Lock()
	defer f.authStore.mu.Unlock()
	maps.DeleteFunc(f.users, func(_ string, u fakeUser) bool { return u.id == r.GetUserId() })
	return &authv1.DeleteUserResponse{}, nil
}

func (f *fakeAuth) ListSigningKeys(ctx context.Context, r *authv1.ListSigningKeysRequest) (*authv1.ListSigningKeysResponse, error) {
	err := f.enter(ctx, "ListSigningKeys", r)
	if err != nil {
		return nil, err
	}
	return &authv1.ListSigningKeysResponse{Keys: []*authv1.SigningKey{{Id: "0123456789abcdef", PublicKey: make([]byte, 32)}}}, nil
}
