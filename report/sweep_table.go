package report

import (
	"cmp"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/internal/visible"
	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/tracking"
)

// Results has a row for each search: its best point, the mean result of that point's
// seeds after equally many tokens and after equal time, and the cost of a step.
func (s *Sweep) Results() Table {
	t := Table{Columns: []Column{{Name: "search", Title: "search"}}}
	for _, key := range s.keys {
		t.Columns = append(t.Columns, Column{Name: key, Title: key, Right: true})
	}
	number := func(name, title string, spare int) Column {
		return Column{Name: name, Title: title, Right: true, Human: significant, Spare: spare}
	}
	t.Columns = append(t.Columns, Column{Name: "n", Title: "seeds", Right: true},
		Column{Name: "diverged", Title: "diverged", Right: true, Zero: true}, Column{Name: "failed", Title: "failed", Right: true, Zero: true},
		Column{Name: "missing", Title: "missing", Right: true, Zero: true},
		number("best.val_loss", "best val_loss", 6), number("best.val_loss_sd", "± sd", 7),
		number("best.val_ppl", "best val_ppl", 0), number("best.val_ppl_sd", "± sd", 2), number("best.test_ppl", "best test_ppl", 0), number("best.test_ppl_sd", "± sd", 2))
	if s.Last {
		t.Columns = append(t.Columns, number(metric.ValidPPL, "last val_ppl", 0), number(metric.TestPPL, "last test_ppl", 0))
	}
	averaged := slices.ContainsFunc(s.ranked(), func(f *search) bool { return f.best.over(rawLoss).n > 0 })
	if averaged {
		t.Columns = append(t.Columns, number("best."+rawLoss, "best val_loss without the average", 7))
	}
	t.Columns = append(t.Columns, number("best.val_ppl_equal_time", "at equal time", 1))
	goal := math.NaN()
	if s.Reach != "" {
		goal = s.best(s.Reach).over(metric.ValidPPL).mean
		t.Columns = append(t.Columns, number("reach_steps", "steps to "+s.Reach, 6), number("reach_s", "s to "+s.Reach, 5))
	}
	t.Columns = append(t.Columns, number("step_ms", "ms a step", 3), number("optimizer_ms", "of it the optimizer", 4))
	for _, f := range s.ranked() {
		row := []any{f.name}
		for _, key := range s.keys {
			row = append(row, f.value(key))
		}
		val, test, loss := f.best.over(metric.ValidPPL), f.best.over(metric.TestPPL), f.best.over(metric.ValidLoss)
		row = append(row, int64(val.n), int64(f.best.result.diverged), int64(f.best.result.failed), int64(f.best.result.runs()-val.n-f.best.result.diverged-f.best.result.failed),
			loss.value(), loss.spread(), val.value(), val.spread(), test.value(), test.spread())
		if s.Last {
			row = append(row, val.lastMean(), test.lastMean())
		}
		if averaged {
			row = append(row, f.best.over(rawLoss).value())
		}
		row = append(row, orNil(f.after(s.budget)))
		if s.Reach != "" {
			steps := f.reaches(goal)
			row = append(row, orNil(math.Round(steps)), orNil(f.seconds(steps)))
		}
		row = append(row, orNil(f.cost.step()), orNil(f.cost.optimizer))
		t.Rows = append(t.Rows, row)
	}
	return t
}

const rawLoss = metric.Raw + metric.ValidLoss

// best returns the best point of the searches whose names start with prefix.
func (s *Sweep) best(prefix string) *point {
	for _, f := range s.ranked() {
		if strings.HasPrefix(f.name, prefix) {
			return f.best
		}
	}
	return &point{}
}

// CheckReach returns an error if Reach names no search with a result.
func (s *Sweep) CheckReach() error {
	if s.Reach == "" || len(s.best(s.Reach).finished) > 0 {
		return nil
	}
	var names []string
	for _, f := range s.ranked() {
		names = append(names, f.name)
	}
	return fmt.Errorf("no search of sweep %s with a result has a name that starts with %q: they are %s", s.Name, s.Reach, strings.Join(names, ", "))
}

// orNil turns NaN, here a value that cannot be computed, into a missing one.
func orNil(v float64) any {
	if math.IsNaN(v) {
		return nil
	}
	return v
}

