package report

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/report/chart"
	"github.com/koala-lm/koala-lm/tracking"
)

// readCurves reads val_ppl over the steps of each search's best runs.
func (s *Sweep) readCurves(ctx context.Context, store *tracking.Store) error {
	for _, f := range s.searches {
		if f.best == nil {
			continue
		}
		var lines, soFar [][]chart.Point
		for _, run := range f.best.finished {
			points, err := store.Curve(ctx, run.ID, metric.ValidPPL, tracking.FineCurve)
			if err != nil {
				return err
			}
			line := make([]chart.Point, len(points))
			for i, p := range points {
				line[i] = chart.At(float64(p.Last), p.Value)
			}
			lines, soFar = append(lines, line), append(soFar, runningBest(line))
		}
		f.curve, f.soFar = meanLine(lines, false), meanLine(soFar, false)
		for i := range f.curve { // one seed has no spread
			if p := &f.curve[i]; math.IsNaN(p.Low) {
				p.Low, p.High = p.Y, p.Y
			}
		}
	}
	return nil
}

// runningBest replaces each value by the lowest one up to it.
func runningBest(line []chart.Point) []chart.Point {
	best := make([]chart.Point, 0, len(line))
	lowest := math.Inf(1)
	for _, p := range line {
		if p.Y < lowest {
			lowest = p.Y
		}
		if !math.IsInf(lowest, 1) {
			best = append(best, chart.At(p.X, lowest))
		}
	}
	return best
}

// after returns the mean result after a number of seconds of steps, interpolated
// between evaluations.
func (f *search) after(seconds float64) float64 {
	if len(f.soFar) == 0 {
		return math.NaN()
	}
	return valueAt(f.soFar, seconds/f.seconds(1))
}

// reaches returns the number of steps after which the mean result is at most a goal,
// interpolated between evaluations; NaN if it never is.
func (f *search) reaches(goal float64) float64 {
	for i, b := range f.soFar {
		switch {
		case !(b.Y <= goal):
			continue
		case i == 0 || b.Y == goal:
			return b.X
		}
		a := f.soFar[i-1]
		return a.X + (b.X-a.X)*(a.Y-goal)/(a.Y-b.Y)
	}
	return math.NaN()
}

// SweepChart is one picture of a sweep.
type SweepChart struct {
	Name    string // of a file, without its extension
	Caption string
	chart.Chart
}

// A picture ends at shown times the lowest perplexity: a value that diverged would
// flatten the rest.
const shown = 10

// byName sorts searches by name, so that similar sweeps get the same colours.
func byName(searches []*search) []*search {
	slices.SortStableFunc(searches, func(a, b *search) int { return strings.Compare(a.name, b.name) })
	return searches
}

// Charts returns the val_ppl of the searches' best points by tokens and by time, and
// the results of each search's other points.
func (s *Sweep) Charts() []SweepChart {
	tokens := chart.Chart{Title: s.Name + ": val_ppl by tokens", XLabel: "tokens trained on", YLabel: metric.ValidPPL, LogY: true}
	time := chart.Chart{Title: s.Name + ": val_ppl by time", XLabel: "seconds: steps × the median cost of a step", YLabel: metric.ValidPPL, LogY: true}
	for _, f := range byName(s.ranked()) {
		perStep := float64(f.best.finished[0].Tokens) / float64(f.steps())
		tokens.Series = append(tokens.Series, chart.Series{Name: f.name, Points: stretched(f.curve, perStep)})
		time.Series = append(time.Series, chart.Series{Name: f.name, Points: stretched(f.curve, f.seconds(1))})
	}
	charts := []SweepChart{
		{Name: s.Name + "-tokens", Caption: "The best of each search: mean over its seeds, and one standard deviation around it", Chart: tokens},
		{Name: s.Name + "-time", Caption: "The same by time", Chart: time},
	}
	sense := chart.Chart{Title: s.Name + ": val_ppl by the distance from the best value", XLabel: "value / best value", YLabel: metric.ValidPPL, LogX: true, LogY: true}
	sensitive := s.sensitive()
	ceiling := math.Inf(1)
	for _, f := range sensitive {
		ceiling = min(ceiling, shown*f.result(f.best))
	}
	for _, f := range byName(sensitive) {
		line := chart.Series{Name: fmt.Sprintf("%s (best %s %s)", f.name, f.varied[0], plain(f.best.values[0]))}
		best, _ := toFloat(f.best.values[0])
		for _, p := range f.points {
			if value, _ := toFloat(p.values[0]); value > 0 && best > 0 {
				line.Points = append(line.Points, chart.At(value/best, min(ceiling, f.result(p))))
			}
		}
		sense.Series = append(sense.Series, line)
	}
	if len(sense.Series) > 0 {
		charts = append(charts, SweepChart{Name: s.Name + "-sensitivity", Caption: fmt.Sprintf("Every value that was tried; what is %d times the lowest or more is at the top", shown), Chart: sense})
	}
	return charts
}

// stretched returns the line with x in another unit.
func stretched(line []chart.Point, by float64) []chart.Point {
	points := make([]chart.Point, len(line))
	for i, p := range line {
		p.X *= by
		points[i] = p
	}
	return points
}
