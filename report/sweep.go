package report

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/report/chart"
	"github.com/koala-lm/koala-lm/sweep"
	"github.com/koala-lm/koala-lm/tracking"
)

// Sweep is what the searches of a sweep found.
type Sweep struct {
	Name     string
	runs     []tracking.RunSummary
	keys     []string // settings that searches varied, beside the seed
	searches []*search
	budget   float64 // seconds that the cheapest search's best point takes
}

// search is one of a sweep's searches; a sweep without any is itself one.
type search struct {
	name   string
	varied []string // settings, beside the seed
	points []*point
	best   *point // of those trained with the most seeds the lowest in mean
	cost   cost
	curve  []chart.Point // val_ppl of best by step, over its seeds
}

// point are the runs of a search that differ in the seed alone.
type point struct {
	values   []any // of the varied settings
	finished []tracking.RunSummary
	failed   int
	lowest   group // val_ppl at its best
}

const seedKey = "train.seed"

// NewSweep reads the runs of the sweep of that name.
func NewSweep(ctx context.Context, store *tracking.Store, name string) (*Sweep, error) {
	if strings.ContainsAny(name, `'\`) {
		return nil, fmt.Errorf("no run belongs to a sweep %q", name)
	}
	runs, err := store.Runs(ctx, tracking.Query{Where: fmt.Sprintf("'%s%s' in tags", sweep.NameTag, name), Sort: "started"})
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("no run belongs to a sweep %q", name)
	}
	if MixedDatasets(runs) != "" {
		return nil, fmt.Errorf("sweep %s has runs on different datasets: give each dataset's sweep a name of its own", name)
	}
	s := &Sweep{Name: name, runs: runs}
	s.divide()
	if err := s.readCosts(ctx, store); err != nil {
		return nil, err
	}
	return s, s.readCurves(ctx, store)
}

// divide puts the runs into their searches and these into points.
func (s *Sweep) divide() {
	members := map[string][]tracking.RunSummary{}
	var names []string
	for _, run := range s.runs {
		name := tagValue(run, sweep.SearchTag)
		if members[name] == nil {
			names = append(names, name)
		}
		members[name] = append(members[name], run)
	}
	for _, name := range names {
		f := &search{name: cmp.Or(name, s.Name), varied: varied(members[name])}
		f.divide(members[name])
		s.searches = append(s.searches, f)
		for _, key := range f.varied {
			if !slices.Contains(s.keys, key) {
				s.keys = append(s.keys, key)
			}
		}
	}
}

// tagValue returns the rest of the run's first tag with this prefix.
func tagValue(run tracking.RunSummary, prefix string) string {
	for _, tag := range run.Tags {
		if value, ok := strings.CutPrefix(tag, prefix); ok {
			return value
		}
	}
	return ""
}

// varied are the settings in which runs differ, leaving the seed aside.
func varied(runs []tracking.RunSummary) []string {
	var keys []string
	for key, first := range runs[0].Settings {
		differs := func(r tracking.RunSummary) bool { return plain(r.Settings[key]) != plain(first) }
		if key != seedKey && slices.ContainsFunc(runs, differs) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (f *search) divide(runs []tracking.RunSummary) {
	index := map[string]*point{}
	for _, run := range runs {
		var values []any
		for _, key := range f.varied {
			values = append(values, run.Settings[key])
		}
		text := fmt.Sprint(values)
		p := index[text]
		if p == nil {
			p = &point{values: values}
			index[text] = p
			f.points = append(f.points, p)
		}
		switch run.Status {
		case tracking.Finished:
			p.finished = append(p.finished, run)
			if ppl, ok := run.Metrics["val_ppl"]; ok {
				p.lowest.add(ppl.Best, run.ID, false)
			}
		case tracking.Failed:
			p.failed++
		}
	}
	slices.SortStableFunc(f.points, func(a, b *point) int { return slices.CompareFunc(a.values, b.values, compareValues) })
	for _, p := range f.points {
		if p.better(f.best) {
			f.best = p
		}
	}
}

// better is for choosing: a mean over more seeds is a choice that was made and
// then tried again.
func (p *point) better(than *point) bool {
	switch {
	case p.lowest.n == 0 || math.IsNaN(p.lowest.mean):
		return false
	case than == nil:
		return true
	case p.lowest.n != than.lowest.n:
		return p.lowest.n > than.lowest.n
	}
	return p.lowest.mean < than.lowest.mean
}

func compareValues(a, b any) int {
	x, isNumber := toFloat(a)
	y, both := toFloat(b)
	if isNumber && both {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(plain(a), plain(b))
}

// over gathers a metric's last value over the point's seeds.
func (p *point) over(metric string) group {
	var g group
	for _, run := range p.finished {
		if m, ok := run.Metrics[metric]; ok {
			g.add(m.Last, run.ID, false)
		}
	}
	return g
}

// cost is what a step takes, in milliseconds.
type cost struct {
	model     float64 // forward, loss and backward
	optimizer float64
}

func (c cost) step() float64 { return c.model + c.optimizer }

// readCosts takes medians of what was logged, for means suffer from whatever else
// a machine did: of the optimizer's share over the runs of a search, of the rest
// over all runs that do the same there, whatever their optimizer.
func (s *Sweep) readCosts(ctx context.Context, store *tracking.Store) error {
	model := map[string][]float64{}
	for _, f := range s.searches {
		var optimizer []float64
		for _, p := range f.points {
			for _, run := range p.finished {
				logged, err := readPhases(ctx, store, run.ID)
				if err != nil {
					return err
				}
				kind := workOf(run)
				model[kind] = append(model[kind], logged.model...)
				optimizer = append(optimizer, logged.optimizer...)
			}
		}
		f.cost.optimizer = median(optimizer)
	}
	s.budget = math.NaN()
	for _, f := range s.searches {
		if f.best == nil {
			continue
		}
		f.cost.model = median(model[workOf(f.best.finished[0])])
		if seconds := f.seconds(float64(f.steps())); !(seconds >= s.budget) {
			s.budget = seconds
		}
	}
	return nil
}

// steps that the best point's runs took.
func (f *search) steps() int64 { return f.best.finished[0].Steps }

// seconds that so many steps take.
func (f *search) seconds(steps float64) float64 { return steps * f.cost.step() / 1000 }

// workOf is all on which the time of a step but the optimizer's depends.
func workOf(run tracking.RunSummary) string {
	var b strings.Builder
	for _, key := range []string{"train.batch", "train.bptt", "train.accumulate", "train.precision"} {
		fmt.Fprintf(&b, "%s ", plain(run.Settings[key]))
	}
	var model []string
	for key, value := range run.Settings {
		if strings.HasPrefix(key, "model.") {
			model = append(model, key+"="+plain(value))
		}
	}
	slices.Sort(model)
	return fmt.Sprint(b.String(), model, run.Host, run.Device, run.Threads)
}

// phases are the logged times of a run's steps.
type phases struct{ model, optimizer []float64 }

func readPhases(ctx context.Context, store *tracking.Store, id string) (phases, error) {
	var read phases
	sums := map[int64]float64{}
	for _, metric := range []string{"forward_ms", "loss_ms", "backward_ms"} {
		err := store.Points(ctx, id, metric, func(l tracking.Logged) error {
			sums[l.Step] += l.Value
			return nil
		})
		if err != nil {
			return read, err
		}
	}
	for _, sum := range sums {
		read.model = append(read.model, sum)
	}
	err := store.Points(ctx, id, "optimizer_ms", func(l tracking.Logged) error {
		read.optimizer = append(read.optimizer, l.Value)
		return nil
	})
	return read, err
}

// median is NaN of nothing.
func median(values []float64) float64 {
	values = slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	half := len(values) / 2
	if len(values)%2 == 1 {
		return values[half]
	}
	return (values[half-1] + values[half]) / 2
}
