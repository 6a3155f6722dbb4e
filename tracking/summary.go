package tracking

import (
	"time"

	"github.com/koala-lm/koala-lm/tracking/environment"
)

// RunSummary is what a list shows of a run.
type RunSummary struct {
	ID      string
	Name    string
	Note    string
	Status  Status // as seen by the reader: crashed if its process is gone
	Reason  string
	Started time.Time
	Ended   time.Time // zero while running; the last sign of life if crashed
	Seconds float64   // spent training
	Steps   int64
	Tokens  int64

	Host    string
	PID     int
	CPU     string
	Device  string
	Threads int

	Dataset            string
	DatasetPath        string
	DatasetFingerprint string
	Parent             string

	Settings map[string]any
	Metrics  map[string]Summary
	Tags     []string

	number   int64
	recorded bool // its end is written down
}

// Summary is the last and the best value of one metric of a run. NaN stands for
// a value that is no number, or for none.
type Summary struct {
	Step     int64 // of the last value
	Last     float64
	BestStep int64
	Best     float64
}

// RunDetail is all that is recorded of a run but its points.
type RunDetail struct {
	RunSummary
	DatasetFacts map[string]any
	Git          environment.Git
	Command      []string
	Versions     map[string]string
	Events       []Event
}

// Event is something that happened to a run.
type Event struct {
	Time    time.Time
	Kind    string
	Message string
}
