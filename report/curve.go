package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/report/chart"
	"github.com/koala-lm/koala-lm/tracking"
)

// CurveOptions say what to draw of which runs.
type CurveOptions struct {
	Metrics []string
	X       string // step, tokens or time, or the name of a setting
	LogX    bool
	LogY    bool
	Smooth  float64  // 0 to below 1: how much of the past stays at each point
	GroupBy []string // names; runs that share their values become a mean with a band
}

// Curves are the values of metrics of runs.
type Curves struct {
	options CurveOptions
	curves  []curve
	groups  map[string][]int // name of a group -> its curves; in order of groupNames
	names   []string
	over    string // the setting that x is, if it is one
}

// curve is one metric of one run.
type curve struct {
	run    tracking.RunSummary
	metric string
	points []tracking.CurvePoint
	at     float64 // the run's value of the setting that x is
}

// NewCurves reads the curves of runs.
func NewCurves(ctx context.Context, store *tracking.Store, runs []tracking.RunSummary, options CurveOptions) (*Curves, error) {
	if options.X != "" && !options.ranged() {
		return newCurvesOver(ctx, store, runs, options)
	}
	c := &Curves{options: options, groups: map[string][]int{}}
	for _, metric := range options.Metrics {
		for _, run := range runs {
			if _, has := run.Metrics[metric]; !has {
				continue
			}
			points, err := store.Curve(ctx, run.ID, metric)
			if err != nil {
				return nil, err
			}
			c.curves = append(c.curves, curve{run: run, metric: metric, points: points})
		}
	}
	if len(c.curves) == 0 {
		return nil, fmt.Errorf("no values of %s to draw; there are %s",
			strings.Join(options.Metrics, " or "), strings.Join(drawnMetrics(runs), ", "))
	}
	return c, c.name(ctx, store)
}

// name gives every curve the name of its series: that of the run, or of the group
// whose mean it is part of.
func (c *Curves) name(ctx context.Context, store *tracking.Store) error {
	keys := make(Columns, len(c.options.GroupBy))
	for i, text := range c.options.GroupBy {
		name, err := store.Name(ctx, text)
		if err != nil {
			return questionError("group", err)
		}
		keys[i] = fieldOf(text, name, c.curves[0].run.Started)
	}
	used := map[string]int{}
	for _, curve := range c.curves {
		used[curve.run.Name+"\x00"+curve.metric]++
	}
	for i, curve := range c.curves {
		name := brief(40)(curve.run.Name)
		if used[curve.run.Name+"\x00"+curve.metric] > 1 {
			name += " " + curve.run.ID[:min(10, len(curve.run.ID))]
		}
		if len(keys) > 0 {
			var values []string
			for _, key := range keys {
				values = append(values, key.Title+" "+key.human(key.value(curve.run)))
			}
			name = strings.Join(values, ", ")
		} else if c.over != "" {
			name = "all runs"
		}
		if len(c.options.Metrics) > 1 {
			name += ": " + curve.metric
		}
		if _, known := c.groups[name]; !known {
			c.names = append(c.names, name)
		}
		c.groups[name] = append(c.groups[name], i)
	}
	return nil
}

// x is a point's place on the axis asked for.
func (c *Curves) x(p tracking.CurvePoint) float64 {
	switch c.options.X {
	case "tokens":
		return float64(p.Tokens)
	case "time":
		return p.Seconds
	}
	return float64(p.Last)
}

var axisLabels = map[string]string{"step": "step", "tokens": "tokens trained on", "time": "seconds of training"}

// Chart is the picture of the curves.
func (c *Curves) Chart() chart.Chart {
	metrics := strings.Join(c.options.Metrics, ", ")
	picture := chart.Chart{
		Title: metrics, XLabel: cmp.Or(axisLabels[c.options.X], c.options.X), YLabel: metrics,
		LogX: c.options.LogX, LogY: c.options.LogY,
	}
	for _, name := range c.names {
		members := c.groups[name]
		if c.over != "" {
			picture.Series = append(picture.Series, chart.Series{Name: name, Points: c.lineOver(members)})
			continue
		}
		var lines [][]chart.Point
		for _, i := range members {
			lines = append(lines, c.line(c.curves[i]))
		}
		points := lines[0]
		if len(lines) > 1 {
			points = meanLine(lines, c.options.LogX)
			name = fmt.Sprintf("%s (mean of %d ± sd)", name, len(lines))
		}
		picture.Series = append(picture.Series, chart.Series{Name: name, Points: points})
	}
	return picture
}

// line is a run's own curve. Where a point stands for many, their extent is a
// band around it; of more than three lines the bands would hide each other.
func (c *Curves) line(of curve) []chart.Point {
	points := make([]chart.Point, len(of.points))
	for i, p := range of.points {
		points[i] = chart.At(c.x(p), p.Value)
	}
	points = chart.Smooth(points, c.options.Smooth)
	if len(c.names) <= 3 {
		for i, p := range of.points {
			points[i].Low, points[i].High = p.Lowest, p.Highest
		}
	}
	return points
}

