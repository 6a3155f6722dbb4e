package corpus

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// parquet reads the text of one column, page by page.
func (r reading) parquet(from io.ReaderAt, size int64, name string) (err error) {
	// The library panics at some damaged files.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s is a damaged Parquet file: %v", name, p)
		}
	}()
	f, err := parquet.OpenFile(from, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("%s is no Parquet file, or damaged: %w", name, err)
	}
	field := r.opts.field()
	column := f.Root().Column(field)
	if column == nil {
		var names []string
		for _, c := range f.Root().Columns() {
			names = append(names, c.Name())
		}
		return fmt.Errorf("%s has no column %q, only %s: name the column of the text with --field", name, field, strings.Join(names, ", "))
	}
	if !column.Leaf() || column.MaxRepetitionLevel() > 0 || column.Type().Kind() != parquet.ByteArray {
		return fmt.Errorf("%s: the column %q is not text", name, field)
	}
	pages := column.Pages()
	defer func() { err = cmp.Or(err, pages.Close()) }()
	values := make([]parquet.Value, 256)
	for row := 1; ; {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		page, err := pages.ReadPage()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: row %d: %w", name, row, err)
		}
		if row, err = r.page(page, values, name, row); err != nil {
			return err
		}
	}
}

// page hands out the texts of a page, whose first is in the given row.
func (r reading) page(page parquet.Page, values []parquet.Value, name string, row int) (int, error) {
	defer parquet.Release(page)
	from := page.Values()
	for {
		n, err := from.ReadValues(values)
		for _, v := range values[:n] {
			if !v.IsNull() {
				if err := document(r.sink, fmt.Sprintf("%s: row %d", name, row), v.ByteArray()); err != nil {
					return row, err
				}
			}
			row++
		}
		if err == io.EOF {
			return row, nil
		}
		if err != nil {
			return row, fmt.Errorf("%s: row %d: %w", name, row, err)
		}
	}
}
