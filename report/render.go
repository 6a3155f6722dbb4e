package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/koala-lm/koala-lm/internal/visible"
)

// Format is the format of a result.
type Format string

const (
	Aligned   Format = "table"
	JSON      Format = "json"
	CSV       Format = "csv"
	Markdown  Format = "md"
	Separated Format = "tsv" // for pipes: exact values between tabs
)

// Output is the destination of a result and what can be shown there.
type Output struct {
	W       io.Writer
	Format  Format
	Width   int  // of the terminal in columns; 0 is no limit
	Color   bool // ANSI colours are understood
	Unicode bool // the destination shows more than ASCII; names are never changed

	limits map[string]int // widths of columns by their keys, see Table.shrink
}

// Render writes tables in any format but JSON, whose structure differs by result.
func (o Output) Render(tables ...Table) error {
	for i, t := range tables {
		if i > 0 {
			if _, err := fmt.Fprintln(o.W); err != nil {
				return err
			}
		}
		if err := o.render(t); err != nil {
			return err
		}
	}
	return nil
}

// Write writes the table in any format.
func (t Table) Write(o Output) error {
	if o.Format == JSON {
		return writeJSON(o.W, t.objects())
	}
	return o.Render(t)
}

func (o Output) render(t Table) error {
	switch o.Format {
	case CSV:
		return renderCSV(o.W, t)
	case Separated:
		return renderSeparated(o.W, t)
	case Markdown:
		return renderMarkdown(o.W, t.withoutZeros())
	}
	t = t.withoutZeros()
	rendered := o.aligned(t)
	for o.Width > 0 && widest(rendered) > o.Width && t.sparest() >= 0 {
		t = t.without(t.sparest())
		rendered = o.aligned(t)
	}
	if excess := widest(rendered) - o.Width; o.Width > 0 && excess > 0 {
		o.limits = t.shrink(excess, 8, o.cellWidth)
		rendered = o.aligned(t)
	}
	if o.Width > 0 && widest(rendered) > o.Width {
		o.limits = nil
		o.limits = t.shrink(math.MaxInt, 14, o.cellWidth) // as there is room below, names stay legible
		var blocks []string
		for _, block := range t.blocks(o.Width, o.cellWidth) {
			blocks = append(blocks, o.aligned(block))
		}
		rendered = strings.Join(blocks, "\n\n")
	}
	_, err := fmt.Fprintln(o.W, rendered)
	return err
}

// cellWidth is the width of a cell on the terminal.
func (o Output) cellWidth(c Column, value any) int {
	width := text.StringWidthWithoutEscSequences(o.legible(c.human(value)))
	if limit, ok := o.limits[c.key()]; ok {
		width = min(width, limit)
	}
	return width
}

// width is the width of column i.
func (t Table) width(i int, cell func(Column, any) int) int {
	width := text.StringWidthWithoutEscSequences(t.Columns[i].Title)
	for _, row := range t.Rows {
		width = max(width, cell(t.Columns[i], row[i]))
	}
	return width
}

// blocks cuts a table into tables of at most a width. The first column labels the
// rows of each.
func (t Table) blocks(width int, cell func(Column, any) int) []Table {
	const gap = 2
	label := t.width(0, cell)
	var blocks []Table
	for from := 1; from < len(t.Columns); {
		to, room := from, width-label
		for to < len(t.Columns) {
			if room -= gap + t.width(to, cell); room < 0 && to > from {
				break
			}
			to++
		}
		block := Table{Columns: append(t.Columns[:1:1], t.Columns[from:to]...)}
		for _, row := range t.Rows {
			block.Rows = append(block.Rows, append(row[:1:1], row[from:to]...))
		}
		blocks = append(blocks, block)
		from = to
	}
	if len(blocks) == 0 {
		return []Table{t}
	}
	blocks[0].Title = t.Title
	return blocks
}

// shrink returns limits for the widths of flexible columns that make the table
// narrower by excess: it takes from the widest column first, and leaves least to each.
func (t Table) shrink(excess, least int, cell func(Column, any) int) map[string]int {
	widths := map[string]int{}
	for i, c := range t.Columns {
		if c.Flexible {
			widths[c.key()] = t.width(i, cell)
		}
	}
	for ; excess > 0; excess-- {
		widestColumn := ""
		for _, c := range t.Columns {
			if width, ok := widths[c.key()]; ok && width > least && (widestColumn == "" || width > widths[widestColumn]) {
				widestColumn = c.key()
			}
		}
		if widestColumn == "" {
			break
		}
		widths[widestColumn]--
	}
	return widths
}

// cutMiddle shortens text to limit characters by cutting its middle, since the names
// of a sweep's runs differ at their end.
func cutMiddle(s string, limit int) string {
	runes := []rune(s)
	if len(runes) <= limit || limit < 2 {
		return s
	}
	tail := (limit - 1) * 2 / 3
	return string(runes[:limit-1-tail]) + "…" + string(runes[len(runes)-tail:])
}