// ranked returns the searches that have a result, the best first.
func (s *Sweep) ranked() []*search {
	ranked := slices.DeleteFunc(slices.Clone(s.searches), func(f *search) bool { return f.best == nil })
	slices.SortStableFunc(ranked, func(a, b *search) int {
		return cmp.Compare(a.best.over(metric.ValidPPL).mean, b.best.over(metric.ValidPPL).mean)
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

// A loss up to near times the best one, in nats, is near the best.
const near = 1.03

// Sensitivity has a row for each search that varied one number: the range of values
// with a result near the best, and the result at each value.
func (s *Sweep) Sensitivity() Table {
	t := Table{Columns: []Column{
		{Name: "search", Title: "search"}, {Name: "setting", Title: "setting"},
		{Name: "best", Title: "best", Right: true},
		{Name: "near", Title: "loss within 3 %"},
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

// sensitive returns the searches that varied one number and nothing else.
func (s *Sweep) sensitive() []*search {
	return slices.DeleteFunc(s.ranked(), func(f *search) bool {
		if len(f.varied) != 1 {
			return true
		}
		_, isNumber := toFloat(f.best.values[0])
		return !isNumber
	})
}

// near returns the range of values around the best one whose results are near it.
func (f *search) near() (from, to float64) {
	limit := math.Pow(f.result(f.best), near)
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

// result returns the mean result of a point over the seeds that all points share:
// the further seeds of the best point would bias the comparison. It returns NaN
// without a result.
func (f *search) result(p *point) float64 {
	var g group
	for _, run := range p.finished {
		if f.everywhere(run.Settings[seedKey]) {
			g.addResult(run.Result(metric.ValidPPL), run.ID, false)
		}
	}
	return orNaN(g.value())
}

func (f *search) everywhere(seed any) bool {
	return !slices.ContainsFunc(f.points, func(p *point) bool {
		return len(p.finished) > 0 && !slices.ContainsFunc(p.finished, func(r tracking.RunSummary) bool {
			return plain(r.Settings[seedKey]) == plain(seed)
		})
	})
}

// outcome writes a point's result and its seeds without a result.
func (f *search) outcome(p *point) string {
	result := f.result(p)
	if p.partial == p.result.runs() {
		return "unfinished" // stopped early, or still training
	}
	if p.result.runs() == 1 && math.IsNaN(result) {
		return strings.TrimPrefix(p.result.losses(), "1 ")
	}
	if math.IsNaN(result) {
		return cmp.Or(p.result.losses(), "-")
	}
	if p.result.diverged+p.result.failed > 0 {
		return significant(result) + " (" + p.result.losses() + ")"
	}
	return significant(result)
}

// Write writes the results. In Markdown they are a section of a page, with the
// pictures that Charts draws into the folder plots; "" means no pictures.
func (s *Sweep) Write(o Output, plots string) error {
	results, sensitivity := s.Results(), s.Sensitivity()
	switch o.Format {
	case JSON:
		return writeJSON(o.W, map[string]any{"results": results.objects(), "sensitivity": sensitivity.objects()})
	case CSV, Separated:
		return o.Render(results)
	case Markdown:
		return s.writePage(o, plots)
	}
	if _, err := fmt.Fprintln(o.W, o.legible(s.summary())); err != nil {
		return err
	}
	if len(sensitivity.Rows) == 0 {
		return o.Render(results)
	}
	return o.Render(results, sensitivity)
}

func (s *Sweep) writePage(o Output, plots string) error {
	charts := map[string]SweepChart{}
	for _, c := range s.Charts() {
		charts[strings.TrimPrefix(c.Name, s.Name+"-")] = c
	}
	write := func(format string, args ...any) error {
		_, err := fmt.Fprintf(o.W, format, args...)
		return err
	}
	show := func(name string) error {
		c, drawn := charts[name]
		if !drawn || plots == "" {
			return nil
		}
		return write("\n![%s](%s)\n", c.Caption, path.Join(plots, c.Name+".svg"))
	}
	if err := write("## %s\n\n%s\n\n", s.Name, notHTML.Replace(visible.Text(s.summary()))); err != nil {
		return err
	}
	if err := o.Render(s.Results()); err != nil {
		return err
	}
	for _, name := range []string{"tokens", "time"} {
		if err := show(name); err != nil {
			return err
		}
	}
	sensitivity := s.Sensitivity()
	if len(sensitivity.Rows) == 0 {
		return nil
	}
	if err := write("\n"); err != nil {
		return err
	}
	if err := o.Render(sensitivity); err != nil {
		return err
	}
	return show("sensitivity")
}

// summary describes the runs, their dataset and their machine.
func (s *Sweep) summary() string {
	count := map[tracking.Status]int{}
	for _, run := range s.runs {
		count[run.Status]++
	}
	var states []string
	for _, status := range []tracking.Status{tracking.Finished, tracking.Failed, tracking.Running, tracking.Interrupted, tracking.Crashed} {
		if count[status] > 0 {
			states = append(states, fmt.Sprintf("%d %s", count[status], status))
		}
	}
	r := s.runs[0]
	text := fmt.Sprintf("%d runs (%s) on %s, fingerprint %s; %s, threads: %d, %s.",
		len(s.runs), strings.Join(states, ", "), r.Dataset, shorten("", r.DatasetFingerprint), r.Device, r.Threads, r.CPU)
	if !math.IsNaN(s.budget) {
		text += fmt.Sprintf(" Equal time is %s of steps at their median cost.", span(s.budget))
	}
	return text
}
