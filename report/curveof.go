package report

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/report/chart"
	"github.com/koala-lm/koala-lm/tracking"
)

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
