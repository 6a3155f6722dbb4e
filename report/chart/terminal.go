package chart

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/guptarohit/asciigraph"
)

// Terminal describes what the terminal can show.
type Terminal struct {
	Width   int // columns; 0 is 80
	Color   bool
	Unicode bool // lines can be drawn with box characters
}

// asASCII replaces box characters by ASCII.
var asASCII = strings.NewReplacer("┤", "|", "┼", "+", "╭", ".", "╮", ".", "╰", "'", "╯", "'", "─", "-", "│", "|", "╴", "-", "╶", "-")

var terminalColors = []asciigraph.AnsiColor{
	asciigraph.DodgerBlue, asciigraph.DarkOrange, asciigraph.MediumSeaGreen, asciigraph.Orchid,
	asciigraph.Goldenrod, asciigraph.SkyBlue, asciigraph.MediumPurple, asciigraph.Gray,
}

// marks distinguish series without colours.
const marks = "ox+*#@%&"

// WriteTerminal draws the chart with characters.
func (c Chart) WriteTerminal(w io.Writer, t Terminal) error {
	c = c.finite()
	if c.empty() {
		if _, err := fmt.Fprintln(w, "(no values to draw)"); err != nil {
			return err
		}
		var undrawn []string
		for i := range c.Series {
			undrawn = append(undrawn, c.legend(i))
		}
		return writeUndrawn(w, undrawn)
	}
	const labels = 12 // columns for the values on the left
	width := max(20, t.Width-labels)
	if t.Width == 0 {
		width = 80 - labels
	}
	xValues, _ := c.bounds()
	x := newScale(xValues, c.LogX, 0, float64(width-1))
	rows := make([][]float64, 0, len(c.Series))
	var names, undrawn []string
	for i, s := range c.Series {
		row, any := c.columns(s, x, width)
		if !any {
			undrawn = append(undrawn, c.legend(i))
			continue
		}
		name := s.Name
		if n := len(c.lost[i]); n > 0 {
			name += fmt.Sprintf(" (%d not finite)", n)
		}
		rows = append(rows, row)
		names = append(names, name)
	}
	labelOf, height := c.rows(rows)
	options := []asciigraph.Option{asciigraph.LowerBound(0), asciigraph.UpperBound(float64(height)), asciigraph.Height(height), asciigraph.YAxisValueFormatter(labelOf)}
	if len(rows) > 1 || t.Color {
		options = append(options, c.distinguish(len(rows), t.Color)...)
	}
	plot, line := asciigraph.PlotMany(rows, options...), "──"
	if !t.Unicode {
		plot, line = asASCII.Replace(plot), "--"
	}
	if _, err := fmt.Fprintf(w, "%s\n%s\n%s\n", c.Title, plot, c.footer(x, width)); err != nil {
		return err
	}
	for i, name := range names {
		key := line
		switch {
		case t.Color:
			key = terminalColors[i%len(terminalColors)].String() + key + asciigraph.Default.String()
		case len(names) > 1:
			key = string(marks[i%len(marks)])
		}
		if _, err := fmt.Fprintf(w, "  %s %s\n", key, name); err != nil {
			return err
		}
	}
	return writeUndrawn(w, undrawn)
}

// writeUndrawn lists the series that have nothing to draw.
func writeUndrawn(w io.Writer, names []string) error {
	for _, name := range names {
		if _, err := fmt.Fprintf(w, "     %s\n", name); err != nil {
			return err
		}
	}
	return nil
}

func (c Chart) distinguish(series int, color bool) []asciigraph.Option {
	if color {
		colors := make([]asciigraph.AnsiColor, series)
		for i := range colors {
			colors[i] = terminalColors[i%len(terminalColors)]
		}
		return []asciigraph.Option{asciigraph.SeriesColors(colors...)}
	}
	chars := make([]asciigraph.CharSet, series)
	for i := range chars {
		chars[i] = asciigraph.CreateCharSet(string(marks[i%len(marks)]))
	}
	return []asciigraph.Option{asciigraph.SeriesChars(chars...)}
}

// columns returns a value for each column of the terminal: the mean of the points in
// it, or an interpolation between two others.
func (c Chart) columns(s Series, x scale, width int) ([]float64, bool) {
	row, count := make([]float64, width), make([]int, width)
	for _, p := range s.Points {
		if math.IsNaN(p.Y) {
			continue
		}
		i := min(width-1, max(0, int(math.Round(x.place(p.X)))))
		y := p.Y
		if c.LogY {
			y = math.Log10(y)
		}
		count[i]++
		row[i] += (y - row[i]) / float64(count[i])
	}
	last := -1
	for i := range row {
		if count[i] == 0 {
			row[i] = math.NaN()
			continue
		}
		for j := last + 1; last >= 0 && j < i; j++ {
			row[j] = row[last] + (row[i]-row[last])*float64(j-last)/float64(i-last)
		}
		last = i
	}
	return row, last >= 0
}

// rows turns values into lines of the terminal, of which the lowest is 0. Lines are a
// round value apart; on a logarithmic axis, a line has the label of the tick in it.
func (c Chart) rows(values [][]float64) (labelOf func(line float64) string, height int) {
	const most = 20
	all := nothing()
	for _, row := range values {
		for _, v := range row {
			if !math.IsNaN(v) {
				all.include(v)
			}
		}
	}
	labels := map[int]string{}
	y := newScale(all, false, 0, most)
	if c.LogY {
		for _, t := range (scale{interval: interval{math.Pow(10, y.low), math.Pow(10, y.high)}, log: true}).ticks(6) {
			labels[int(math.Round(y.place(math.Log10(t.value))))] = t.label
		}
	} else {
		step := roundStep((y.high - y.low) / most)
		first, last := math.Floor(y.low/step+1e-9), math.Ceil(y.high/step-1e-9)
		y = scale{interval: interval{first * step, last * step}, to: last - first}
		for i := range int(last-first) + 1 {
			labels[i] = label((first+float64(i))*step, step)
		}
	}
	for _, row := range values {
		for i, v := range row {
			row[i] = min(y.to, max(0, y.place(v)))
		}
	}
	return func(line float64) string { return fmt.Sprintf("%8s", labels[int(math.Round(line))]) }, int(y.to)
}

// footer is the x axis: its ends and its label.
func (c Chart) footer(x scale, width int) string {
	left, right := x.ends()
	name := c.XLabel
	if c.LogX {
		name += " (log)"
	}
	space := max(2, width-len(left)-len(right)-len(name))
	return strings.Repeat(" ", 10) + left + strings.Repeat(" ", space/2) + name + strings.Repeat(" ", space-space/2) + right
}
