package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/report/chart"
	"github.com/koala-lm/koala-lm/tracking"
)

// CurveOptions choose what to draw.
type CurveOptions struct {
	Metrics []string
	X       string // step, tokens or time, or the name of a setting
	LogX    bool
	LogY    bool
	Smooth  float64  // weight of the past in a moving average, 0 to below 1
	GroupBy []string // names; runs that share their values become their mean with a band
}

// Curves holds metrics of runs over their steps, tokens, time or a setting.
type Curves struct {
	options CurveOptions
	curves  []curve
	groups  map[string][]int // name of a series -> its curves
	names   []string         // of the series, in order
	over    string           // the setting on the x axis, or ""
}

// curve is one metric of one run.
type curve struct {
	run    tracking.RunSummary
	metric string
	points []tracking.CurvePoint
	result tracking.Result
	at     float64 // the run's value of the setting on the x axis
}

// NewCurves reads the curves of runs.
func NewCurves(ctx context.Context, store *tracking.Store, runs []tracking.RunSummary, options CurveOptions) (*Curves, error) {
	options.Metrics = slices.Clone(options.Metrics)
	for i, asked := range options.Metrics {
		name, err := metricNamed(ctx, store, asked)
		if err != nil {
			return nil, questionError("metric", err)
		}
		options.Metrics[i] = name
	}
	if options.X != "" && !options.ranged() {
		return newCurvesOver(ctx, store, runs, options)
	}
	c := &Curves{options: options, groups: map[string][]int{}}
	for _, metric := range options.Metrics {
		for _, run := range runs {
			_, has := run.Metrics[metric]
			if !has && len(options.GroupBy) == 0 {
				continue // its group counts it
			}
			var points []tracking.CurvePoint
			if has {
				var err error
				if points, err = store.Curve(ctx, run.ID, metric, tracking.FineCurve); err != nil {
					return nil, err
				}
			}
			c.curves = append(c.curves, curve{run: run, metric: metric, points: points, result: run.Result(metric)})
		}
	}
	if !slices.ContainsFunc(c.curves, func(c curve) bool { return len(c.points) > 0 }) {
		others := ""
		if names := drawnMetrics(runs); len(names) > 0 {
			others = "; they have " + strings.Join(names, ", ")
		}
		return nil, fmt.Errorf("these runs have no values of %s to draw%s", strings.Join(options.Metrics, " or "), others)
	}
	return c, c.name(ctx, store)
}

// metricNamed returns the metric's name in the store. The filter's numbers also have
// short names.
func metricNamed(ctx context.Context, store *tracking.Store, asked string) (string, error) {
	_, err := store.Name(ctx, "metrics."+asked)
	if errors.Is(err, tracking.ErrUnknownName) {
		for _, name := range metric.Koala {
			if asked == metric.Short(name) {
				_, err := store.Name(ctx, "metrics."+name)
				return name, err
			}
		}
	}
	return asked, err
}

// name gives every curve the name of its series: its run, or its group.
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

// x is a point's coordinate on the x axis.
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

// Chart draws the curves. A group's mean leaves out the runs that diverged or
// failed, and its name counts them.
func (c *Curves) Chart() chart.Chart {
	metrics := strings.Join(c.options.Metrics, ", ")
	picture := chart.Chart{
		Title: metrics, XLabel: cmp.Or(axisLabels[c.options.X], c.options.X), YLabel: metrics,
		LogX: c.options.LogX, LogY: c.options.LogY,
	}
	for _, name := range c.names {
		members := c.groups[name]
		if c.over != "" {
			var all group
			for _, i := range members {
				all.addResult(c.curves[i].result, "", false)
			}
			if all.lost() > 0 {
				name += " (" + all.losses() + ")"
			}
			picture.Series = append(picture.Series, chart.Series{Name: name, Points: c.lineOver(members)})
			continue
		}
		name, points := c.series(name, members)
		picture.Series = append(picture.Series, chart.Series{Name: name, Points: points})
	}
	return picture
}

