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
		"widest":       {Series: []Series{{"a", []Point{At(1, math.MaxFloat64), At(2, -math.MaxFloat64)}}}},
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
		for i, tick := range ticks {
			v := tick.value
			if i > 0 && tick.label == ticks[i-1].label {
				t.Fatalf("two ticks read %s", tick.label)
			}
			if v < s.low-room || v > s.high+room || i > 0 && v <= ticks[i-1].value {
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
	for _, c := range []struct {
		v, step float64
		want    string
	}{
		{0, 1, "0"}, {0.30000000000000004, 0.1, "0.3"}, {1500, 500, "1500"}, {20_000, 5000, "20k"}, {1.5e6, 5e5, "1.5M"}, {1e-7, 1e-7, "1e-07"},
		{-250_000, 5e4, "-250k"}, {-2.7e-17, 0.1, "0"}, {1e-8, 5e-9, "1e-08"}, {1.5e-8, 5e-9, "1.5e-08"}, {1e12, 1e11, "1000G"}, {1.00000000001e12, 10, "1000.00000001G"},
		{123_456_789, 1, "123.456789M"}, {2.5e20, 5e19, "2.5e+20"}, {100, 20, "100"}, {0.00012345, 1e-8, "0.00012345"}, {6e29, 1e29, "6e+29"},
	} {
		if got := label(c.v, c.step); got != c.want {
			t.Errorf("label(%v, %v) = %q, want %q", c.v, c.step, got, c.want)
		}
	}
}

// The terminal's lines are round values apart at every magnitude.
func TestTerminalLabelsAreRound(t *testing.T) {
	for name, c := range map[string]struct {
		points []Point
		log    bool
		want   []string
	}{
		"perplexities": {[]Point{At(0, 678.1), At(1, 480)}, false, []string{"680", "670", "600", "480"}},
		"small":        {[]Point{At(0, 1e-8), At(1, 3e-8)}, false, []string{"3e-08", "1.1e-08", "1e-08"}},
		"large":        {[]Point{At(0, 1e12), At(1, 2e12)}, false, []string{"2000G", "1950G", "1000G"}},
		"flat":         {[]Point{At(0, 5), At(1, 5)}, false, []string{"5.5", "5", "4.5"}},
		"flat, small":  {[]Point{At(0, 1e-8), At(1, 1e-8)}, false, []string{"1.1e-08", "1e-08", "9e-09"}},
		"one point":    {[]Point{At(0, -3)}, false, []string{"-2.7", "-3", "-3.3"}},
		"not finite":   {[]Point{At(0, 1), At(1, math.NaN()), At(2, math.Inf(1)), At(3, 21)}, false, []string{"21", "20", "1"}},
		"widest":       {[]Point{At(0, 1e200), At(1, -1e200)}, false, []string{"1e+200", "0", "-1e+200"}},
		"logarithmic":  {[]Point{At(0, 1), At(1, 10_000)}, true, []string{"10k", "1000", "100", "10", "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := (Chart{LogY: c.log, Series: []Series{{"a", c.points}}}).WriteTerminal(&b, Terminal{Width: 80}); err != nil {
				t.Fatal(err)
			}
			var labels []string
			for line := range strings.Lines(b.String()) {
				if words := strings.Fields(line); len(words) > 1 && strings.ContainsAny(words[1][:1], "|+") {
					labels = append(labels, words[0])
				}
			}
			next := 0
			for _, l := range labels {
				if next < len(c.want) && l == c.want[next] {
					next++
				}
			}
			if next < len(c.want) {
				t.Errorf("labels %q do not have %q in this order in\n%s", labels, c.want, b.String())
			}
		})
	}
}
