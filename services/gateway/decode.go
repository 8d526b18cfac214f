package gateway

import (
	"crypto/rand"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coatcheck/chassis/fault"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// maxQuantity is above any limit of a cart and far from an overflow when the
// lines of one request are summed.
const maxQuantity = 1_000_000_000

var sessionIDs = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// What nearly every request has is looked at without a regular expression.

// isSKU is ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$.
func isSKU(s string) bool {
	if len(s) < 1 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// isWhole is ^-?[0-9]+$.
func isWhole(s string) bool {
	s, _ = strings.CutPrefix(s, "-")
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// isKey is ^[\x21-\x7e]{1,128}$.
func isKey(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 128
}

// decode reads the one JSON value in the body. Unknown and repeated members,
// names in another case, invalid UTF-8 and a second value are faults.
func decode[T any](w *answer, r *http.Request) (T, error) {
	var value T
	err := checkContentType(r.Header)
	if err != nil {
		return value, err
	}
	err = json.Unmarshal(w.body, &value, json.RejectUnknownMembers(true))
	if err != nil {
		return value, invalidBody(err)
	}
	return value, nil
}

func checkContentType(h http.Header) error {
	types := h["Content-Type"]
	if len(types) == 1 && types[0] == "application/json" && h["Content-Encoding"] == nil {
		return nil // as nearly all write it
	}
	if len(types) == 1 && (h.Get("Content-Encoding") == "" || strings.EqualFold(h.Get("Content-Encoding"), "identity")) {
		mediaType, params, err := mime.ParseMediaType(types[0])
		charset, named := params["charset"]
		plain := len(params) == 0 || len(params) == 1 && named && strings.EqualFold(charset, "utf-8")
		if err == nil && mediaType == "application/json" && plain {
			return nil
		}
	}
	return refuse(http.StatusUnsupportedMediaType, "unsupported_media_type", "Send JSON, not compressed, as Content-Type: application/json.")
}

// invalidBody says what is wrong with a body by its place, never by its values,
// which may be secret.
func invalidBody(err error) error {
	detail := "The body must be one JSON value."
	semantic, isSemantic := errors.AsType[*json.SemanticError](err)
	syntactic, isSyntactic := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		detail = "A member is named twice; name it once."
	case errors.Is(err, json.ErrUnknownName) && isSemantic:
		detail = "There is no such member: leave out " + place(semantic.JSONPointer) + "."
	case isSemantic:
		detail = "The value at " + place(semantic.JSONPointer) + " is of the wrong type; /openapi.json has the right one."
	case isSyntactic:
		detail = "The body is not one valid JSON value in UTF-8: look at byte " + strconv.FormatInt(syntactic.ByteOffset, 10) + "."
	}
	return fault.New(fault.Invalid, "invalid_body", "%s", detail)
}

func place(p jsontext.Pointer) string {
	if p == "" {
		return "the top"
	}
	return strconv.QuoteToASCII(cut(string(p), 100))
}

// cut returns the beginning of s, at most n bytes, with no rune cut in two.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// decodeAdd reads {"items": [{"sku": …, "quantity": …}, …]}.
func decodeAdd(w *answer, r *http.Request) ([]*cartv1.Line, error) {
	in, err := decode[struct {
		Items []struct {
			SKU      string   `json:"sku"`
			Quantity quantity `json:"quantity"`
		} `json:"items"`
	}](w, r)
	if err != nil {
		return nil, err
	}
	if len(in.Items) == 0 {
		return nil, fault.New(fault.Invalid, "invalid_body", "items must name at least one line.")
	}
	lines, all := make([]*cartv1.Line, len(in.Items)), make([]cartv1.Line, len(in.Items))
	for i, item := range in.Items {
		if !isSKU(item.SKU) {
			return nil, errSKU
		}
		n, err := item.Quantity.atLeast(1)
		if err != nil {
			return nil, err
		}
		lines[i] = &all[i]
		all[i].Sku, all[i].Quantity = item.SKU, n
	}
	return lines, nil
}

// decodeSet reads {"quantity": …}.
func decodeSet(w *answer, r *http.Request) (int64, error) {
	in, err := decode[struct {
		Quantity quantity `json:"quantity"`
	}](w, r)
	if err != nil {
		return 0, err
	}
	return in.Quantity.atLeast(0)
}

var errSKU = fault.New(fault.Invalid, "invalid_sku", "A sku is 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or a digit.")

// quantity is an integer that is written as one: 2, not 2.0, 2e0 or "2". Any
// other JSON value, or none, leaves it not whole.
type quantity struct {
	whole bool
	n     int64
	err   error // n is beyond an int64
}

// UnmarshalJSONFrom is part of json.UnmarshalerFrom.
func (q *quantity) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	digits := string(value)
	if q.whole = isWhole(digits); q.whole {
		q.n, q.err = strconv.ParseInt(digits, 10, 64)
	}
	return nil
}

// atLeast returns it, at least so many. It bounds it only so far that sums cannot
// overflow; the limit is the cart's.
func (q quantity) atLeast(least int64) (int64, error) {
	switch {
	case !q.whole, q.n < least:
		return 0, invalidQuantity(least)
	case q.err != nil, q.n > maxQuantity:
		return 0, fault.New(fault.Refused, "quantity_limit", "The quantity is beyond what a cart holds of one line.")
	}
	return q.n, nil
}

func invalidQuantity(least int64) error {
	return fault.New(fault.Invalid, "invalid_quantity", "quantity must be a whole number of at least %d.", least)
}

type credentials struct{ email, password string }

// decodeCredentials reads {"email": …, "password": …}.
func decodeCredentials(w *answer, r *http.Request) (credentials, error) {
	in, err := decode[struct {
		Email    *string `json:"email"`
		Password *string `json:"password"`
	}](w, r)
	if err != nil {
		return credentials{}, err
	}
	if in.Email == nil || in.Password == nil {
		return credentials{}, fault.New(fault.Invalid, "invalid_body", "email and password must be given.")
	}
	return credentials{email: *in.Email, password: *in.Password}, nil
}

// grant is what tokens are asked for with: credentials, or a refresh token.
type grant struct {
	credentials
	refreshToken string
}

// decodeGrant reads {"grant_type": "password", "email": …, "password": …} or
// {"grant_type": "refresh_token", "refresh_token": …}.
func decodeGrant(w *answer, r *http.Request) (grant, error) {
	in, err := decode[struct {
		Type         *string `json:"grant_type"`
		Email        *string `json:"email"`
		Password     *string `json:"password"`
		RefreshToken *string `json:"refresh_token"`
	}](w, r)
	if err != nil {
		return grant{}, err
	}
	switch {
	case in.Type == nil:
	case *in.Type == "password" && in.Email != nil && in.Password != nil && in.RefreshToken == nil:
		return grant{credentials: credentials{email: *in.Email, password: *in.Password}}, nil
	case *in.Type == "refresh_token" && in.RefreshToken != nil && *in.RefreshToken != "" && in.Email == nil && in.Password == nil:
		return grant{refreshToken: *in.RefreshToken}, nil
	}
	return grant{}, fault.New(fault.Invalid, "invalid_body", "grant_type must be password, with email and password, or refresh_token, with refresh_token.")
}

type passwordChange struct{ current, next string }

// decodePasswordChange reads {"current_password": …, "new_password": …}.
func decodePasswordChange(w *answer, r *http.Request) (passwordChange, error) {
	in, err := decode[struct {
		Current *string `json:"current_password"`
		New     *string `json:"new_password"`
	}](w, r)
	if err != nil {
		return passwordChange{}, err
	}
	if in.Current == nil || in.New == nil {
		return passwordChange{}, fault.New(fault.Invalid, "invalid_body", "current_password and new_password must be given.")
	}
	return passwordChange{current: *in.Current, next: *in.New}, nil
}

// idempotencyKey returns the client's key, or one drawn for this request.
func idempotencyKey(h http.Header) (string, error) {
	lines := h.Values("Idempotency-Key")
	if len(lines) == 0 {
		return rand.Text(), nil
	}
	key := lines[0]
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1] // a string as structured fields write it
	}
	if len(lines) > 1 || !isKey(key) {
		return "", fault.New(fault.Invalid, "invalid_idempotency_key", "Idempotency-Key must be given once, with 1 to 128 visible ASCII characters.")
	}
	return key, nil
}

// wantsMinimal reports whether Prefer asks for return=minimal.
func wantsMinimal(h http.Header) bool {
	for preference := range strings.SplitSeq(strings.Join(h.Values("Prefer"), ","), ",") {
		preference, _, _ = strings.Cut(preference, ";")
		name, value, _ := strings.Cut(preference, "=")
		if strings.EqualFold(strings.TrimSpace(name), "return") {
			return strings.EqualFold(strings.Trim(value, " \t\""), "minimal")
		}
	}
	return false
}

// page reads the query of a paged list; a size of 0 means the default.
func page(query url.Values) (size int32, token string, err error) {
	if query.Has("page_size") {
		n, err := strconv.Atoi(query.Get("page_size"))
		if err != nil || n < 1 || n > 100 {
			return 0, "", fault.New(fault.Invalid, "invalid_page_size", "page_size must be 1 to 100.")
		}
		size = int32(n)
	}
	token = query.Get("page_token")
	if !utf8.ValidString(token) || len(token) > 512 {
		return 0, "", fault.New(fault.Invalid, "invalid_page_token", "page_token must be the next_page_token of the page before.")
	}
	return size, token, nil
}
