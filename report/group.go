package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/koala-lm/koala-lm/tracking"
)

// group aggregates the results of runs that differ only in the seed, or in values
// that the user did not group by. Its mean is over the runs with a result; the
// others are counted by outcome.
type group struct {
	n        int
	mean, m2 float64 // m2: sum of squared distances from the mean
	best     float64
	id       string // of the best run
	last     float64

	diverged, failed, missing int
}

// add adds a value by Welford's update.
func (g *group) add(value float64, id string, highest bool) {
	g.n++
	delta := value - g.mean
	g.mean += delta / float64(g.n)
	g.m2 += delta * (value - g.mean)
	if g.n == 1 || highest && value > g.best || !highest && value < g.best {
		g.best, g.id = value, id
	}
}

// addResult adds a run's result, or counts why it has none.
func (g *group) addResult(r tracking.Result, id string, highest bool) {
	switch r.Outcome {
	case tracking.Reached:
		g.add(r.Best, id, highest)
		g.last += (r.Last - g.last) / float64(g.n)
	case tracking.Diverged:
		g.diverged++
	case tracking.Broken:
		g.failed++
	default:
		g.missing++
	}
}

// runs is the number of all runs of the group.
func (g group) runs() int { return g.n + g.lost() }

// lost is the number of runs without a result.
func (g group) lost() int { return g.diverged + g.failed + g.missing }

// value returns the mean, or nil where no run has a result.
func (g group) value() any {
	if g.n == 0 {
		return nil
	}
	return g.mean
}

// lastMean returns the mean of the last values, or nil where no run has a result.
func (g group) lastMean() any {
	if g.n == 0 {
		return nil
	}
	return g.last
}

// sd returns the sample's standard deviation; NaN for fewer than two runs.
func (g group) sd() float64 {
	if g.n < 2 {
		return math.NaN()
	}
	return math.Sqrt(g.m2 / float64(g.n-1))
}

// spread is sd for a table: nil where there is none.
func (g group) spread() any {
	if g.n < 2 {
		return nil
	}
	return g.sd()
}

// losses names the runs without a result: "1 diverged, 2 failed", or "".
func (g group) losses() string {
	var parts []string
	for _, c := range []struct {
		n    int
		what string
	}{{g.diverged, "diverged"}, {g.failed, "failed"}, {g.missing, "missing"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return strings.Join(parts, ", ")
}

// before orders groups by their means. A group that lost a run by divergence or
// failure comes after every group that lost none: its mean is over the lucky seeds.
func (g *group) before(other *group, highest bool) bool {
	unreliable := func(g *group) int {
		switch {
		case g.n == 0:
			return 2
		case g.diverged+g.failed > 0:
			return 1
		}
		return 0
	}
	if a, b := unreliable(g), unreliable(other); a != b {
		return a < b
	}
	if highest {
		return g.mean > other.mean
	}
	return g.mean < other.mean
}

// countColumns are the columns that say how many runs a group has and lost.
func countColumns() []Column {
	return []Column{
		{Name: "n", Title: "n", Right: true},
		{Name: "diverged", Title: "diverged", Right: true, Zero: true},
		{Name: "failed", Title: "failed", Right: true, Zero: true},
		{Name: "missing", Title: "missing", Right: true, Zero: true},
	}
}

func (g group) counts() []any {
	return []any{int64(g.n), int64(g.diverged), int64(g.failed), int64(g.missing)}
}
