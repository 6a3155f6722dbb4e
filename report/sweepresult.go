package report

import (
	"math"
	"slices"
)

// Results has a row for each search: its best point, what that reached with all
// seeds after equally many tokens and after equal time, and what a step costs.
func (s *Sweep) Results() Table {
	t := Table{Columns: []Column{{Name: "search", Title: "search"}}}
	for _, key := range s.keys {
		t.Columns = append(t.Columns, Column{Name: key, Title: key, Right: true})
	}
	number := func(name, title string, spare int) Column {
		return Column{Name: name, Title: title, Right: true, Human: significant, Spare: spare}
	}
	t.Columns = append(t.Columns, Column{Name: "n", Title: "seeds", Right: true},
		number("val_ppl", "val_ppl", 0), number("val_ppl_sd", "± sd", 2), number("test_ppl", "test_ppl", 0), number("test_ppl_sd", "± sd", 2),
		number("val_ppl_equal_time", "at equal time", 1), number("step_ms", "ms a step", 3), number("optimizer_ms", "of it the optimizer", 4))
	for _, f := range s.ranked() {
		row := []any{f.name}
		for _, key := range s.keys {
			row = append(row, f.value(key))
		}
		val, test := f.best.over("val_ppl"), f.best.over("test_ppl")
		row = append(row, int64(val.n), val.mean, val.sd(), test.orNaN(), test.sd(), f.after(s.budget), f.cost.step(), f.cost.optimizer)
		t.Rows = append(t.Rows, row)
	}
	return t
}

// orNaN is the mean, of nothing NaN.
func (g group) orNaN() float64 {
	if g.n == 0 {
		return math.NaN()
	}
	return g.mean
}

// ranked are the searches that found something, the best first.
func (s *Sweep) ranked() []*search {
	ranked := slices.DeleteFunc(slices.Clone(s.searches), func(f *search) bool { return f.best == nil })
	slices.SortStableFunc(ranked, func(a, b *search) int {
		return compareValues(a.best.over("val_ppl").mean, b.best.over("val_ppl").mean)
	})
	return ranked
}

// value of a setting at the best point.
func (f *search) value(key string) any {
	if i := slices.Index(f.varied, key); i >= 0 {
		return f.best.values[i]
	}
	return f.best.finished[0].Settings[key]
}