// meanLine is the mean of lines with their standard deviation around it, where
// all of them have values.
func meanLine(lines [][]chart.Point, log bool) []chart.Point {
	from, to := math.Inf(-1), math.Inf(1)
	var places []float64
	for i, line := range lines {
		line = slices.DeleteFunc(slices.Clone(line), func(p chart.Point) bool { return math.IsNaN(p.Y) || log && p.X <= 0 })
		if len(line) == 0 {
			return nil
		}
		lines[i] = line
		from, to = max(from, line[0].X), min(to, line[len(line)-1].X)
		if i == 0 || len(line) > len(places) {
			places = places[:0]
			for _, p := range line {
				places = append(places, p.X)
			}
		}
	}
	var mean []chart.Point
	for _, x := range places {
		if x < from || x > to {
			continue
		}
		g := group{}
		for _, line := range lines {
			g.add(valueAt(line, x), "", false)
		}
		mean = append(mean, chart.Point{X: x, Y: g.mean, Low: g.mean - g.sd(), High: g.mean + g.sd()})
	}
	return mean
}

// valueAt is a line's value at x, between two points on the straight line
// between them.
func valueAt(line []chart.Point, x float64) float64 {
	i, exact := slices.BinarySearchFunc(line, x, func(p chart.Point, x float64) int {
		switch {
		case p.X < x:
			return -1
		case p.X > x:
			return 1
		}
		return 0
	})
	if exact || i == 0 {
		return line[min(i, len(line)-1)].Y
	}
	if i == len(line) {
		return line[i-1].Y
	}
	a, b := line[i-1], line[i]
	return a.Y + (b.Y-a.Y)*(x-a.X)/(b.X-a.X)
}

// Table lists the points: of long curves what 64 consecutive ones come to.
func (c *Curves) Table() Table {
	t := Table{Columns: []Column{
		{Name: "run", Title: "run"}, {Name: "name", Title: "name", Human: brief(32)}, {Name: "metric", Title: "metric"},
		{Name: "step", Title: "step", Right: true, Human: count}, {Name: "tokens", Title: "tokens", Right: true, Human: count},
		{Name: "seconds", Title: "time", Right: true, Human: span}, {Name: "value", Title: "value", Right: true, Human: significant},
		{Name: "lowest", Title: "lowest", Right: true, Human: significant}, {Name: "highest", Title: "highest", Right: true, Human: significant},
	}}
	for _, curve := range c.curves {
		for _, p := range curve.points {
			t.Rows = append(t.Rows, []any{curve.run.ID, curve.run.Name, curve.metric, p.Last, p.Tokens, p.Seconds, p.Value, p.Lowest, p.Highest})
		}
	}
	return t
}

// Write draws the curves on a terminal, and else lists their points.
func (c *Curves) Write(o Output) error {
	switch o.Format {
	case Aligned:
		picture := c.Chart()
		for i := range picture.Series {
			picture.Series[i].Name = o.legible(picture.Series[i].Name)
		}
		return picture.WriteTerminal(o.W, chart.Terminal{Width: o.Width, Color: o.Color, Unicode: o.Unicode})
	case JSON:
		return writeJSON(o.W, c.Table().objects())
	}
	return o.Render(c.Table())
}

// ranged reports whether x counts something of a run that goes on, and is not a
// setting, of which a run has one value.
func (o CurveOptions) ranged() bool { return slices.Contains(CurveAxes, o.X) }

// CurveAxes are what X may be beside the name of a setting.
var CurveAxes = []string{"step", "tokens", "time"}

// newCurvesOver makes each run a point: its value of the setting X, and what it
// came to. Runs with the same value become their mean.
func newCurvesOver(ctx context.Context, store *tracking.Store, runs []tracking.RunSummary, options CurveOptions) (*Curves, error) {
	name, err := store.Name(ctx, options.X)
	if errors.Is(err, tracking.ErrUnknownName) {
		return nil, fmt.Errorf("x %w: it is %s or a setting; %w", tracking.ErrBadQuestion, strings.Join(CurveAxes, ", "), err)
	}
	if err != nil {
		return nil, err
	}
	if name.Kind != tracking.SettingName {
		return nil, fmt.Errorf("x %w: it is %s or a setting, and %q is none", tracking.ErrBadQuestion, strings.Join(CurveAxes, ", "), options.X)
	}
	c := &Curves{options: options, groups: map[string][]int{}, over: name.Key}
	for _, metric := range options.Metrics {
		for _, run := range runs {
			at, isNumber := toFloat(run.Settings[name.Key])
			m, has := run.Metrics[metric]
			if !isNumber || !has {
				continue
			}
			point := tracking.CurvePoint{Step: m.Step, Last: m.Step, Tokens: run.Tokens, Seconds: run.Seconds,
				Value: m.Last, Lowest: m.Last, Highest: m.Last, Count: 1}
			c.curves = append(c.curves, curve{run, metric, []tracking.CurvePoint{point}, at})
		}
	}
	if len(c.curves) == 0 {
		return nil, fmt.Errorf("no run has both %s and a number for %s", strings.Join(options.Metrics, " or "), options.X)
	}
	return c, c.name(ctx, store)
}

// lineOver is the line through the points of a group of runs, with one standard
// deviation around those that are means.
func (c *Curves) lineOver(members []int) []chart.Point {
	at := map[float64]*group{}
	var places []float64
	for _, i := range members {
		x := c.curves[i].at
		if at[x] == nil {
			at[x] = &group{}
			places = append(places, x)
		}
		at[x].add(c.curves[i].points[0].Value, "", false)
	}
	slices.Sort(places)
	points := make([]chart.Point, len(places))
	for i, x := range places {
		g := at[x]
		points[i] = chart.At(x, g.mean)
		if sd := g.sd(); !math.IsNaN(sd) {
			points[i].Low, points[i].High = g.mean-sd, g.mean+sd
		}
	}
	return points
}
