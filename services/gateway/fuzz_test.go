package gateway

import (
	"bytes"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"google.golang.org/protobuf/proto"

	"coatcheck/chassis/fault"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// jsonRequest is a request whose body was read.
func jsonRequest(t *testing.T, body string) (*answer, *http.Request) {
	r, err := http.NewRequest("POST", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return &answer{body: []byte(body)}, r
}

// clientsFault fails the test unless err is one that a client is told as 4xx,
// with a detail.
func clientsFault(t *testing.T, err error) {
	t.Helper()
	got := toRefusal(err)
	if got.status < 400 || got.status >= 500 || got.detail == "" || !utf8.ValidString(got.detail) {
		t.Errorf("answered %d %q", got.status, got.detail)
	}
}

// What is looked at by hand is what these say.
var (
	skus   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	wholes = regexp.MustCompile(`^-?[0-9]+$`)
	keys   = regexp.MustCompile(`^[\x21-\x7e]{1,128}$`)
)

func FuzzWords(f *testing.F) {
	for _, seed := range []string{"", "-", "-1", "1-", "12", "+1", "a", ".a", "a.", "A-_.z", "_a", "Z9", "mug 1", "mug\n", "é", "\x7f", "~", "!", strings.Repeat("a", 64), strings.Repeat("a", 65), strings.Repeat("k", 128), strings.Repeat("k", 129)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if isSKU(s) != skus.MatchString(s) || isWhole(s) != wholes.MatchString(s) || isKey(s) != keys.MatchString(s) {
			t.Errorf("%q: sku %v, whole %v, key %v", s, isSKU(s), isWhole(s), isKey(s))
		}
	})
}

// FuzzEncode: what is written by hand is what reflection makes of the same cart, or
// fails as that does.
func FuzzEncode(f *testing.F) {
	f.Add(uint64(7), 2, "mug-1", "Mug \u2028 \"<&>\\\x01", int64(2), int64(1250), "EUR", int64(1_800_000_000), int64(5_000_000))
	f.Add(uint64(0), 0, "", "", int64(0), int64(0), "", int64(-62135596800), int64(0))
	f.Add(uint64(1)<<63, 1, "a", "\xff", int64(-1), int64(-1)<<63, "", int64(0), int64(1))
	f.Add(uint64(1), 1, "\xc3", "a", int64(1), int64(1), "E\x80", int64(253402300800), int64(0))
	f.Fuzz(func(t *testing.T, version uint64, lines int, sku, name string, quantity, amount int64, currency string, seconds, nanos int64) {
		var items []item
		for i := range min(lines, 5) {
			items = append(items, item{sku, name, quantity - int64(i), money{amount, currency}, money{int64(i), ""}, i%2 == 1})
		}
		c := &cart{version, items, money{amount, currency}, time.Unix(seconds, nanos).UTC()} // no field by name: a new one is not to be forgotten
		want, wantErr := json.Marshal(c)
		var got bytes.Buffer
		got.WriteString("before")
		err := encodeJSON(&got, c)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, want %v", err, wantErr)
		}
		if err == nil && got.String() != "before"+string(want) {
			t.Errorf("%s, want %s", got.String(), want)
		}
	})
}

func FuzzCookie(f *testing.F) {
	for _, seed := range []string{"", "guest=a", "session=b; guest=a", " guest = a ;guest=b", `guest="a b"`, `guest="`, "guest", "guest=", "guest=\x7f; guest=c", "guest=a\\;guest=b", "\tguest\r=a=b,c", "Guest=a;;guest=\u00a0", "xguest=a"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		r := &http.Request{Header: http.Header{"Cookie": {one, two}}}
		if strings.Count(one+two, ";") > 1000 {
			return // too many for Request.Cookie
		}
		want := ""
		if c, err := r.Cookie("guest"); err == nil {
			want = c.Value
		}
		if got := cookie(r, "guest"); got != want {
			t.Errorf("%q: %q, want %q", r.Header["Cookie"], got, want)
		}
	})
}

