package report

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"strings"

	"github.com/koala-lm/koala-lm/tracking"
)

// WriteSQLRows writes the rows of a question in SQL. Formats that need not know
// all rows to write the first are written as the rows come.
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
		return stream(rows, writer.Write, func() error { writer.Flush(); return writer.Error() })
	case Separated:
		line := func(cells []string) error {
			for i := range cells {
				cells[i] = oneLine.Replace(cells[i])
			}
			_, err := io.WriteString(o.W, strings.Join(cells, "\t")+"\n")
			return err
		}
		return stream(rows, line, func() error { return nil })
	}
	t := Table{Columns: columns}
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
		t.Rows = append(t.Rows, row)
	}
}

// stream writes the header and each row as text.
func stream(rows *tracking.SQLRows, write func([]string) error, finish func() error) error {
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
			cells[i] = plain(value)
		}
		if err := write(cells); err != nil {
			return err
		}
	}
}

// streamJSON writes an array of objects, one a line.
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