func renderCSV(w io.Writer, t Table) error {
	writer := csv.NewWriter(w)
	header := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		header[i] = c.Name
	}
	if err := writer.Write(header); err != nil {
		return err
	}
	for _, row := range t.Rows {
		cells := make([]string, len(row))
		for i, value := range row {
			cells[i] = csvCell(value)
		}
		if err := writer.Write(cells); err != nil {
			return err
		}
	}
	writer.Flush()
	return writer.Error()
}

// csvCell writes a value for CSV. A text that a spreadsheet would run as a formula
// gets an apostrophe before it: OWASP, "CSV injection". Numbers stay as they are.
func csvCell(value any) string {
	text := plain(value)
	switch value.(type) {
	case string, []byte, []string, []any:
		if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
			return "'" + text
		}
	}
	return text
}

// oneLine removes line breaks and tabs from a value.
var oneLine = strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")

func renderSeparated(w io.Writer, t Table) error {
	var b strings.Builder
	for i, c := range t.Columns {
		if i > 0 {
			b.WriteByte('\t')
		}
		b.WriteString(oneLine.Replace(c.Name))
	}
	b.WriteByte('\n')
	for _, row := range t.Rows {
		for i, value := range row {
			if i > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(oneLine.Replace(plain(value)))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// notHTML escapes names for Markdown, which allows HTML.
var notHTML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func renderMarkdown(w io.Writer, t Table) error {
	writer := newWriter(t, func(c Column, value any) string { return notHTML.Replace(c.human(value)) })
	if t.Title != "" {
		if _, err := fmt.Fprintf(w, "## %s\n\n", notHTML.Replace(visible.Text(t.Title))); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, writer.RenderMarkdown())
	return err
}

// aligned renders for a terminal.
func (o Output) aligned(t Table) string {
	writer := newWriter(t, func(c Column, value any) string {
		cell := c.human(value)
		if limit, ok := o.limits[c.key()]; ok {
			if !o.Unicode {
				limit -= len("...") - 1
			}
			cell = cutMiddle(cell, limit)
		}
		cell = o.legible(cell)
		if status, ok := statusColor[cell]; ok && o.Color && c.Name == "status" {
			return status + cell + reset
		}
		return cell
	})
	style := tableStyle(o.Unicode)
	rule := style.Box.MiddleHorizontal
	if t.headless() {
		writer.ResetHeaders()
		rule = ""
	}
	writer.SetStyle(style)
	rendered := trimLines(writer.Render(), rule)
	if t.Title != "" {
		rendered = o.bold(visible.Text(t.Title)) + "\n" + rendered
	}
	return rendered
}

func newWriter(t Table, cell func(Column, any) string) table.Writer {
	writer := table.NewWriter()
	header := make(table.Row, len(t.Columns))
	configs := make([]table.ColumnConfig, len(t.Columns))
	for i, c := range t.Columns {
		header[i] = visible.Text(c.Title)
		configs[i].Number = i + 1
		if c.Right {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	writer.AppendHeader(header)
	writer.SetColumnConfigs(configs)
	for _, row := range t.Rows {
		cells := make(table.Row, len(row))
		for i, value := range row {
			cells[i] = cell(t.Columns[i], value)
		}
		writer.AppendRow(cells)
	}
	return writer
}

// tableStyle has no frame, only a rule under the header.
func tableStyle(unicode bool) table.Style {
	style := table.StyleLight
	style.Options = table.Options{SeparateHeader: true}
	style.Format = table.FormatOptions{}
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	if !unicode {
		style.Box.MiddleHorizontal = "-"
	}
	return style
}

// legible replaces our own non-ASCII signs where the destination shows only ASCII.
func (o Output) legible(s string) string {
	if o.Unicode {
		return s
	}
	return asASCII.Replace(s)
}

var asASCII = strings.NewReplacer("…", "...", "±", "+-")

const reset = "\x1b[0m"

var statusColor = map[string]string{
	"running": "\x1b[36m", "finished": "\x1b[32m", "interrupted": "\x1b[33m",
	"failed": "\x1b[31m", "crashed": "\x1b[31m",
}

func (o Output) bold(s string) string {
	if !o.Color {
		return s
	}
	return "\x1b[1m" + s + reset
}

func widest(s string) int {
	width := 0
	for line := range strings.Lines(s) {
		width = max(width, text.StringWidthWithoutEscSequences(strings.TrimRight(line, "\n")))
	}
	return width
}

// trimLines cuts the padding of the last column: the spaces at the end of each line, and
// the part of the rule under the header that is over nothing.
func trimLines(s, rule string) string {
	lines := strings.Split(s, "\n")
	width := 0
	for i := range lines {
		if lines[i] = strings.TrimRight(lines[i], " "); i != 1 || rule == "" {
			width = max(width, text.StringWidthWithoutEscSequences(lines[i]))
		}
	}
	if rule != "" {
		lines[1] = strings.Repeat(rule, width)
	}
	return strings.Join(lines, "\n")
}
