package report

// Column is one column of a table.
type Column struct {
	Name  string           // what --columns takes and what CSV and JSON call it
	Title string           // what people read
	Right bool             // numbers align to the right
	Human func(any) string // for people; nil is the plain value

	// Spare columns leave a table that is too wide for the terminal, the
	// highest first; 0 stays.
	Spare int
}

// Table is a result of rows and columns with plain values in it: string, bool,
// int64, float64, time.Time, []string or nil.
type Table struct {
	Title   string
	Columns []Column
	Rows    [][]any
}

// headless reports whether no column has a title: then the first column says
// what each row is.
func (t Table) headless() bool {
	for _, c := range t.Columns {
		if c.Title != "" {
			return false
		}
	}
	return true
}

// without returns the table without column i.
func (t Table) without(i int) Table {
	narrow := Table{Title: t.Title}
	narrow.Columns = append(append(narrow.Columns, t.Columns[:i]...), t.Columns[i+1:]...)
	for _, row := range t.Rows {
		narrow.Rows = append(narrow.Rows, append(append([]any{}, row[:i]...), row[i+1:]...))
	}
	return narrow
}

// sparest returns the column to leave out first, or -1 if none may be.
func (t Table) sparest() int {
	found, spare := -1, 0
	for i, c := range t.Columns {
		if c.Spare > spare {
			found, spare = i, c.Spare
		}
	}
	return found
}
