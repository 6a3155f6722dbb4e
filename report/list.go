package report

import (
	"time"

	"github.com/koala-lm/koala-lm/tracking"
)

// List is a list of runs.
type List struct {
	Runs []tracking.RunSummary

	// Prefix is how many characters of an id people need to name its run; 0
	// shows ids whole.
	Prefix int
	Now    time.Time
}

// Write writes the list.
func (l List) Write(o Output) error {
	if o.Format == JSON {
		records := make([]Record, len(l.Runs))
		for i, run := range l.Runs {
			records[i] = NewRecord(run)
		}
		return writeJSON(o.W, records)
	}
	fields := listFields(l.Now)
	abbreviateIDs(fields, l.Prefix)
	return o.Render(Table{Columns: columnsOf(fields), Rows: rowsOf(fields, l.Runs)})
}

// abbreviateIDs makes ids as short for people as still names their runs.
func abbreviateIDs(fields []field, prefix int) {
	for i := range fields {
		if fields[i].Name == "id" && prefix > 0 {
			fields[i].Human = func(value any) string {
				id := plain(value)
				return harmless(id[:min(prefix, len(id))])
			}
		}
	}
}
