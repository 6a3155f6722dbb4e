package report

import (
	"encoding/json"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/koala-lm/koala-lm/tracking"
)

// Record is a run in JSON, the same wherever it is printed. Later versions may add
// fields; they remove none.
type Record struct {
	ID       string             `json:"id"`
	Name     string             `json:"name"`
	Status   tracking.Status    `json:"status"`
	Started  string             `json:"started"` // RFC 3339 in UTC
	Seconds  float64            `json:"seconds"` // spent training
	Steps    int64              `json:"steps"`
	Tokens   int64              `json:"tokens"`
	Progress *Number            `json:"progress,omitempty"` // share of the training that is done; absent if unknown
	Settings map[string]any     `json:"settings"`           // by dotted key
	Metrics  map[string]Number  `json:"metrics"`            // last values
	Best     map[string]*Number `json:"best"`               // best values; null where no value was finite
	Tags     []string           `json:"tags"`
	Note     string             `json:"note"`
	Reason   string             `json:"reason"`          // of its end
	Ended    string             `json:"ended,omitempty"` // absent while running
	Dataset  RecordDataset      `json:"dataset"`
	Host     string             `json:"host"`
	CPU      string             `json:"cpu"`
	Device   string             `json:"device"`
	Threads  int                `json:"threads"`
	Parent   string             `json:"parent,omitempty"`
}

// RecordDataset is the training data of a run.
type RecordDataset struct {
	Name        string `json:"name"`
	Path        string `json:"path"`
	Fingerprint string `json:"fingerprint"`
}

// DetailRecord is the whole record of a run in JSON, as `report show` prints it.
type DetailRecord struct {
	Record
	Details
}

// Details are what a list of runs leaves out.
type Details struct {
	BestSteps    map[string]int64  `json:"best_steps"`
	DatasetFacts map[string]any    `json:"dataset_facts"`
	Git          RecordGit         `json:"git"`
	Command      []string          `json:"command"`
	Versions     map[string]string `json:"versions"`
	Events       []RecordEvent     `json:"events"`
}

// RecordGit is the state of the checkout at the start of a run.
type RecordGit struct {
	Commit string `json:"commit"`
	Dirty  bool   `json:"dirty"`
	Diff   string `json:"diff"`
}

// RecordEvent is an event of a run.
type RecordEvent struct {
	Time    string `json:"time"`
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// Number is a float64 in JSON, where the strings "NaN", "Infinity" and "-Infinity"
// write the values that JSON's numbers lack: null would look like a missing value.
type Number float64

func (n Number) MarshalJSON() ([]byte, error) {
	switch f := float64(n); {
	case math.IsNaN(f):
		return []byte(`"NaN"`), nil
	case math.IsInf(f, 1):
		return []byte(`"Infinity"`), nil
	case math.IsInf(f, -1):
		return []byte(`"-Infinity"`), nil
	default:
		return strconv.AppendFloat(nil, f, 'g', -1, 64), nil
	}
}

func (n *Number) UnmarshalJSON(text []byte) error {
	v, err := strconv.ParseFloat(strings.Trim(string(text), `"`), 64)
	*n = Number(v)
	return err
}

// NewRecord returns the JSON of a run.
func NewRecord(r tracking.RunSummary) Record {
	record := Record{
		ID: r.ID, Name: r.Name, Status: r.Status, Started: stamp(r.Started), Seconds: math.Round(1000*r.Seconds) / 1000,
		Steps: r.Steps, Tokens: r.Tokens, Settings: r.Settings, Tags: r.Tags,
		Metrics: map[string]Number{}, Best: map[string]*Number{},
		Note: r.Note, Reason: r.Reason, Ended: stamp(r.Ended),
		Dataset: RecordDataset{r.Dataset, r.DatasetPath, r.DatasetFingerprint},
		Host:    r.Host, CPU: r.CPU, Device: r.Device, Threads: r.Threads, Parent: r.Parent,
	}
	if share := Number(math.Round(1e4*r.Share()) / 1e4); !math.IsNaN(float64(share)) {
		record.Progress = &share
	}
	for name, m := range r.Metrics {
		record.Metrics[name] = Number(m.Last)
		record.Best[name] = nil
		if best := Number(m.Best); !math.IsNaN(m.Best) {
			record.Best[name] = &best
		}
	}
	return record
}

// NewDetailRecord returns the JSON of a run's whole record.
func NewDetailRecord(d tracking.RunDetail) DetailRecord {
	record := DetailRecord{NewRecord(d.RunSummary), Details{
		BestSteps: map[string]int64{}, DatasetFacts: d.DatasetFacts, Command: d.Command, Versions: d.Versions,
		Git: RecordGit{d.Git.Commit, d.Git.Dirty, d.Git.Diff}, Events: []RecordEvent{},
	}}
	for name, m := range d.Metrics {
		if !math.IsNaN(m.Best) {
			record.BestSteps[name] = m.BestStep
		}
	}
	for _, e := range d.Events {
		record.Events = append(record.Events, RecordEvent{stamp(e.Time), e.Kind, e.Message})
	}
	return record
}

// stamp writes a time in RFC 3339 in UTC, the zero time as "".
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// writeJSON writes indented JSON that keeps <, > and & readable.
func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
