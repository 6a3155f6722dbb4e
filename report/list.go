package report

import (
	"github.com/koala-lm/koala-lm/tracking"
)

// List is a list of runs.
type List struct {
	Runs    []tracking.RunSummary
	Columns Columns

	// Chosen says that the user named the columns: then JSON has these alone,
	// and else everything.
	Chosen bool

	// Prefix is how many characters of an id people need to name its run; 0
	// shows ids whole.
	Prefix int
}

// Write writes the list.
func (l List) Write(o Output) error {
	t := Table{Columns: l.Columns.abbreviated(l.Prefix).heads(), Rows: l.Columns.rows(l.Runs)}
	if MixedDatasets(l.Runs) != "" {
		t.keep("dataset") // their perplexities do not compare
	}
	switch {
	case o.Format == JSON && l.Chosen:
		return writeJSON(o.W, t.objects())
	case o.Format == JSON:
		records := make([]Record, len(l.Runs))
		for i, run := range l.Runs {
			records[i] = NewRecord(run)
		}
		return writeJSON(o.W, records)
	}
	return o.Render(t)
}
