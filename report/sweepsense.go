package report

import (
	"math"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/tracking"
)

// near is up to how much above the best a perplexity is near it.
const near = 1.1

// Sensitivity has a row for each search that varied one number: over which part
// of the values tried val_ppl is near the best, and what it is at each.
func (s *Sweep) Sensitivity() Table {
	t := Table{Columns: []Column{
		{Name: "search", Title: "search"}, {Name: "setting", Title: "setting"},
		{Name: "best", Title: "best", Right: true},
		{Name: "near", Title: "within 10 %"},
		{Name: "factor", Title: "a factor of", Right: true, Human: significant},
		{Name: "tried", Title: "val_ppl at each value", Spare: 5},
	}}
	for _, f := range s.sensitive() {
		from, to := f.near()
		var tried []string
		for _, p := range f.points {
			tried = append(tried, plain(p.values[0])+": "+f.outcome(p))
		}
		t.Rows = append(t.Rows, []any{f.name, f.varied[0], f.best.values[0],
			plain(from) + " to " + plain(to), to / from, strings.Join(tried, ", ")})
	}
	return t
}

// sensitive are the searches that varied one number and nothing else.
func (s *Sweep) sensitive() []*search {
	return slices.DeleteFunc(s.ranked(), func(f *search) bool {
		if len(f.varied) != 1 {
			return true
		}
		_, isNumber := toFloat(f.best.values[0])
		return !isNumber
	})
}

// near are the ends of the values around the best one that come near it.
func (f *search) near() (from, to float64) {
	limit := near * f.result(f.best)
	at := slices.Index(f.points, f.best)
	first, last := at, at
	for first > 0 && f.result(f.points[first-1]) <= limit {
		first--
	}
	for last+1 < len(f.points) && f.result(f.points[last+1]) <= limit {
		last++
	}
	from, _ = toFloat(f.points[first].values[0])
	to, _ = toFloat(f.points[last].values[0])
	return from, to
}

// result is what a point reached with the seeds that all points were trained
// with: those that only the best was repeated with would favour it, or not.
func (f *search) result(p *point) float64 {
	var g group
	for _, run := range p.finished {
		if f.everywhere(run.Settings[seedKey]) {
			g.add(run.Metrics["val_ppl"].Last, run.ID, false)
		}
	}
	return g.orNaN()
}

func (f *search) everywhere(seed any) bool {
	return !slices.ContainsFunc(f.points, func(p *point) bool {
		return len(p.finished) > 0 && !slices.ContainsFunc(p.finished, func(r tracking.RunSummary) bool {
			return plain(r.Settings[seedKey]) == plain(seed)
		})
	})
}

// outcome of a point, in words where it has no number.
func (f *search) outcome(p *point) string {
	if result := f.result(p); !math.IsNaN(result) {
		return significant(result)
	}
	if p.failed > 0 {
		return "failed"
	}
	return "-"
}
