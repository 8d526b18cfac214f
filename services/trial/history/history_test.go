package history_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"coatcheck/trial/history"
)

func TestThereAndBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	run := history.Run{Started: time.Unix(1_800_000_000, 0).UTC(), Scenario: "demo", Seed: 1<<63 + 1, Target: "http://127.0.0.1:1", Rate: 300, Length: time.Minute}
	w, err := history.Create(path, run)
	if err != nil {
		t.Fatal(err)
	}
	op := history.Op{Client: "s1", Protocol: "h2c", Kind: history.LogIn, Cart: "s1.u", From: "s1.g1", Sent: 1, Answered: 2, Outcome: history.Unknown,
		Attempts: []history.Attempt{{Sent: 1, Answered: 2, Code: "timeout"}}, Shown: []history.Line{{SKU: "mug", Quantity: 2}}}
	fault := history.Fault{Name: "kill -9 cart-2", Kind: "kill", Target: "cart-2", Class: history.Hidden, Start: 1, End: 9, InFlight: 3}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { w.Write(history.Record{Op: &op}) })
	}
	wg.Wait()
	w.Write(history.Record{Fault: &fault})
	end := history.End{At: time.Second, Missed: 1}
	if err := w.Close(end); err != nil {
		t.Fatal(err)
	}
	var records []history.Record
	if err := history.Scan(path, func(r history.Record) error { records = append(records, r); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []history.Record{{Run: &run}}
	for range 50 {
		want = append(want, history.Record{Op: &op})
	}
	want = append(want, history.Record{Fault: &fault}, history.Record{End: &end})
	if !reflect.DeepEqual(records, want) {
		t.Errorf("read %+v", records)
	}
	stop := errors.New("enough")
	if err := history.Scan(path, func(history.Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped by %v", err)
	}
}

func TestCutShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	if err := os.WriteFile(path, []byte("{\"run\":{}}\n{\"op\":{\"cli"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := history.Scan(path, func(history.Record) error { return nil }); err == nil {
		t.Error("half a record was read")
	}
	if _, err := history.Create(filepath.Join(path, "nowhere"), history.Run{}); err == nil {
		t.Error("a history was made where there is no folder")
	}
}
