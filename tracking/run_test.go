package tracking

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/koala-lm/koala-lm/tracking/environment"
)

func TestRunIsRecordedWhole(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	run := startRun(t, s, NewRun{
		Name: "first", Note: "a <b>note</b>\n", Tags: []string{"b", "a", "a"},
		Settings: map[string]any{
			"optimizer.kind": "koala-v", "optimizer.lr": 1.0, "train.batch": 20, "model.tied": true,
			"model.cutoffs": []int{10, 20}, "eval.patience": nil, "optimizer.q": float32(0.5),
		},
		Dataset: Dataset{Name: "godoc", Path: "/p", Fingerprint: "f00", Facts: map[string]any{"vocabulary": 8000},
			Metrics: map[string]float64{"val_unigram_ppl": 812.5}},
		Git:     environment.Git{Commit: "abc", Dirty: true, Diff: "+1"},
		Command: []string{"koala-lm", "train", "--data", "a b"},
		CPU:     "a cpu", Device: "cpu", Threads: 2,
		Versions: map[string]string{"go": "go1.26"},
		Parent:   "earlier",
	})
	values := []map[string]float64{
		{"train_loss": 5, "tokens_per_second": 100},
		{"train_loss": 3, "tokens_per_second": 300},
		{"train_loss": math.NaN(), "tokens_per_second": 200},
		{"train_loss": math.Inf(1), "tokens_per_second": math.Inf(1)},
		{"train_loss": 4},
	}
	for i, v := range values {
		if err := run.Log(Point{Step: int64(i + 1), Tokens: int64(100 * (i + 1)), Values: v}); err != nil {
			t.Fatal(err)
		}
	}
	if err := run.Event("note", "half way"); err != nil {
		t.Fatal(err)
	}
	if err := run.Finish(Finished, "all steps done"); err != nil {
		t.Fatal(err)
	}
	if err := run.Log(Point{Step: 9}); !errors.Is(err, ErrRunEnded) {
		t.Errorf("log after the end: %v", err)
	}

	got, err := s.Run(ctx, "first")
	if err != nil {
		t.Fatal(err)
	}
	want := RunDetail{
		RunSummary: RunSummary{
			ID: run.ID(), Name: "first", Note: "a <b>note</b>\n", Status: Finished, Reason: "all steps done",
			Steps: 5, Tokens: 500, CPU: "a cpu", Device: "cpu", Threads: 2,
			Host: environment.Self().Host, PID: environment.Self().PID,
			Dataset: "godoc", DatasetPath: "/p", DatasetFingerprint: "f00", Parent: "earlier",
			Settings: map[string]any{
				"optimizer.kind": "koala-v", "optimizer.lr": 1.0, "train.batch": int64(20), "model.tied": true,
				"model.cutoffs": []any{int64(10), int64(20)}, "eval.patience": nil, "optimizer.q": 0.5,
			},
			Metrics: map[string]Summary{
				"train_loss":        {Step: 5, Last: 4, BestStep: 2, Best: 3},
				"tokens_per_second": {Step: 4, Last: math.Inf(1), BestStep: 2, Best: 300},
				"val_unigram_ppl":   {Step: 0, Last: 812.5, BestStep: 0, Best: 812.5},
			},
			Tags: []string{"a", "b"},
		},
		DatasetFacts: map[string]any{"vocabulary": int64(8000)},
		Git:          environment.Git{Commit: "abc", Dirty: true, Diff: "+1"},
		Command:      []string{"koala-lm", "train", "--data", "a b"},
		Versions:     map[string]string{"go": "go1.26"},
		Events: []Event{
			{Kind: "started", Message: environment.Self().String()},
			{Kind: "note", Message: "half way"},
			{Kind: "ended", Message: "finished: all steps done"},
		},
	}
	times := cmpopts.IgnoreTypes(time.Time{})
	if diff := cmp.Diff(want, got, times, cmpopts.IgnoreUnexported(RunSummary{}), cmpopts.IgnoreFields(RunSummary{}, "Seconds", "DatasetRelative")); diff != "" {
		t.Error(diff)
	}
	if moved, err := filepath.Rel(filepath.Dir(s.Path()), "/p"); err != nil || got.DatasetRelative != moved {
		t.Errorf("the dataset is at %q from the store, want %q (%v)", got.DatasetRelative, moved, err)
	}
	if got.Started.IsZero() || got.Ended.Before(got.Started) || got.Seconds < 0 || got.Seconds > 60 {
		t.Errorf("started %v, ended %v, %v s", got.Started, got.Ended, got.Seconds)
	}

	var null, all int
	count := "SELECT count(*) FILTER (WHERE value IS NULL), count(*) FROM metrics WHERE run = ?"
	if err := s.read.QueryRow(count, run.ID()).Scan(&null, &all); err != nil || null != 1 || all != 10 {
		t.Errorf("%d of %d values are NULL, want 1 of 10 (%v)", null, all, err)
	}
}

