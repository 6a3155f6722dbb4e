package report

import (
	"fmt"
	"time"
)

// Column is one column of a table.
type Column struct {
	Name  string           // name in --columns, CSV and JSON
	Title string           // heading for people
	Right bool             // numbers align to the right
	Human func(any) string // for people; nil is the plain value

	// A table that is too wide for the terminal drops the columns with the highest
	// Spare first. It keeps columns with 0.
	Spare int

	// Flexible columns are cut in the middle where the table is still too wide.
	Flexible bool

	// Zero columns are hidden from people if every value is 0.
	Zero bool
}

// key tells the columns of a table apart.
func (c Column) key() string { return c.Name + "\x00" + c.Title }

// Table is a result in rows and columns. A value is a string, bool, int64, float64,
// time.Time, []string, or nil where it is missing.
type Table struct {
	Title   string
	Columns []Column
	Rows    [][]any
}

// headless reports whether no column has a title: the first column then labels each
// row.
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

// withoutZeros returns the table without the Zero columns that hold only zeros.
func (t Table) withoutZeros() Table {
	for i := len(t.Columns) - 1; i >= 0; i-- {
		zero := t.Columns[i].Zero
		for _, row := range t.Rows {
			zero = zero && row[i] == int64(0)
		}
		if zero {
			t = t.without(i)
		}
	}
	return t
}

// keep keeps a column in the table on any terminal.
func (t Table) keep(name string) {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			t.Columns[i].Spare = 0
		}
	}
}

// sparest returns the column to drop first, or -1 if every column stays.
func (t Table) sparest() int {
	found, spare := -1, 0
	for i, c := range t.Columns {
		if c.Spare > spare {
			found, spare = i, c.Spare
		}
	}
	return found
}

// objects returns the rows as JSON objects by column name.
func (t Table) objects() []map[string]any {
	objects := make([]map[string]any, len(t.Rows))
	for i, row := range t.Rows {
		objects[i] = map[string]any{}
		for j, value := range row {
			objects[i][t.Columns[j].Name] = jsonValue(value)
		}
	}
	return objects
}

// jsonValue prepares a value for JSON: see number for NaN; times are in RFC 3339.
func jsonValue(value any) any {
	switch v := value.(type) {
	case float64:
		return Number(v)
	case time.Time:
		return stamp(v)
	case []byte:
		return string(v)
	}
	return value
}

// transposed exchanges rows and columns. Values become text for people, since a
// column then holds values of many kinds.
func (t Table) transposed() Table {
	turned := Table{Title: t.Title, Columns: make([]Column, 1+len(t.Rows))}
	for i := range t.Rows {
		turned.Columns[1+i] = Column{Name: fmt.Sprint(i), Right: true, Flexible: true}
	}
	for j, c := range t.Columns {
		row := []any{c.Title}
		for i := range t.Rows {
			row = append(row, c.human(t.Rows[i][j]))
		}
		turned.Rows = append(turned.Rows, row)
	}
	return turned
}
