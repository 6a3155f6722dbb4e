package report

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/koala-lm/koala-lm/tracking"
)

// A table must be in memory to be aligned: these bound its rows and bytes.
const (
	mostTableRows  = 20_000
	mostTableBytes = 32 << 20
)

// WriteSQLRows writes the result of a query in SQL. All formats but tables are
// written row by row.
func WriteSQLRows(o Output, rows *tracking.SQLRows) error {
	columns := make([]Column, len(rows.Columns))
	for i, name := range rows.Columns {
		columns[i] = Column{Name: name, Title: name}
	}
	switch o.Format {
	case JSON:
		return streamJSON(o.W, rows)
	case CSV:
		writer := csv.NewWriter(o.W)
		return stream(rows, csvCell, writer.Write, func() error { writer.Flush(); return writer.Error() })
	case Separated:
		line := func(cells []string) error {
			for i := range cells {
				cells[i] = oneLine.Replace(cells[i])
			}
			_, err := io.WriteString(o.W, strings.Join(cells, "\t")+"\n")
			return err
		}
		return stream(rows, plain, line, func() error { return nil })
	}
	t, bytes := Table{Columns: columns}, 0
	for {
		row, more, err := rows.Next()
		if err != nil {
			return err
		}
		if !more {
			return o.Render(t)
		}
		for i, value := range row {
			if _, ok := value.(string); !ok && value != nil {
				t.Columns[i].Right = true
			}
		}
		for _, value := range row {
			bytes += len(plain(value))
		}
		if len(t.Rows) == mostTableRows || bytes > mostTableBytes {
			return fmt.Errorf("the result is too large for a table (more than %d rows or %d MiB): use --format csv, tsv or json, or LIMIT", mostTableRows, mostTableBytes>>20)
		}
		t.Rows = append(t.Rows, row)
	}
}

// stream writes the header and each row as text.
func stream(rows *tracking.SQLRows, text func(any) string, write func([]string) error, finish func() error) error {
	if err := write(append([]string{}, rows.Columns...)); err != nil {
		return err
	}
	for {
		row, more, err := rows.Next()
		if err != nil {
			return err
		}
		if !more {
			return finish()
		}
		cells := make([]string, len(row))
		for i, value := range row {
			cells[i] = text(value)
		}
		if err := write(cells); err != nil {
			return err
		}
	}
}

// streamJSON writes an array of objects, one on each line.
func streamJSON(w io.Writer, rows *tracking.SQLRows) error {
	opening := "["
	for {
		row, more, err := rows.Next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		object := make(map[string]any, len(row))
		for i, value := range row {
			object[rows.Columns[i]] = jsonValue(value)
		}
		text, err := json.Marshal(object)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, opening+"\n  "+string(text)); err != nil {
			return err
		}
		opening = ","
	}
	if opening == "[" {
		_, err := io.WriteString(w, "[]\n")
		return err
	}
	_, err := io.WriteString(w, "\n]\n")
	return err
}
