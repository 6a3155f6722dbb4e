package report

import (
	"cmp"
	"context"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/report/chart"
	"github.com/koala-lm/koala-lm/report/page"
	"github.com/koala-lm/koala-lm/tracking"
)

const (
	// pagePoints bounds the points of all curves on a page: some 3 MB.
	pagePoints = 120_000
	// The least and the most points of a curve.
	fewestPoints, mostPoints = 40, 800
	// The page first draws firstDrawn runs.
	firstDrawn = 10
	// A page of more than eventsFor runs holds only the samples among their events;
	// a page of more than diffsFor runs holds no diffs.
	eventsFor = 50
	diffsFor  = 20
)

// pageData is what page/script.js reads.
type pageData struct {
	Written   string                `json:"written"`
	Live      bool                  `json:"live"` // served, and follows the store
	Cut       bool                  `json:"cut"`  // --limit left runs out
	Runs      []pageRun             `json:"runs"`
	Marks     string                `json:"marks,omitempty"` // of a served page, see marks
	Part      bool                  `json:"part,omitempty"`  // only the runs that changed
	Common    map[string]any        `json:"common"`          // settings that all share
	Differing []string              `json:"differing"`       // keys of the settings that differ
	Datasets  int                   `json:"datasets"`        // how many different ones
	Outcomes  []string              `json:"outcomes"`        // metrics in the table
	Metrics   []string              `json:"metrics"`         // metrics with curves
	Curves    map[string]pageCurves `json:"curves"`          // by metric; a served page asks for them
	Drawn     []string              `json:"drawn"`           // ids of the runs that are drawn at first
}

// pageRun is one run on the page. A served page asks for the details of the run that
// its reader opens.
type pageRun struct {
	Record
	*Details
	Outcome tracking.Outcome `json:"outcome"` // of val_ppl, or of the metric that decides
}

// pageCurves are the curves of a metric by the ids of the runs.
type pageCurves map[string]pageCurve

// pageCurve is a metric of a run. Low and High are absent where every point is one
// value.
type pageCurve struct {
	Step    []int64   `json:"step"`
	Tokens  []int64   `json:"tokens"`
	Seconds []rounded `json:"seconds"`
	Value   []rounded `json:"value"`
	Low     []rounded `json:"low,omitempty"`
	High    []rounded `json:"high,omitempty"`
}

// rounded is a number with the five digits that a picture needs, which halves the page.
type rounded float64

func (r rounded) MarshalJSON() ([]byte, error) {
	f := float64(r)
	if notFinite(f) != "" {
		return Number(f).MarshalJSON()
	}
	return strconv.AppendFloat(nil, f, 'g', 5, 64), nil
}

func (r *rounded) UnmarshalJSON(text []byte) error { return (*Number)(r).UnmarshalJSON(text) }

// WriteHTML writes a self-contained page of the runs. cut says that a limit left others
// out.
func WriteHTML(ctx context.Context, w io.Writer, store *tracking.Store, runs []tracking.RunSummary, cut bool, now time.Time) error {
	data := newPageData(runs, now)
	data.Cut = cut
	if err := data.addDetails(ctx, store); err != nil {
		return err
	}
	if err := data.addCurves(ctx, store, runs); err != nil {
		return err
	}
	return page.Write(w, data)
}

// newPageData returns the data of the page without details and curves.
func newPageData(runs []tracking.RunSummary, now time.Time) *pageData {
	data := &pageData{Written: stamp(now), Runs: []pageRun{}, Common: map[string]any{}, Differing: []string{},
		Outcomes: []string{}, Metrics: append([]string{}, drawnMetrics(runs)...), Curves: map[string]pageCurves{}, Drawn: []string{}}
	for _, metric := range outcomes {
		if anyHas(runs, metric) {
			data.Outcomes = append(data.Outcomes, metric)
		}
	}
	if len(runs) > 0 {
		data.Differing = append(data.Differing, Compare{Runs: runs}.differing()...)
		maps.Copy(data.Common, runs[0].Settings)
		for _, key := range data.Differing {
			delete(data.Common, key)
		}
	}
	data.addRuns(runs)
	return data
}

// addRuns adds the runs, with only the settings that differ. At first the page draws
// the running ones and then the best.
func (d *pageData) addRuns(runs []tracking.RunSummary) {
	datasets := map[string]bool{}
	for _, run := range runs {
		datasets[run.DatasetFingerprint] = true
		record := NewRecord(run)
		record.Settings = make(map[string]any, len(d.Differing))
		for _, key := range d.Differing {
			if value, set := run.Settings[key]; set {
				record.Settings[key] = value
			}
		}
		d.Runs = append(d.Runs, pageRun{Record: record, Outcome: outcomeOf(run)})
	}
	d.Datasets = len(datasets)
	rank := func(run tracking.RunSummary) float64 {
		if r := run.Result(metric.ValidPPL); run.Status != tracking.Running && !math.IsNaN(r.Best) {
			return r.Best
		} else if run.Status == tracking.Running {
			return math.Inf(-1)
		}
		return math.Inf(1)
	}
	best := slices.SortedStableFunc(slices.Values(runs), func(a, b tracking.RunSummary) int { return cmp.Compare(rank(a), rank(b)) })
	for _, run := range best[:min(firstDrawn, len(best))] {
		d.Drawn = append(d.Drawn, run.ID)
	}
}

