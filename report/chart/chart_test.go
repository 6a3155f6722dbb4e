package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func line(n int, f func(float64) float64) []Point {
	points := make([]Point, n)
	for i := range points {
		points[i] = At(float64(i), f(float64(i)))
	}
	return points
}

// charts are typical and extreme charts.
func charts() map[string]Chart {
	constant := func(v float64) func(float64) float64 { return func(float64) float64 { return v } }
	twenty := Chart{Title: "many", LogY: true}
	for i := range 20 {
		twenty.Series = append(twenty.Series, Series{strings.Repeat("long name ", 1+i%5), line(100, func(x float64) float64 { return x + float64(i) })})
	}
	return map[string]Chart{
		"nothing":      {},
		"empty series": {Series: []Series{{Name: "a"}}},
		"one point":    {Series: []Series{{"a", line(1, constant(3))}}},
		"constant":     {Series: []Series{{"a", line(50, constant(0))}}},
		"no numbers":   {Series: []Series{{"a", line(50, constant(math.NaN()))}}},
		"infinite":     {Series: []Series{{"a", []Point{At(1, math.Inf(1)), At(2, 3), At(math.Inf(1), 3)}}}},
		"log of zero":  {LogX: true, LogY: true, Series: []Series{{"a", line(50, func(x float64) float64 { return x - 3 })}}},
		"log, one":     {LogX: true, LogY: true, Series: []Series{{"a", []Point{At(1, 1)}}}},
		"gap":          {Series: []Series{{"a", []Point{At(1, 1), At(2, math.NaN()), At(3, 1), At(4, 2)}}}},
		"huge":         {Series: []Series{{"a", []Point{At(1, 1e300), At(2, -1e300)}}}},
		"tiny":         {LogY: true, Series: []Series{{"a", []Point{At(1, 1e-300), At(2, 1e300)}}}},
		"long":         {Series: []Series{{"a", line(100_000, math.Sin)}, {"b", line(10, math.Cos)}}},
		"banded":       {Series: []Series{{"a", []Point{{1, 2, 1, 3}, {2, 3, 2, 9}}}}},
		"dangerous": {Title: "</title><script>alert(1)</script>", XLabel: "\"'&<>", YLabel: "\x00\x1b[31m\ufffe",
			Series: []Series{{"]]> \u202e & <b> \xff", line(5, math.Exp)}, {"🐨 коала 考拉", line(5, math.Exp)}}},
		"many": twenty,
	}
}

func TestEveryChartDraws(t *testing.T) {
	for name, c := range charts() {
		t.Run(name, func(t *testing.T) {
			var svg, picture, terminal bytes.Buffer
			if err := c.WriteSVG(&svg); err != nil {
				t.Fatal(err)
			}
			wellFormed(t, svg.Bytes())
			if err := c.WritePNG(&picture); err != nil {
				t.Fatal(err)
			}
			if _, err := png.Decode(&picture); err != nil {
				t.Error(err)
			}
			for _, options := range []Terminal{{}, {Width: 10}, {Width: 120, Color: true, Unicode: true}} {
				if err := c.WriteTerminal(&terminal, options); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// wellFormed requires XML without scripts whose coordinates are numbers.
func wellFormed(t *testing.T, svg []byte) {
	t.Helper()
	if !utf8.Valid(svg) || bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
		t.Error("the SVG has what is no number or no text")
	}
	decoder := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if element, ok := token.(xml.StartElement); ok && element.Name.Local == "script" {
			t.Error("a name became a script")
		}
	}
}

func TestPlainTerminal(t *testing.T) {
	c := Chart{Title: "plain", Series: []Series{{"a", line(100, math.Sin)}}}
	for _, series := range [][]Series{c.Series, append(c.Series, Series{"b", line(50, math.Cos)})} {
		c.Series = series
		var b strings.Builder
		if err := c.WriteTerminal(&b, Terminal{Width: 80}); err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(b.String(), func(r rune) bool { return r > 0x7e }); i >= 0 {
			t.Errorf("%q is not ASCII in\n%s", b.String()[i:i+3], b.String())
		}
	}
}

func TestTicks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := rapid.Bool().Draw(t, "log")
		low := rapid.Float64Range(-1e12, 1e12).Draw(t, "low")
		if log {
			low = math.Exp(rapid.Float64Range(-50, 50).Draw(t, "exponent"))
		}
		high := low + math.Exp(rapid.Float64Range(-3, 30).Draw(t, "width"))
		s := newScale(interval{low, high}, log, 0, 100)
		ticks := s.ticks(6)
		if len(ticks) < 2 || len(ticks) > 24 {
			t.Fatalf("%d ticks in [%v, %v]: %v", len(ticks), low, high, ticks)
		}
		room := 1e-9 * (math.Abs(low) + math.Abs(high))
		for i, v := range ticks {
			if v < s.low-room || v > s.high+room || i > 0 && v <= ticks[i-1] {
				t.Fatalf("ticks %v in [%v, %v]", ticks, low, high)
			}
		}
	})
}

func TestThinKeepsTheShape(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "points")
		columns := rapid.IntRange(1, 100).Draw(t, "columns")
		points := make([]Point, n)
		whole := nothing()
		for i := range points {
			points[i] = At(float64(i*i), rapid.Float64Range(-5, 5).Draw(t, "y"))
			whole.include(points[i].Y)
		}
		thin := Thin(points, columns, false)
		if len(thin) > columns {
			t.Fatalf("%d points in %d columns", len(thin), columns)
		}
		left := nothing()
		for i, p := range thin {
			left.include(p.Low)
			left.include(p.High)
			if p.Y < p.Low-1e-9 || p.Y > p.High+1e-9 || i > 0 && p.X < thin[i-1].X {
				t.Fatalf("point %d is %+v", i, p)
			}
		}
		if left != whole {
			t.Fatalf("extent %v became %v", whole, left)
		}
	})
}

func TestSmooth(t *testing.T) {
	points := []Point{At(0, 4), At(1, math.NaN()), At(2, 4), At(3, 4)}
	for _, p := range Smooth(points, 0.9) {
		if !math.IsNaN(p.Y) && math.Abs(p.Y-4) > 1e-12 {
			t.Errorf("a constant became %v", p.Y)
		}
	}
	if got := Smooth([]Point{At(0, 0), At(1, 1)}, 0.5)[1].Y; math.Abs(got-2.0/3) > 1e-12 {
		t.Errorf("%v, want 2/3", got)
	}
}

func TestLabel(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.30000000000000004: "0.3", 1500: "1500", 20_000: "20k", 1.5e6: "1.5M", 1e-7: "1e-07", -250_000: "-250k"} {
		if got := label(v); got != want {
			t.Errorf("label(%v) = %q, want %q", v, got, want)
		}
	}
}
