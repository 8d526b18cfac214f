// Package history is what a trial records: each logical request as its client
// saw it, each attempt of it, and each fault, as JSON lines in a file.
//
// The hazard is a record that says more than its client knew. A request whose
// answer did not come may have been applied or not, now or later; it is
// "unknown", and only what surely had no effect is "failed".
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Outcome is what a client knows of a request's effect.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"      // acknowledged (or, for a read, answered)
	Failed  Outcome = "failed"  // surely not applied, by any attempt
	Unknown Outcome = "unknown" // everything else
)

// Kind is what a request does.
type Kind string

// The kinds of request. Those of Traffic are weighed and counted; the others
// are of set-up and the last reading.
const (
	Add      Kind = "add"      // one line or many; Lines say how much of each
	Set      Kind = "set"      // Lines[0] is the quantity that is set; 0 is not sent, see Remove
	CondSet  Kind = "cond-set" // Set with If-Match
	Remove   Kind = "remove"   // Lines[0].SKU goes
	Read     Kind = "read"
	LogIn    Kind = "log-in" // moves the cart From into Cart
	Checkout Kind = "checkout"

	LogOut   Kind = "log-out"
	Register Kind = "register"
	Probe    Kind = "probe"  // a session that was ended is shown again: must be refused
	Orders   Kind = "orders" // reads all orders of the owner (last reading)

	Tokens  Kind = "tokens"  // an API client logs in
	Refresh Kind = "refresh" // its refresh token is taken for the next one
	Reuse   Kind = "reuse"   // one that was used up is shown again: must be refused, and ends the session
)

// Traffic are the kinds that a run must have enough of.
var Traffic = []Kind{Add, Set, CondSet, Remove, Read, LogIn, Checkout}

// Line is a quantity of a product.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// Order is an order that was answered.
type Order struct {
	ID    string `json:"id"`
	Lines []Line `json:"lines"`
}

// Attempt is one HTTP request of a logical one.
type Attempt struct {
	Sent     time.Duration `json:"sent"`     // since the start of the trial, monotonic
	Answered time.Duration `json:"answered"` // when the answer or the error was there
	Status   int           `json:"status,omitempty"`
	// Code is the problem's code, or for a broken connection a word: refused,
	// reset, eof, timeout, other.
	Code     string `json:"code,omitempty"`
	ServedBy string `json:"served_by,omitempty"` // "gateway-1 cart-2", as far as known
	// RetryAfter says that the answer named a time to try again.
	RetryAfter bool `json:"retry_after,omitempty"`
}

// Op is one logical request: up to three attempts under one Idempotency-Key.
type Op struct {
	// Client sends one request at a time.
	Client string `json:"client"`
	// Protocol is how it connects: keep-alive, new-connection or h2c.
	Protocol string `json:"protocol"`
	Kind     Kind   `json:"kind"`
	// Cart names the cart: "s12.g3" is the third guest of shopper 12, "s12.u"
	// that shopper's user, "hot.2" a user's cart that many clients share.
	Cart string `json:"cart,omitempty"`
	// From is the guest's cart that a log-in moves.
	From  string `json:"from,omitempty"`
	Lines []Line `json:"lines,omitempty"`
	// Unique says that no other request adds, sets or removes these SKUs in this
	// cart, or in the cart it is merged into, before the next checkout.
	Unique bool `json:"unique,omitempty"`
	// IfMatch is the ETag that the request is for.
	IfMatch string `json:"if_match,omitempty"`

	Sent     time.Duration `json:"sent"`     // of the first attempt
	Answered time.Duration `json:"answered"` // of the last
	Outcome  Outcome       `json:"outcome"`
	Status   int           `json:"status,omitempty"` // of the last attempt
	Code     string        `json:"code,omitempty"`
	Attempts []Attempt     `json:"attempts"`

	// What an answer told. Version is what the change led to (of a read: what
	// it saw); ETag is of the cart that came with the answer.
	Version  uint64 `json:"version,omitempty"`
	ETag     string `json:"etag,omitempty"`
	Replayed bool   `json:"replayed,omitempty"`
	// NewGuest says that a guest who had shown a ticket was taken for a new one. So
	// it would be said of a ticket that was renewed, which is done when it is a day old.
	NewGuest bool `json:"new_guest,omitempty"`
	// Shown is the whole cart of the answer, nil if none came.
	Shown []Line `json:"shown,omitzero"`
	// Ordered is the order of a checkout, or all orders of an Orders.
	Ordered []Order `json:"ordered,omitempty"`
	// Last marks the reading after all traffic has ended.
	Last bool `json:"last,omitempty"`
}

