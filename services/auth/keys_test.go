package auth

import (
	"encoding/pem"
	"strings"
	"testing"
	"time"
)

const month = 30 * 24 * time.Hour

func keysOf(t *testing.T, text string) []signingKey {
	t.Helper()
	keys, err := parseSigningKeys(text)
	ok(t, err)
	return keys
}

func TestRotateKeys(t *testing.T) {
	_, text := newKey(1)
	now := time.Date(2026, 11, 26, 6, 0, 0, 500, time.UTC)
	first := keysOf(t, text)[0].id

	text, did, err := RotateKeys(text, now, time.Minute, month)
	ok(t, err)
	keys := keysOf(t, text)
	from := time.Date(2026, 11, 26, 6, 1, 1, 0, time.UTC)
	if len(keys) != 2 || keys[0].id != first || did.Next != keys[1].id || !did.From.Equal(from) || did.Pending || did.Dropped != nil {
		t.Fatalf("%d keys, %+v", len(keys), did)
	}
	second := did.Next
	if !keys[1].from.Equal(from) || !keys[1].until.IsZero() || !keys[0].from.IsZero() || !keys[0].until.Equal(from.Add(month)) {
		t.Errorf("the first key goes at %v, the second one comes at %v and goes at %v", keys[0].until, keys[1].from, keys[1].until)
	}
	for at, want := range map[time.Time]string{now: first, from.Add(-time.Nanosecond): first, from: second, from.Add(time.Hour): second} {
		if got := signs(keys, at).id; got != want {
			t.Errorf("at %v %s signs", at, got)
		}
	}

	same, did, err := RotateKeys(text, from.Add(-time.Second), time.Minute, month)
	ok(t, err)
	if same != text || !did.Pending || did.Next != second {
		t.Errorf("a second rotation during the first does something: %+v", did)
	}

	at := from.Add(24 * time.Hour)
	text, did, err = RotateKeys(text, at, time.Minute, month)
	ok(t, err)
	keys = keysOf(t, text)
	if len(keys) != 3 || keys[0].id != second || keys[1].id != did.Next || keys[2].id != first || did.Dropped != nil {
		t.Fatalf("%d keys, %+v", len(keys), did)
	}
	// What is retired already keeps its time.
	if !keys[2].until.Equal(from.Add(month)) || !keys[0].until.Equal(did.From.Add(month)) {
		t.Errorf("the keys go at %v and %v", keys[2].until, keys[0].until)
	}

	third := did.Next
	at = from.Add(month + time.Second)
	text, did, err = RotateKeys(text, at, time.Minute, month)
	ok(t, err)
	keys = keysOf(t, text)
	if len(keys) != 3 || keys[0].id != third || keys[2].id != second || len(did.Dropped) != 1 || did.Dropped[0] != first {
		t.Errorf("%d keys, %+v", len(keys), did)
	}
	// For who reads no headers, the first key is always one that signs.
	if signs(keys, at).id != third {
		t.Error("the first key does not sign")
	}
}

// TestRotateKeysByHand: keys that were put in order by hand may have signed until now.
func TestRotateKeysByHand(t *testing.T) {
	_, one := newKey(1)
	_, two := newKey(2)
	now := time.Now()
	text, did, err := RotateKeys(one+two, now, time.Minute, month)
	ok(t, err)
	keys := keysOf(t, text)
	if len(keys) != 3 || signs(keys, now).id != keysOf(t, one)[0].id || !keys[2].until.Equal(did.From.Add(month)) {
		t.Errorf("%d keys, the last one goes at %v", len(keys), keys[len(keys)-1].until)
	}
	for name, text := range map[string]string{"nothing": "", "no key": "hunter2", "a key twice": one + one} {
		if _, _, err := RotateKeys(text, now, time.Minute, month); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := RotateKeys(one, now, LeastLead-time.Second, month); err == nil {
		t.Error("a key may sign before the cart service knows it")
	}
}

func TestSigningKeyHeaders(t *testing.T) {
	_, text := newKey(1)
	with := func(name, value string) string {
		block, _ := pem.Decode([]byte(text))
		block.Headers = map[string]string{name: value}
		return string(pem.EncodeToMemory(block))
	}
	if _, err := parseSigningKeys(with("Signs-From", "hunter2")); err == nil || !strings.Contains(err.Error(), "Signs-From") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a time that is none: %v", err)
	}
	if keys, err := parseSigningKeys(with("Comment", "mine")); err != nil || len(keys) != 1 {
		t.Errorf("a header of another's: %v", err)
	}
	// A file with nothing but keys whose time has not come must not leave nobody to sign.
	if keys := keysOf(t, with("Signs-From", "2100-01-01T00:00:00Z")); signs(keys, time.Now()).id != keys[0].id {
		t.Error("nobody signs")
	}
}

// TestRetryAcrossRotation: the same refresh token shown again gets the same
// answer, also when another key signs by then, from a replica that has just started.
func TestRetryAcrossRotation(t *testing.T) {
	redisServer := startRedis(t)
	clock := newClock()
	_, text := newKey(1)
	text, did, err := RotateKeys(text, clock.now(), LeastLead, month)
	ok(t, err)
	replica := func() *Server {
		s := newServer(t, redisServer.client(t), clock.now)
		ok(t, s.ReloadKeys(text))
		return s
	}
	one, two := serve(t, replica()), serve(t, replica())
	_, email := enrol(t, one)
	clock.advance(did.From.Sub(clock.now()) - time.Second)
	issued := issueTokens(t, one, email)
	renewed, err := refresh(t, one, issued.GetRefreshToken())
	ok(t, err)
	clock.advance(2 * time.Second)
	again, err := refresh(t, two, issued.GetRefreshToken())
	ok(t, err)
	if again.GetAccessToken() != renewed.GetAccessToken() || again.GetRefreshToken() != renewed.GetRefreshToken() {
		t.Error("the retry is answered otherwise")
	}
	next, err := refresh(t, two, again.GetRefreshToken())
	ok(t, err)
	if strings.Split(next.GetAccessToken(), ".")[0] == strings.Split(again.GetAccessToken(), ".")[0] {
		t.Error("the new key does not sign")
	}
}
