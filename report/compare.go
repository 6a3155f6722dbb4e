package report

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/tracking"
)

// Compare shows runs side by side: the settings that differ, and the metrics.
type Compare struct {
	Runs   []tracking.RunSummary
	Prefix int
	Now    time.Time
}

// outcomes are the metrics that a comparison shows if any run has them.
var outcomes = []string{metric.ValidPPL, metric.TestPPL, metric.ValidUnigramPPL, metric.ValidNGramPPL, metric.TrainPPL, metric.EpochPPL, metric.TokensPerSecond}

// circumstances are the fields that a comparison shows if they differ.
var circumstances = []string{"status", "dataset", "dataset_fingerprint", "device", "threads", "host", "cpu"}

// Write writes the comparison with a row for each run, or with a column for each run
// where the rows are too wide for the terminal.
func (c Compare) Write(o Output) error {
	if o.Format == JSON {
		return writeJSON(o.W, c.records())
	}
	columns := c.columns()
	t := Table{Columns: columns.abbreviated(c.Prefix).heads(), Rows: columns.rows(c.Runs)}
	if o.Format == Aligned && o.Width > 0 && widest(o.aligned(t)) > o.Width {
		t = t.transposed()
	}
	return o.Render(t)
}

func (c Compare) columns() Columns {
	columns := Columns{runField("id", c.Now), runField("name", c.Now)}
	for _, name := range circumstances {
		if f := runField(name, c.Now); differs(c.Runs, f.value) {
			columns = append(columns, f)
		}
	}
	for _, key := range c.differing() {
		columns = append(columns, setting(key, key))
	}
	columns = append(columns, runField("steps", c.Now), runField("seconds", c.Now))
	for _, name := range outcomes {
		if !anyHas(c.Runs, name) {
			continue
		}
		columns = append(columns, lastOf(name, name))
		if name == metric.ValidPPL {
			columns = append(columns, bestOf("best."+name, name))
		}
	}
	return columns
}

// differing returns the keys of the settings that differ between runs.
func (c Compare) differing() []string {
	keys := map[string]bool{}
	for _, run := range c.Runs {
		for key := range run.Settings {
			keys[key] = true
		}
	}
	var different []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if differs(c.Runs, setting(key, key).value) {
			different = append(different, key)
		}
	}
	return different
}

func differs(runs []tracking.RunSummary, value func(tracking.RunSummary) any) bool {
	for _, run := range runs[1:] {
		if !reflect.DeepEqual(value(run), value(runs[0])) {
			return true
		}
	}
	return false
}

func anyHas(runs []tracking.RunSummary, metric string) bool {
	return slices.ContainsFunc(runs, func(r tracking.RunSummary) bool {
		_, has := r.Metrics[metric]
		return has
	})
}

// records returns the runs with only the settings that differ.
func (c Compare) records() []Record {
	different := c.differing()
	records := make([]Record, len(c.Runs))
	for i, run := range c.Runs {
		records[i] = NewRecord(run)
		records[i].Settings = map[string]any{}
		for _, key := range different {
			if value, has := run.Settings[key]; has {
				records[i].Settings[key] = value
			}
		}
	}
	return records
}

// MixedDatasets returns a warning if the runs were trained on different data, else "".
func MixedDatasets(runs []tracking.RunSummary) string {
	datasets := map[string]bool{}
	for _, run := range runs {
		datasets[run.DatasetFingerprint] = true
	}
	if len(datasets) < 2 {
		return ""
	}
	return fmt.Sprintf("these runs were trained on %d different datasets: their perplexities do not compare", len(datasets))
}