// addDetails adds the details of each run.
func (d *pageData) addDetails(ctx context.Context, store *tracking.Store) error {
	for i := range d.Runs {
		run, err := store.Run(ctx, d.Runs[i].ID)
		if err != nil {
			return err
		}
		details := NewDetailRecord(run).Details
		if len(d.Runs) > diffsFor {
			details.Git.Diff = ""
		}
		if len(d.Runs) > eventsFor {
			details.Events = slices.DeleteFunc(details.Events, func(e RecordEvent) bool { return e.Kind != "sample" })
		}
		d.Runs[i].Details = &details
	}
	return nil
}

// outcomeOf is the outcome in the first of the metrics that decide which run is best.
func outcomeOf(run tracking.RunSummary) tracking.Outcome {
	for _, metric := range tracking.BestMetrics {
		if _, logged := run.Metrics[metric]; logged {
			return run.Result(metric).Outcome
		}
	}
	return run.Result(tracking.BestMetrics[0]).Outcome
}

// addCurves adds as many metrics as fit on the page, the most informative first.
func (d *pageData) addCurves(ctx context.Context, store *tracking.Store, runs []tracking.RunSummary) error {
	fit := pagePoints / (fewestPoints * max(1, len(runs)))
	d.Metrics = d.Metrics[:min(len(d.Metrics), max(1, fit))]
	for _, metric := range d.Metrics {
		var ids []string
		for _, run := range runs {
			if _, has := run.Metrics[metric]; has {
				ids = append(ids, run.ID)
			}
		}
		curves, err := newPageCurves(ctx, store, ids, metric, pagePoints/len(d.Metrics))
		if err != nil {
			return err
		}
		d.Curves[metric] = curves
	}
	return nil
}

// newPageCurves reads a metric of runs, with about as many points in all.
func newPageCurves(ctx context.Context, store *tracking.Store, ids []string, metric string, points int) (pageCurves, error) {
	curves := pageCurves{}
	each := min(mostPoints, max(fewestPoints, points/max(1, len(ids))))
	for _, id := range ids {
		curve, err := store.Curve(ctx, id, metric, each)
		if err != nil {
			return nil, err
		}
		curves[id] = newPageCurve(curve, each)
	}
	return curves, nil
}

// drawnMetrics lists the metrics that any run has as a curve, the most informative
// first.
func drawnMetrics(runs []tracking.RunSummary) []string {
	first := []string{metric.ValidPPL, metric.TrainPPL, metric.TrainLoss, metric.EpochPPL, metric.ValidLoss, metric.TestPPL, metric.LR, metric.GradNorm,
		metric.TokensPerSecond}
	first = append(first, metric.Koala...)
	first = append(first, metric.StepMatrices, metric.StepEmbeddings, metric.StepNorms)
	all := map[string]bool{}
	for _, run := range runs {
		for name, m := range run.Metrics {
			if m.Step > 0 {
				all[name] = true
			}
		}
	}
	var metrics []string
	for _, name := range append(first, slices.Sorted(maps.Keys(all))...) {
		if all[name] {
			metrics = append(metrics, name)
			delete(all, name)
		}
	}
	return metrics
}

// newPageCurve thins a curve by the index of its points, which suits every axis. The
// range of the values that a point averages stays, and so do values that are not finite:
// no spike disappears.
func newPageCurve(points []tracking.CurvePoint, most int) pageCurve {
	var line, lost []chart.Point
	for i, p := range points {
		at := chart.Point{X: float64(i), Y: p.Value, Low: p.Lowest, High: p.Highest}
		if notFinite(p.Value) != "" {
			lost = append(lost, at)
		} else {
			line = append(line, at)
		}
	}
	line = append(chart.Thin(line, most, false), chart.Thin(lost, fewestPoints, false)...)
	slices.SortStableFunc(line, func(a, b chart.Point) int { return cmp.Compare(a.X, b.X) })
	c := pageCurve{Step: []int64{}, Tokens: []int64{}, Seconds: []rounded{}, Value: []rounded{}}
	for _, p := range line {
		at := points[min(len(points)-1, int(math.Round(p.X)))]
		c.Step = append(c.Step, at.Last)
		c.Tokens = append(c.Tokens, at.Tokens)
		c.Seconds = append(c.Seconds, rounded(at.Seconds))
		c.Value = append(c.Value, rounded(p.Y))
		c.Low, c.High = append(c.Low, rounded(p.Low)), append(c.High, rounded(p.High))
	}
	if slices.Equal(c.Low, c.Value) && slices.Equal(c.High, c.Value) {
		c.Low, c.High = nil, nil
	}
	return c
}
