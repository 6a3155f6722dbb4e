package main

import (
	"context"
	"math"
	"testing"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/tracking"
)

// TestFilterNumbersOfARun compares the numbers that a run of koala-k stores with the
// filter's equations:
//
//	innovation = loss - target, S = R/(1 - gain)
//	step = lr innovation (sigma + q)/S, sigma <- (sigma + q) (1 - gain)
//
// train.log_every chooses the steps, and does not change their numbers.
func TestFilterNumbersOfARun(t *testing.T) {
	const target, sigma, q = 1.5, 0.2, 0.004
	set := []string{"optimizer.kind=koala-k", "optimizer.target=1.5", "optimizer.sigma=0.2", "optimizer.q=0.004", "train.steps=30"}
	w := newWorkshop(t)
	w.train(w.request(settings(t, append(set, "train.log_every=1")...), "")).mustEnd(t, exit.OK)
	all := w.numbers()
	before := sigma
	for step := int64(1); step <= 30; step++ {
		at := all[step]
		predicted, s := before+q, at["r"]/(1-at["gain"])
		for name, want := range map[string]float64{
			"innovation": at[metric.TrainLoss] - target,
			"step":       at[metric.LR] * at["innovation"] * predicted / s,
			"sigma":      predicted * (1 - at["gain"]),
		} {
			if !(math.Abs(at[name]-want) <= 1e-9*math.Abs(want)) {
				t.Errorf("step %d: %s is %v, want %v", step, name, at[name], want)
			}
		}
		for _, name := range []string{"r", "gain", metric.StepMatrices, metric.StepEmbeddings, metric.StepNorms} {
			if !(at[name] > 0) {
				t.Errorf("step %d: %s is %v", step, name, at[name])
			}
		}
		before = at["sigma"]
	}
	w.train(w.request(settings(t, append(set, "train.log_every=11")...), "")).mustEnd(t, exit.OK)
	some := w.numbers()
	if len(some) != 2 {
		t.Errorf("%d rows in 30 steps, want 2", len(some))
	}
	for _, step := range []int64{11, 22} {
		for name, want := range all[step] {
			if name != metric.TrainLoss && some[step][name] != want {
				t.Errorf("step %d: %s is %v, and %v if all steps are logged", step, name, some[step][name], want)
			}
		}
	}
}

// numbers returns the optimizer's numbers in the newest run by step and by short name.
func (w *workshop) numbers() map[int64]map[string]float64 {
	w.t.Helper()
	store, err := tracking.OpenReadOnly(w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	defer store.Close()
	runs, err := store.Runs(context.Background(), tracking.Query{Sort: "-id", Limit: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[int64]map[string]float64{}
	for _, name := range []string{metric.TrainLoss, metric.LR, "sigma", "r", "gain", "innovation", "step",
		metric.StepMatrices, metric.StepEmbeddings, metric.StepNorms} {
		curves, err := report.NewCurves(context.Background(), store, runs, report.CurveOptions{Metrics: []string{name}})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, row := range curves.Table().Rows {
			step := row[3].(int64)
			if all[step] == nil {
				all[step] = map[string]float64{}
			}
			all[step][name] = row[6].(float64)
		}
	}
	return all
}
