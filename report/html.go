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

	"github.com/koala-lm/koala-lm/report/chart"
	"github.com/koala-lm/koala-lm/report/page"
	"github.com/koala-lm/koala-lm/tracking"
)

const (
	// pagePoints bounds the points of all curves on a page: some 3 MB.
	pagePoints = 120_000
	// A curve has at least and at most so many.
	fewestPoints, mostPoints = 40, 800
	// firstDrawn is how many runs are drawn before the reader chooses.
	firstDrawn = 10
	// eventsFor is up to how many runs all events are on the page, and beyond
	// it samples alone.
	eventsFor = 50
)

// pageData is what page/script.js reads.
type pageData struct {
	Written   string                 `json:"written"`
	Runs      []DetailRecord         `json:"runs"`
	Common    map[string]any         `json:"common"`    // settings that all share
	Differing []string               `json:"differing"` // keys of those that differ
	Datasets  int                    `json:"datasets"`  // how many different ones
	Outcomes  []string               `json:"outcomes"`  // metrics in the table
	Metrics   []string               `json:"metrics"`   // metrics with curves
	Curves    map[string][]pageCurve `json:"curves"`
	Drawn     []int                  `json:"drawn"` // the runs that are drawn at first
}

// pageCurve is a metric of the run at place Run.
type pageCurve struct {
	Run     int       `json:"run"`
	Step    []int64   `json:"step"`
	Tokens  []int64   `json:"tokens"`
	Seconds []rounded `json:"seconds"`
	Value   []rounded `json:"value"`
}

// rounded is a number as exact as a picture needs, which halves the page.
type rounded float64

func (r rounded) MarshalJSON() ([]byte, error) {
	f := float64(r)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, f, 'g', 5, 64), nil
}

// WriteHTML writes a page of the runs.
func WriteHTML(ctx context.Context, w io.Writer, store *tracking.Store, runs []tracking.RunSummary, now time.Time) error {
	data := pageData{Written: stamp(now), Runs: []DetailRecord{}, Common: map[string]any{}, Differing: []string{},
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
		return err
	}
	if err := data.addCurves(ctx, store, runs); err != nil {
		return err
	}
	return page.Write(w, data)
}

// addRuns adds all that is known of each run, of its settings those that are not
// common to all.
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
		record.Git.Diff = ""
		if len(runs) > eventsFor {
			record.Events = slices.DeleteFunc(record.Events, func(e RecordEvent) bool { return e.Kind != "sample" })
		}
		d.Runs = append(d.Runs, record)
	}
	d.Datasets = len(datasets)
	byPerplexity := make([]int, len(runs))
	for i := range byPerplexity {
		byPerplexity[i] = i
	}
	perplexity := func(i int) float64 {
		if m, has := runs[i].Metrics["val_ppl"]; has && !math.IsNaN(m.Best) {
			return m.Best
		}
		return math.Inf(1)
	}
	slices.SortStableFunc(byPerplexity, func(a, b int) int { return cmp.Compare(perplexity(a), perplexity(b)) })
	d.Drawn = byPerplexity[:min(firstDrawn, len(byPerplexity))]
	return nil
}

// addCurves adds as many metrics as fit, the most telling first.
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

// drawnMetrics are those that any run has as a curve, the most telling first.
func drawnMetrics(runs []tracking.RunSummary) []string {
	first := []string{"val_ppl", "train_ppl", "train_loss", "epoch_ppl", "val_loss", "test_ppl", "lr", "grad_norm",
		"tokens_per_second", "koala_sigma", "koala_r", "koala_gain"}
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

// newPageCurve thins a curve by place among its points, which suits every axis.
func newPageCurve(run int, points []tracking.CurvePoint, most int) pageCurve {
	line := make([]chart.Point, len(points))
	for i, p := range points {
		line[i] = chart.At(float64(i), p.Value)
	}
	c := pageCurve{Run: run, Step: []int64{}, Tokens: []int64{}, Seconds: []rounded{}, Value: []rounded{}}
	for _, p := range chart.Thin(line, most, false) {
		at := points[min(len(points)-1, int(math.Round(p.X)))]
		c.Step = append(c.Step, at.Last)
		c.Tokens = append(c.Tokens, at.Tokens)
		c.Seconds = append(c.Seconds, rounded(at.Seconds))
		c.Value = append(c.Value, rounded(p.Y))
	}
	return c
}
