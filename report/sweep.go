package report

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/report/chart"
	"github.com/koala-lm/koala-lm/sweep"
	"github.com/koala-lm/koala-lm/tracking"
)

// Sweep holds the results of a sweep's searches.
type Sweep struct {
	Name     string
	Last     bool   // show the last values beside the best
	Reach    string // prefix of searches: show how soon others have the best result of these
	runs     []tracking.RunSummary
	keys     []string // settings that searches varied, beside the seed
	searches []*search
	budget   float64 // seconds of the cheapest best point: "equal time"
}

// search is one of a sweep's searches. A sweep without searches is one itself.
type search struct {
	name   string
	varied []string // settings, beside the seed
	points []*point
	best   *point // see better
	cost   cost
	curve  []chart.Point // mean val_ppl of best by step
	soFar  []chart.Point // mean of the best val_ppl up to each step
}

// point holds the runs of a search that differ only in the seed.
type point struct {
	values   []any                 // of the varied settings
	finished []tracking.RunSummary // with a result
	result   group                 // of val_ppl
	partial  int                   // runs with a result that did not train to their end
}

const seedKey = "train.seed"

// NewSweep reads the runs of the sweep of that name. With a file, it reads only the
// runs of trials that the file asks for: an edited sweep has others too.
func NewSweep(ctx context.Context, store *tracking.Store, name string, file *sweep.File) (*Sweep, error) {
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
	runs = newestOfTrials(runs)
	if MixedDatasets(runs) != "" {
		return nil, fmt.Errorf("sweep %s has runs on different datasets: give each dataset's sweep a name of its own", name)
	}
	if file != nil {
		ids, err := file.IDs(ctx, runs[0].DatasetFingerprint)
		if err != nil {
			return nil, err
		}
		runs = slices.DeleteFunc(runs, func(r tracking.RunSummary) bool { return !ids[tagValue(r, sweep.TrialTag)] })
		if len(runs) == 0 {
			return nil, fmt.Errorf("no run of sweep %s is a trial of %s", name, file.Path)
		}
	}
	s := &Sweep{Name: name, runs: runs}
	s.divide()
	if err := s.readCosts(ctx, store); err != nil {
		return nil, err
	}
	return s, s.readCurves(ctx, store)
}

// newestOfTrials keeps the newest run of each trial: a failed trial that was trained
// again counts once. runs are in the order of their start.
func newestOfTrials(runs []tracking.RunSummary) []tracking.RunSummary {
	newest := map[string]string{}
	for _, run := range runs {
		newest[tagValue(run, sweep.TrialTag)] = run.ID
	}
	return slices.DeleteFunc(runs, func(r tracking.RunSummary) bool {
		trial := tagValue(r, sweep.TrialTag)
		return trial != "" && newest[trial] != r.ID
	})
}

// divide sorts the runs into searches, and each search into points.
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

// varied returns the settings, beside the seed, in which runs differ.
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
		result := run.Result(metric.ValidPPL)
		switch {
		case result.Outcome != tracking.Reached:
		case run.Status == tracking.Finished:
			p.finished = append(p.finished, run)
		default: // the result of a partial training is not comparable
			result.Outcome = tracking.NoneSoFar
			p.partial++
		}
		p.result.addResult(result, run.ID, false)
	}
	slices.SortStableFunc(f.points, func(a, b *point) int { return slices.CompareFunc(a.values, b.values, compareValues) })
	for _, p := range f.points {
		if p.better(f.best) {
			f.best = p
		}
	}
}

// better chooses the best point: a point repeated with more seeds was chosen before,
// by the sweep itself. A point that lost a seed comes after the points that did not.
func (p *point) better(than *point) bool {
	switch {
	case len(p.finished) == 0:
		return false
	case than == nil:
		return true
	case p.result.diverged+p.result.failed == 0 && than.result.diverged+than.result.failed == 0 && p.result.n != than.result.n:
		return p.result.n > than.result.n
	}
	return p.result.before(&than.result, false)
}

func compareValues(a, b any) int {
	x, isNumber := toFloat(a)
	y, both := toFloat(b)
	if isNumber && both {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(plain(a), plain(b))
}

// over aggregates the results of the point's seeds in a metric.
func (p *point) over(metric string) group {
	var g group
	for _, run := range p.finished {
		g.addResult(run.Result(metric), run.ID, false)
	}
	return g
}

// cost is the time of a step in milliseconds.
type cost struct {
	model     float64 // forward, loss and backward
	optimizer float64
}

func (c cost) step() float64 { return c.model + c.optimizer }

// readCosts computes the median times of a step's parts: the optimizer's part over
// the runs of a search, the rest over all runs with the same work, whatever their
// optimizer. Unlike means, medians ignore the machine's other work.
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

// steps is the number of steps of the best point's runs.
func (f *search) steps() int64 { return f.best.finished[0].Steps }

// seconds returns the time of a number of steps.
func (f *search) seconds(steps float64) float64 { return steps * f.cost.step() / 1000 }

// workOf describes everything that the time of a step depends on, except the
// optimizer.
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

// median returns NaN for no values.
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
