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
	Written   string                 `json:"written"`
	Live      bool                   `json:"live"` // served, and follows the store
	Runs      []pageRun              `json:"runs"`
	IDs       []string               `json:"ids,omitempty"` // ids of all runs, in an update
	All       bool                   `json:"all,omitempty"` // the page must load everything again
	Common    map[string]any         `json:"common"`        // settings that all share
	Differing []string               `json:"differing"`     // keys of the settings that differ
	Datasets  int                    `json:"datasets"`      // how many different ones
	Outcomes  []string               `json:"outcomes"`      // metrics in the table
	Metrics   []string               `json:"metrics"`       // metrics with curves
	Curves    map[string][]pageCurve `json:"curves"`
	Drawn     []int                  `json:"drawn"` // the runs that are drawn at first
}

// pageRun is one run on the page.
type pageRun struct {
	DetailRecord
	Outcome tracking.Outcome `json:"outcome"` // of val_ppl, or of the metric that decides
}

// pageCurve is a metric of the run at index Run. Low and High are absent where every
// point is one value.
type pageCurve struct {
	Run     int       `json:"run"`
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
		return number(f).MarshalJSON()
	}
	return strconv.AppendFloat(nil, f, 'g', 5, 64), nil
}

func (r *rounded) UnmarshalJSON(text []byte) error { return (*number)(r).UnmarshalJSON(text) }

// WriteHTML writes a self-contained page of the runs.
func WriteHTML(ctx context.Context, w io.Writer, store *tracking.Store, runs []tracking.RunSummary, now time.Time) error {
	data, err := newPageData(ctx, store, runs, now)
	if err != nil {
		return err
	}
	return page.Write(w, data)
}

func newPageData(ctx context.Context, store *tracking.Store, runs []tracking.RunSummary, now time.Time) (*pageData, error) {
	data := &pageData{Written: stamp(now), Runs: []pageRun{}, Common: map[string]any{}, Differing: []string{},
		Outcomes: []string{}, Metrics: []string{}, Curves: map[string][]pageCurve{}, Drawn: []int{}}
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
	if err := data.addRuns(ctx, store, runs); err != nil {
		return nil, err
	}
	return data, data.addCurves(ctx, store, runs)
}

// addRuns adds the whole record of each run, but only the settings that differ.
func (d *pageData) addRuns(ctx context.Context, store *tracking.Store, runs []tracking.RunSummary) error {
	datasets := map[string]bool{}
	for _, run := range runs {
		datasets[run.DatasetFingerprint] = true
		detail, err := store.Run(ctx, run.ID)
		if err != nil {
			return err
		}
		record := NewDetailRecord(detail)
		maps.DeleteFunc(record.Settings, func(key string, _ any) bool { return !slices.Contains(d.Differing, key) })
		if len(runs) > diffsFor {
			record.Git.Diff = ""
		}
		if len(runs) > eventsFor {
			record.Events = slices.DeleteFunc(record.Events, func(e RecordEvent) bool { return e.Kind != "sample" })
		}
		d.Runs = append(d.Runs, pageRun{record, outcomeOf(run)})
	}
	d.Datasets = len(datasets)
	byPerplexity := make([]int, len(runs))
	for i := range byPerplexity {
		byPerplexity[i] = i
	}
	perplexity := func(i int) float64 {
		if r := runs[i].Result(metric.ValidPPL); !math.IsNaN(r.Best) {
			return r.Best
		}
		return math.Inf(1)
	}
	slices.SortStableFunc(byPerplexity, func(a, b int) int { return cmp.Compare(perplexity(a), perplexity(b)) })
	d.Drawn = byPerplexity[:min(firstDrawn, len(byPerplexity))]
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
	if len(runs) == 0 {
		return nil
	}
	metrics := drawnMetrics(runs)
	metrics = metrics[:min(len(metrics), max(1, pagePoints/(fewestPoints*len(runs))))]
	if len(metrics) == 0 {
		return nil
	}
	each := min(mostPoints, max(fewestPoints, pagePoints/(len(runs)*len(metrics))))
	for _, metric := range metrics {
		d.Metrics = append(d.Metrics, metric)
		for i, run := range runs {
			if _, has := run.Metrics[metric]; !has {
				continue
			}
			points, err := store.Curve(ctx, run.ID, metric)
			if err != nil {
				return err
			}
			d.Curves[metric] = append(d.Curves[metric], newPageCurve(i, points, each))
		}
	}
	return nil
}

// drawnMetrics lists the metrics that any run has as a curve, the most informative
// first.
func drawnMetrics(runs []tracking.RunSummary) []string {
	first := []string{metric.ValidPPL, metric.TrainPPL, metric.TrainLoss, metric.EpochPPL, metric.ValidLoss, metric.TestPPL, metric.LR, metric.GradNorm,
		metric.TokensPerSecond, metric.KoalaSigma, metric.KoalaR, metric.KoalaGain}
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
// range of the values that a point averages stays: no spike disappears.
func newPageCurve(run int, points []tracking.CurvePoint, most int) pageCurve {
	line := make([]chart.Point, len(points))
	for i, p := range points {
		line[i] = chart.Point{X: float64(i), Y: p.Value, Low: p.Lowest, High: p.Highest}
	}
	c := pageCurve{Run: run, Step: []int64{}, Tokens: []int64{}, Seconds: []rounded{}, Value: []rounded{}}
	for _, p := range chart.Thin(line, most, false) {
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