// series is the line of a run, or the mean of a group of runs.
func (c *Curves) series(name string, members []int) (string, []chart.Point) {
	if len(members) == 1 && len(c.options.GroupBy) == 0 {
		return name, c.line(c.curves[members[0]])
	}
	var lines [][]chart.Point
	var lost group
	for _, i := range members {
		if c.curves[i].result.Outcome == tracking.Reached {
			lines = append(lines, c.line(c.curves[i]))
		} else {
			lost.addResult(c.curves[i].result, "", false)
		}
	}
	notes := []string{}
	var points []chart.Point
	switch {
	case len(lines) > 1:
		points = meanLine(lines, c.options.LogX)
		notes = append(notes, fmt.Sprintf("mean of %d ± sd", len(lines)))
	case len(lines) == 1:
		points = lines[0]
	}
	if lost.lost() > 0 {
		notes = append(notes, lost.losses())
	}
	if len(notes) > 0 {
		name = fmt.Sprintf("%s (%s)", name, strings.Join(notes, ", "))
	}
	return name, points
}

// line is the curve of one run. The band shows the range of the values that a point
// aggregates or that smoothing hides: no spike disappears.
func (c *Curves) line(of curve) []chart.Point {
	points := make([]chart.Point, len(of.points))
	for i, p := range of.points {
		points[i] = chart.At(c.x(p), p.Value)
	}
	points = chart.Smooth(points, c.options.Smooth)
	for i, p := range of.points {
		points[i].Low, points[i].High = p.Lowest, p.Highest
	}
	return points
}

// meanLine returns the mean of lines and their standard deviation, over the range of
// x in which all of them have values.
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

// valueAt interpolates a line linearly at x.
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

// Table lists the points. Of a long curve, a row aggregates 64 consecutive points:
// value is their mean, lowest and highest their range.
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

// lines lists the points as they are drawn: means of groups, and smoothed.
func (c *Curves) lines() Table {
	t := Table{Columns: []Column{
		{Name: "series", Title: "series"}, {Name: "x", Title: cmp.Or(c.options.X, "step"), Right: true},
		{Name: "value", Title: "value", Right: true, Human: significant},
		{Name: "low", Title: "low", Right: true, Human: significant}, {Name: "high", Title: "high", Right: true, Human: significant},
	}}
	for _, series := range c.Chart().Series {
		for _, p := range series.Points {
			t.Rows = append(t.Rows, []any{series.Name, p.X, p.Y, p.Low, p.High})
		}
		if len(series.Points) == 0 { // its name says why
			t.Rows = append(t.Rows, []any{series.Name, nil, nil, nil, nil})
		}
	}
	return t
}

// listing is the table of points: as they were logged, or as they are drawn where the
// user asked for groups, smoothing or a setting as x.
func (c *Curves) listing() Table {
	if len(c.options.GroupBy) > 0 || c.options.Smooth > 0 || c.over != "" {
		return c.lines()
	}
	return c.Table()
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
		return writeJSON(o.W, c.listing().objects())
	}
	return o.Render(c.listing())
}

// ranged reports whether x grows during a run, unlike a setting.
func (o CurveOptions) ranged() bool { return slices.Contains(CurveAxes, o.X) }

// CurveAxes are the values of X beside the names of settings.
var CurveAxes = []string{"step", "tokens", "time"}

// newCurvesOver makes each run a point: its value of the setting X, and its result.
// Runs with the same value become their mean.
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
			if !isNumber || !has && len(options.GroupBy) == 0 {
				continue
			}
			r := run.Result(metric)
			point := tracking.CurvePoint{Step: m.BestStep, Last: m.BestStep, Tokens: run.Tokens, Seconds: run.Seconds,
				Value: r.Best, Lowest: r.Best, Highest: r.Best, Count: 1}
			c.curves = append(c.curves, curve{run, metric, []tracking.CurvePoint{point}, r, at})
		}
	}
	if !slices.ContainsFunc(c.curves, func(c curve) bool { _, has := c.run.Metrics[c.metric]; return has }) {
		return nil, fmt.Errorf("no run has both %s and a number for %s", strings.Join(options.Metrics, " or "), options.X)
	}
	return c, c.name(ctx, store)
}

// lineOver is the line through the mean results of a group of runs, with their
// standard deviation. A place without any result has a NaN, which charts mark.
func (c *Curves) lineOver(members []int) []chart.Point {
	at := map[float64]*group{}
	var places []float64
	for _, i := range members {
		x := c.curves[i].at
		if at[x] == nil {
			at[x] = &group{}
			places = append(places, x)
		}
		at[x].addResult(c.curves[i].result, "", false)
	}
	slices.Sort(places)
	points := make([]chart.Point, len(places))
	for i, x := range places {
		g := at[x]
		points[i] = chart.At(x, orNaN(g.value()))
		if sd := g.sd(); !math.IsNaN(sd) {
			points[i].Low, points[i].High = g.mean-sd, g.mean+sd
		}
	}
	return points
}
