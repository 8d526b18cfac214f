package watch

import (
	"time"

	"coatcheck/trial/history"
	"coatcheck/trial/report"
	"coatcheck/trial/traffic"
)

// State is a trial as it stands. Counts are since its start.
type State struct {
	Run     history.Run   `json:"run"`
	Elapsed time.Duration `json:"elapsed"`
	// Doing is a word or two when it is not traffic and faults ("reading all
	// carts"); may be empty.
	Doing string `json:"doing,omitempty"`

	OK           int `json:"ok"` // logical requests, as are the next two; a refusal is an answer
	Failed       int `json:"failed"`
	Unknown      int `json:"unknown"`
	Acknowledged int `json:"acknowledged"` // changes
	Retried      int `json:"retried"`
	InFlight     int `json:"in_flight"`
	Missed       int `json:"missed"` // due, and not sent because too many were waiting
	// Lines are the acknowledged ones that nobody else touches, and Lost those of
	// them that a later answer did not show.
	Lines int `json:"lines"`
	Lost  int `json:"lost"`

	// Of the last seconds; a percentile is 0 where nothing was answered.
	Rate float64       `json:"rate"` // requests that ended, a second
	P50  time.Duration `json:"p50"`
	P99  time.Duration `json:"p99"`

	Replicas []Replica `json:"replicas"`
	// Made is the number of faults that are over. Faults are the last of them, and
	// those that are under way, which have no end yet.
	Made   int             `json:"made"`
	Faults []history.Fault `json:"faults"`
	// Seconds are the last ones that are over.
	Seconds []Second `json:"seconds"`
	// Boards are the names of the dashboards that can be seen.
	Boards []string `json:"boards,omitempty"`

	// Over says that nothing comes any more. Without a verdict the trial was
	// broken off, and Line says why.
	Over    bool           `json:"over"`
	Verdict report.Verdict `json:"verdict,omitempty"`
	Line    string         `json:"line,omitempty"`

	counts traffic.Live
	made   map[history.Class]int
}

// Second is what ended in one of them.
type Second struct {
	At      int           `json:"at"` // the first is 0
	OK      int           `json:"ok"`
	Failed  int           `json:"failed"`
	Unknown int           `json:"unknown"`
	P99     time.Duration `json:"p99"`
}

// Replica is one process or pod of the shop.
type Replica struct {
	Role string `json:"role"`
	Name string `json:"name"`
	// State is a word such as running, restarting, stopped, ready; "" if all that
	// is known is that it answers.
	State string  `json:"state,omitempty"`
	Rate  float64 `json:"rate"` // answers a second that name it, in the last seconds
	// Hit names the fault that is under way on it or on its role.
	Hit string `json:"hit,omitempty"`
}

// up says that a replica is there, as far as is known.
func (r Replica) up() bool { return r.State == "" || r.State == "running" || r.State == "ready" }