// A process may be killed right after the start of its run.
func TestRunStartsWithItsMetrics(t *testing.T) {
	s := newStore(t)
	startRun(t, s, NewRun{Name: "r", Dataset: Dataset{Metrics: map[string]float64{"val_unigram_ppl": 700}}})
	got, err := s.Run(context.Background(), "r")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Summary{"val_unigram_ppl": {Last: 700, Best: 700}}
	if diff := cmp.Diff(want, got.Metrics); diff != "" {
		t.Error(diff)
	}
	checkSpans(t, s)
}

// A run's steps are those it made, whether they were logged or not.
func TestStepsBetweenPoints(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	run := startRun(t, s, NewRun{Name: "r"})
	check := func(steps, tokens int64) {
		t.Helper()
		if got, err := s.Run(ctx, "r"); err != nil || got.Steps != steps || got.Tokens != tokens {
			t.Errorf("%d steps, %d tokens, %v, want %d and %d", got.Steps, got.Tokens, err, steps, tokens)
		}
	}
	if err := run.Log(Point{Step: 10, Tokens: 100, Values: map[string]float64{"train_loss": 1}}); err != nil {
		t.Fatal(err)
	}
	run.Reached(16, 160)
	run.Reached(17, 170)
	if err := run.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	check(17, 170)
	run.Reached(18, 180)
	if err := run.Finish(Interrupted, ""); err != nil {
		t.Fatal(err)
	}
	check(18, 180)
	run, err := s.ResumeRun(ctx, run.ID(), 12, Resume{Device: "cpu", Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	run.Reached(13, 130)
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	check(13, 130)
}

func TestResumeReplacesWhatCameAfter(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	clock := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return clock }
	run := startRun(t, s, NewRun{Name: "r", Dataset: Dataset{Metrics: map[string]float64{"val_unigram_ppl": 700}}})
	log := func(run *Run, from, to int64, loss float64) {
		for step := from; step <= to; step++ {
			clock = clock.Add(time.Second)
			if err := run.Log(Point{Step: step, Tokens: 10 * step, Values: map[string]float64{"train_loss": loss}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	log(run, 1, 10, 5)
	log(run, 11, 20, 1)
	if err := run.Finish(Interrupted, "signal"); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(time.Hour)

	run, err := s.ResumeRun(ctx, run.ID(), 10, Resume{Device: "cpu", Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ResumeRun(ctx, run.ID(), 10, Resume{}); !errors.Is(err, ErrStillRunning) {
		t.Errorf("resumed twice: %v", err)
	}
	half, err := s.Run(ctx, run.ID())
	if err != nil {
		t.Fatal(err)
	}
	if half.Steps != 10 || half.Status != Running || half.Metrics["train_loss"].Best != 5 {
		t.Errorf("after resuming: %+v", half.RunSummary)
	}
	log(run, 11, 12, 4)
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	got, err := s.Run(ctx, run.ID())
	if err != nil {
		t.Fatal(err)
	}
	if want := (Summary{Step: 12, Last: 4, BestStep: 11, Best: 4}); got.Metrics["train_loss"] != want {
		t.Errorf("train_loss %+v, want %+v", got.Metrics["train_loss"], want)
	}
	if got.Metrics["val_unigram_ppl"].Last != 700 {
		t.Error("the metrics of step 0 are gone")
	}
	if got.Steps != 12 || got.Tokens != 120 || got.Seconds != 12 {
		t.Errorf("%d steps, %d tokens, %v s, want 12, 120, 12 s: the pause does not count", got.Steps, got.Tokens, got.Seconds)
	}
	if resumed := got.Events[2]; resumed.Kind != "resumed" || !strings.Contains(resumed.Message, "1h0m0s") ||
		!strings.Contains(resumed.Message, "10 values") {
		t.Errorf("event %+v", resumed)
	}
	if _, err := s.ResumeRun(ctx, "nobody", 0, Resume{}); !errors.Is(err, ErrNoRun) {
		t.Errorf("unknown run: %v", err)
	}
}

func TestLogWhileLocked(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	run := startRun(t, s, NewRun{Name: "r"})
	locker := openStore(t, s.Path())
	tx, err := locker.write.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	for step := range int64(1000) {
		if err := run.Log(Point{Step: step, Values: map[string]float64{"a": 1, "b": 2}}); err != nil {
			t.Fatal(err)
		}
	}
	var points int
	count := func() {
		t.Helper()
		if err := s.read.QueryRow("SELECT count(*) FROM metrics").Scan(&points); err != nil {
			t.Fatal(err)
		}
	}
	if count(); points != 0 { // so no call to Log waited for the store
		t.Errorf("%d points were written while the store was locked", points)
	}
	tx.Rollback()
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	if count(); points != 2000 {
		t.Errorf("%d points, want 2000", points)
	}
}

func TestFullQueueIsReported(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	run := startRun(t, s, NewRun{Name: "r"})
	locker := openStore(t, s.Path())
	tx, err := locker.write.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for i := range 1024 {
		values[strings.Repeat("m", 1+i%8)+string(rune('a'+i/8))] = 1
	}
	accepted := int64(0)
	for ; accepted < 200; accepted++ {
		if err = run.Log(Point{Step: accepted, Values: values}); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrQueueFull) || accepted != queueLimit/1024 {
		t.Fatalf("%d points accepted, then %v", accepted, err)
	}
	tx.Rollback()
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	detail, err := s.Run(ctx, "latest")
	if err != nil {
		t.Fatal(err)
	}
	if e := detail.Events[1]; e.Kind != "metrics lost" || !strings.HasPrefix(e.Message, "1 points between steps 128 and 128") {
		t.Errorf("events %+v", detail.Events)
	}
	var points int64
	if err := s.read.QueryRow("SELECT count(*) FROM metrics").Scan(&points); err != nil || points != accepted*1024 {
		t.Errorf("%d points, want %d (%v)", points, accepted*1024, err)
	}
}

func BenchmarkLog(b *testing.B) {
	s := newStore(b)
	run := startRun(b, s, NewRun{Name: "r"})
	values := map[string]float64{}
	for _, name := range []string{"train_loss", "train_ppl", "lr", "grad_norm", "tokens_per_second", "forward_ms",
		"loss_ms", "backward_ms", "optimizer_ms", "rss_bytes", "koala_sigma", "koala_r", "koala_gain"} {
		values[name] = 1.5
	}
	step := int64(0)
	for b.Loop() {
		step++
		if step%5000 == 0 { // the test loop is faster than a training loop
			b.StopTimer()
			run.Flush(context.Background())
			b.StartTimer()
		}
		if err := run.Log(Point{Step: step, Tokens: step, Values: values}); err != nil {
			b.Fatal(err)
		}
	}
}
