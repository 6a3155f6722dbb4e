package report

import (
	"github.com/koala-lm/koala-lm/tracking"
)

// List is a list of runs.
type List struct {
	Runs    []tracking.RunSummary
	Columns Columns

	// Chosen is true if the user named the columns. JSON then has only these
	// columns, otherwise all fields.
	Chosen bool

	// Prefix is the number of characters of an id that identify its run; 0 shows
	// whole ids.
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