// Class says who a fault hits, which decides what clients may notice of it.
type Class string

// The classes of fault.
const (
	Hidden  Class = "hidden"  // auth or cart: no client may see a failed attempt
	Gateway Class = "gateway" // connections break: an attempt may fail, a logical request may not
	Outage  Class = "outage"  // Redis or the network: requests may fail, nothing may be lost
)

// Fault is one fault, from its first effect to when the shop was whole again.
type Fault struct {
	Name   string        `json:"name"`   // "kill -9 cart-2"
	Kind   string        `json:"kind"`   // "kill"
	Target string        `json:"target"` // "cart-2"
	Class  Class         `json:"class"`
	Start  time.Duration `json:"start"`
	End    time.Duration `json:"end"`
	// InFlight is the number of logical requests under way at the start.
	InFlight int    `json:"in_flight"`
	Error    string `json:"error,omitempty"` // the fault could not be made
}

// Kills tells whether processes or pods ended by the fault, at once or in order.
func (f Fault) Kills() bool {
	return f.Error == "" && slices.ContainsFunc([]string{"kill", "term", "delete", "evict"}, func(s string) bool { return strings.Contains(f.Kind, s) })
}

// Pods are those of a shop on a cluster at a moment, by part ("cart"): how many
// there are, and the names of those that are Ready, which answers name as well.
type Pods struct {
	At    time.Duration       `json:"at"`
	All   map[string]int      `json:"all"`
	Ready map[string][]string `json:"ready"`
}

// Run is the first record: what was run.
type Run struct {
	Started  time.Time     `json:"started"`
	Scenario string        `json:"scenario"`
	Seed     uint64        `json:"seed"`
	Target   string        `json:"target"` // URL
	Rate     float64       `json:"rate"`   // requests a second that were to be sent
	Length   time.Duration `json:"length"` // of the traffic
	Machine  string        `json:"machine"`
	Version  string        `json:"version"`
}

// End is the last record. A history without one was cut short.
type End struct {
	At time.Duration `json:"at"`
	// Missed is the number of requests that were due and not sent, because too
	// many were still waiting for their answers.
	Missed int `json:"missed"`
	// OwnCPU and Total are CPU seconds: of the trial, and of the machine while it ran.
	OwnCPU   float64 `json:"own_cpu_seconds"`
	TotalCPU float64 `json:"total_cpu_seconds"`
}

// Record is one line of the file: exactly one member is set.
type Record struct {
	Run   *Run   `json:"run,omitempty"`
	Op    *Op    `json:"op,omitempty"`
	Fault *Fault `json:"fault,omitempty"`
	Pods  *Pods  `json:"pods,omitempty"`
	End   *End   `json:"end,omitempty"`
}

// Writer writes a history. It keeps nothing, so a run of an hour does not grow
// in memory. Its methods may be called from many goroutines.
type Writer struct {
	mu  sync.Mutex
	f   *os.File
	buf *bufio.Writer
	err error
}

// Create makes the file and writes what is run.
func Create(path string, run Run) (*Writer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	w := &Writer{f: f, buf: bufio.NewWriterSize(f, 1<<20)}
	w.Write(Record{Run: &run})
	return w, nil
}

// Write appends a record. An error is kept for Close.
func (w *Writer) Write(r Record) {
	line, err := json.Marshal(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		_, err = w.buf.Write(append(line, '\n'))
	}
	w.err = errors.Join(w.err, err)
}

// Close writes the end and answers the first error of all writes.
func (w *Writer) Close(end End) error {
	w.Write(Record{End: &end})
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.err, w.buf.Flush(), w.f.Close())
}

// Scan calls each with every record of the file in order, until it answers an error.
func Scan(path string, each func(Record) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	defer func() { _ = f.Close() }()
	dec := json.NewDecoder(bufio.NewReaderSize(f, 1<<20))
	for n := 1; ; n++ {
		var r Record
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("history: record %d: %w", n, err)
		}
		if err := each(r); err != nil {
			return err
		}
	}
}