func FuzzDecodeAdd(f *testing.F) {
	for _, seed := range []string{addMugs, `{"items":[{"sku":"a","quantity":1e9}]}`, `{"items":[{"sku":"a","quantity":-1}],"x":[[[]]]}`, `{"items":[{"sku":"a","quantity":99999999999999999999}]}`, "[[[[", "\xff", `{"items":[null]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		lines, err := decodeAdd(jsonRequest(t, body))
		if err != nil {
			clientsFault(t, err)
			return
		}
		if len(lines) == 0 {
			t.Error("no lines and no error")
		}
		for _, l := range lines {
			if !skus.MatchString(l.GetSku()) || l.GetQuantity() < 1 || l.GetQuantity() > maxQuantity {
				t.Errorf("line %v", l)
			}
		}
		wire(t, &cartv1.AddItemsRequest{Lines: lines})
	})
}

func FuzzDecodeSet(f *testing.F) {
	for _, seed := range []string{`{"quantity":3}`, `{"quantity":-0}`, `{"quantity":0.0}`, `{"quantity":"3"}`, `{}`, "{\"quantity\":1}\n2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		quantity, err := decodeSet(jsonRequest(t, body))
		if err != nil {
			clientsFault(t, err)
		} else if quantity < 0 || quantity > maxQuantity {
			t.Errorf("quantity %d", quantity)
		}
	})
}

func FuzzDecodeCredentials(f *testing.F) {
	for _, seed := range []string{`{"email":"a@example.org","password":"p"}`, `{"email":"\ud83d\ude00","password":""}`, `{"email":"\ud83d","password":"x"}`, `{"password":null}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		in, err := decodeCredentials(jsonRequest(t, body))
		if err != nil {
			clientsFault(t, err)
			return
		}
		wire(t, &authv1.LogInRequest{Email: in.email, Password: in.password})
	})
}

func FuzzIfMatch(f *testing.F) {
	for _, seed := range []string{`"inc-1.2.rev1"`, `W/"a.1.b", "c.2.d"`, "*", `"a`, `,,"0.0.r",`, `"a.18446744073709551616.b"`, "\"\xff.1.x\"", `"a,b.1.c"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		condition, err := ifMatch(http.Header{"If-Match": {value}})
		if err != nil {
			clientsFault(t, err)
			return
		}
		for _, v := range condition.GetAnyOf() {
			tag := etagOf(&gotCart{cart: cart{Version: v.GetVersion()}, incarnation: v.GetIncarnation(), revision: "r"})
			again, err := ifMatch(http.Header{"If-Match": {tag}})
			if err != nil || len(again.GetAnyOf()) != 1 || !proto.Equal(again.GetAnyOf()[0], v) {
				t.Errorf("%s was read as %v, which as a tag is %s, which is read as %v, %v", value, v, tag, again, err)
			}
		}
		wire(t, &cartv1.ClearCartRequest{IfMatch: condition})
	})
}

func FuzzIfNoneMatch(f *testing.F) {
	f.Add(`"a.1.b"`)
	f.Add(`W/"a.1.b" , "x"`)
	f.Fuzz(func(t *testing.T, value string) {
		if notModified(http.Header{"If-None-Match": {value}}, `"a.1.b"`) && !strings.Contains(value, `"a.1.b"`) && strings.Trim(value, " \t") != "*" {
			t.Errorf("%q is taken for the tag", value)
		}
	})
}

func FuzzIdempotencyKey(f *testing.F) {
	for _, seed := range []string{"k", `"k"`, `"`, `""`, strings.Repeat("k", 129), "a b", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		key, err := idempotencyKey(http.Header{"Idempotency-Key": {value}})
		if err != nil {
			clientsFault(t, err)
		} else if !keys.MatchString(key) || !strings.Contains(value, key) {
			t.Errorf("%q became %q", value, key)
		}
	})
}

func FuzzCookies(f *testing.F) {
	for _, seed := range []string{"guest=abc", "session=abc; guest=def", `guest="a b"`, "guest=\xff", "=;;guest", "guest=; session=", "__Host-guest=x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := &http.Request{Header: http.Header{"Cookie": {header}}}
		for _, name := range []string{"guest", "session"} {
			wire(t, &authv1.VerifyGuestTicketRequest{Ticket: cookie(r, name)})
		}
	})
}

// Whatever is shown as a token is refused as one, and never as a fault of ours.
func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{"", "Bearer", "Bearer ", "Bearer x", "bearer e30.e30.", "Bearer " + strings.Repeat(".", 1025), "Basic YTpi", "Bearer a b", "Bearer \xff", "Bearer \x00", "Bearer \U0001F600"} {
		f.Add(seed)
	}
	s := newShop(f)
	f.Fuzz(func(t *testing.T, value string) {
		r, err := http.NewRequest("GET", "http://shop.test/v1/cart", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header["Authorization"] = []string{value}
		resp, err := s.client(t).send(r)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || !strings.Contains(resp.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%q: %v, %v", value, resp, err)
		}
	})
}

// wire fails the test if gRPC could not send what was decoded.
func wire(t *testing.T, m proto.Message) {
	t.Helper()
	_, err := proto.Marshal(m)
	if err != nil {
		t.Errorf("cannot be sent: %v", err)
	}
}

func TestFaultsOfClientsAreFaults(t *testing.T) {
	var f *fault.Error
	if err := invalidBody(errors.New("of another kind")); !errors.As(err, &f) || f.Kind != fault.Invalid {
		t.Errorf("got %v", err)
	}
}
