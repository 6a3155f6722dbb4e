package chart

import "math"

// canvas is a drawing surface. Lengths are in SVG's pixels from the top left corner.
type canvas interface {
	rule(x1, y1, x2, y2 float64)        // a line of the grid
	line(points []place, series int)    // may have gaps: NaN
	band(low, high []place, series int) // between two lines
	dots(points []place, series int)    // of a line with few points
	cross(at place, series int)         // marks a value that is not finite
	text(at place, s string, style style)
	key(at place, series int)         // a sample of a series' line
	clip(x, y, width, height float64) // limits the lines, bands and dots that follow
	unclip()
	width(s string, size float64) float64 // of a text, estimated
}

type place struct{ x, y float64 }

// style is the size, weight and alignment of a text.
type style struct {
	size   float64
	anchor anchor
	strong bool
	turned bool // by a quarter to the left
}

type anchor int

const (
	start anchor = iota
	middle
	end
)

// The picture's measures.
const (
	pictureWidth = 960
	plotHeight   = 420
	marginTop    = 48
	marginRight  = 24
	marginBottom = 56
	marginLeft   = 76
	legendRow    = 20
	textSize     = 13
	dotRoom      = 4
	columns      = pictureWidth - marginLeft - marginRight
)

// height of the picture with its legend under the plot.
func (c Chart) height(measure func(string, float64) float64) float64 {
	return marginTop + plotHeight + marginBottom + float64(len(c.legendRows(measure)))*legendRow
}

// draw lays the chart out.
func (c Chart) draw(on canvas) {
	xValues, yValues := c.bounds()
	x := newScale(xValues, c.LogX, marginLeft, pictureWidth-marginRight)
	y := newScale(yValues, c.LogY, marginTop+plotHeight, marginTop).padded(0.04)

	on.text(place{marginLeft, 26}, c.Title, style{size: 16, strong: true})
	for _, t := range y.ticks(6) {
		at := y.place(t.value)
		on.rule(marginLeft, at, pictureWidth-marginRight, at)
		on.text(place{marginLeft - 8, at + 4.5}, t.label, style{size: textSize, anchor: end})
	}
	for _, t := range x.ticks(8) {
		at := x.place(t.value)
		on.rule(at, marginTop, at, marginTop+plotHeight)
		on.text(place{at, marginTop + plotHeight + 18}, t.label, style{size: textSize, anchor: middle})
	}
	on.text(place{marginLeft + columns/2, marginTop + plotHeight + 42}, c.XLabel, style{size: textSize, anchor: middle})
	on.text(place{18, marginTop + plotHeight/2}, c.YLabel, style{size: textSize, anchor: middle, turned: true})

	on.clip(marginLeft-dotRoom, marginTop, columns+2*dotRoom, plotHeight) // dots on the frame stay whole
	c.drawSeries(on, x, y)
	on.unclip()
	c.drawLegend(on)
}

// drawSeries draws the bands first, so that none hides a line.
func (c Chart) drawSeries(on canvas, x, y scale) {
	lines := make([][]place, len(c.Series))
	for i, s := range c.Series {
		var low, high []place
		banded := false
		for _, p := range Thin(s.Points, columns, c.LogX) {
			at := x.place(p.X)
			if math.IsNaN(p.Y) {
				lines[i] = append(lines[i], place{at, math.NaN()})
				continue
			}
			lines[i] = append(lines[i], place{at, y.place(p.Y)})
			low = append(low, place{at, y.place(p.Low)})
			high = append(high, place{at, y.place(p.High)})
			banded = banded || p.Low < p.High
		}
		if banded {
			on.band(low, high, i)
		}
	}
	for i, line := range lines {
		on.line(line, i)
		if len(line) <= 30 {
			on.dots(line, i)
		}
		if i >= len(c.lost) {
			continue
		}
		// Values that are not finite get a mark at the top of the plot.
		const apart = 10
		last := math.Inf(-1)
		for _, at := range c.lost[i] {
			if px := x.place(at); px-last >= apart {
				on.cross(place{px, marginTop + 8 + float64(i%4)*apart}, i)
				last = px
			}
		}
	}
}

// legendEntry is a name at its place in a row of the legend.
type legendEntry struct {
	series int
	x      float64
}

func (c Chart) legendRows(measure func(string, float64) float64) [][]legendEntry {
	var rows [][]legendEntry
	x := math.Inf(1)
	for i := range c.Series {
		needed := 34 + measure(c.legend(i), textSize) + 22
		if x+needed > pictureWidth-marginRight {
			rows = append(rows, nil)
			x = marginLeft
		}
		rows[len(rows)-1] = append(rows[len(rows)-1], legendEntry{i, x})
		x += needed
	}
	return rows
}

// legend names a series, and says where nothing of it can be drawn.
func (c Chart) legend(series int) string {
	s := c.Series[series]
	for _, p := range s.Points {
		if !math.IsNaN(p.Y) {
			return s.Name
		}
	}
	if series < len(c.lost) && len(c.lost[series]) > 0 {
		return s.Name + ": no finite value"
	}
	return s.Name + ": no value"
}

func (c Chart) drawLegend(on canvas) {
	y := float64(marginTop + plotHeight + marginBottom + 8)
	for _, row := range c.legendRows(on.width) {
		for _, entry := range row {
			on.key(place{entry.x, y}, entry.series)
			on.text(place{entry.x + 34, y + 4.5}, c.legend(entry.series), style{size: textSize})
		}
		y += legendRow
	}
}

// palette holds colours that colour-blind readers can distinguish, on white and on
// black. Further series have the same colours with dashed lines.
var palette = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56a4d9", "#8c6bb1", "#7f7f7f"}

func colorOf(series int) string { return palette[series%len(palette)] }

// dashesOf returns a series' dashes and gaps in pixels; nil is a solid line.
func dashesOf(series int) []float64 {
	patterns := [][]float64{nil, {7, 4}, {2, 3}, {10, 3, 2, 3}, {14, 5}, {10, 3, 2, 3, 2, 3}}
	return patterns[series/len(palette)%len(patterns)]
}
