package sweep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/koala-lm/koala-lm/tracking"
)

// TestMain makes the test binary `koala-lm train` when the environment says so.
func TestMain(m *testing.M) {
	if os.Getenv("KOALA_SWEEP_TRAINS") == "" {
		os.Exit(m.Run())
	}
	if err := train(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// train records a run whose val_ppl is 100 times its learning rate. With a rate of at
// least 5 it evaluates once and then waits to be interrupted; with one of at least 3 it
// waits two seconds for that and then finishes. A resumed run finishes.
func train(args []string) error {
	ctx := context.Background()
	n := tracking.NewRun{Settings: map[string]any{"train.steps": 20}}
	lr, path, resumed := 0.0, "", ""
	for i := 0; i+1 < len(args); i++ {
		switch value := args[i+1]; args[i] {
		case "--tag":
			n.Tags = append(n.Tags, value)
		case "--store":
			path = value
		case "--resume":
			resumed = value
		case "--set":
			if text, ok := strings.CutPrefix(value, "optimizer.lr="); ok {
				lr, _ = strconv.ParseFloat(text, 64)
			}
			if text, ok := strings.CutPrefix(value, "train.steps="); ok {
				n.Settings["train.steps"], _ = strconv.Atoi(text)
			}
		}
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	store, err := tracking.Open(path)
	if err != nil {
		return err
	}
	defer store.Close()
	if resumed != "" {
		run, err := store.ResumeRun(ctx, resumed, 10, tracking.Resume{})
		if err != nil {
			return err
		}
		return errors.Join(run.Log(tracking.Point{Step: 20, Values: map[string]float64{"val_ppl": 50}}), run.Finish(tracking.Finished, ""))
	}
	run, err := store.StartRun(ctx, n)
	if err != nil {
		return err
	}
	if err := run.Log(tracking.Point{Step: 10, Values: map[string]float64{"val_ppl": 100 * lr}}); err != nil {
		return err
	}
	if lr < 3 {
		return run.Finish(tracking.Finished, "")
	}
	if err := run.Flush(ctx); err != nil {
		return err
	}
	var finish <-chan time.Time
	if lr < 5 {
		finish = time.After(2 * time.Second)
	}
	select {
	case <-finish:
		return run.Finish(tracking.Finished, "")
	case <-interrupted:
	}
	return run.Finish(tracking.Interrupted, "signal")
}

// The two bad trials wait for ever. The sweep ends because the rule stops them.
func TestRunnerStopsBadTrials(t *testing.T) {
	t.Setenv("KOALA_SWEEP_TRAINS", "1")
	folder := t.TempDir()
	file := mustParse(t, "grid: {optimizer.lr: [1, 2, 9, 8]}\nstop: {kind: asha, min_steps: 5, factor: 3}")
	var messages []string
	var progress Progress
	newRunner := func() *Runner {
		trials, err := file.Trials(t.Context(), "data")
		if err != nil {
			t.Fatal(err)
		}
		store := filepath.Join(folder, "koala.db")
		return &Runner{File: file, Trials: trials, Dataset: tracking.Dataset{Fingerprint: "data"}, Store: store, Folder: filepath.Join(folder, "s"),
			Program: os.Args[0], Common: []string{"--store", store}, Jobs: 1,
			Notef: func(format string, args ...any) { messages = append(messages, fmt.Sprintf(format, args...)) },
			Watch: func(p Progress) { progress = p }}
	}
	r := newRunner()
	empty, err := tracking.Open(r.Store)
	if err != nil {
		t.Fatal(err)
	}
	empty.Close()
	if err := r.Run(t.Context()); err != nil || r.Failure() != nil {
		t.Fatalf("%v, %v: %q", err, r.Failure(), messages)
	}
	known, err := r.Known(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []tracking.Status{tracking.Finished, tracking.Finished, tracking.Interrupted, tracking.Interrupted} {
		run := known[r.Trials[i].ID]
		if run.Status != want || (State(run) == "stopped early") != (want == tracking.Interrupted) {
			t.Errorf("trial %d is %s, tags %q", i, run.Status, run.Tags)
		}
	}
	if !slices.ContainsFunc(messages, func(m string) bool {
		return strings.HasSuffix(m, "stopped by asha at step 5: 900 is not among the best 1 of 3, after 50 % of its training")
	}) {
		t.Errorf("messages %q", messages)
	}
	if last := messages[len(messages)-1]; last != "sweep s: 4 trials: 2 finished, 2 stopped early; 75 % of the whole training" {
		t.Errorf("at the end: %q", last)
	}
	if progress.Pending != 4 || len(progress.Running) != 1 || progress.Running[0].Best < 500 || progress.Running[0].Share != 0.5 ||
		progress.Share < 0.625 || progress.Left == 0 {
		t.Errorf("progress %+v", progress)
	}
	messages = nil
	if err := newRunner().Run(t.Context()); err != nil || !strings.Contains(messages[0], "4 done before, 0 to run") {
		t.Errorf("started again: %q (%v)", messages, err)
	}
}

// runAll runs trials one after the other into a new store, and returns what they left.
func runAll(t *testing.T, file *File, trials []Trial) (*Runner, map[string]tracking.RunSummary) {
	t.Helper()
	folder := t.TempDir()
	store := filepath.Join(folder, "koala.db")
	r := &Runner{File: file, Trials: trials, Dataset: tracking.Dataset{Fingerprint: "data"}, Store: store, Folder: filepath.Join(folder, "s"),
		Program: os.Args[0], Common: []string{"--store", store}, Jobs: 1, Notef: t.Logf}
	empty, err := tracking.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	empty.Close()
	if err := r.Run(t.Context()); err != nil || r.Failure() != nil {
		t.Fatal(err, r.Failure())
	}
	known, err := r.Known(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r, known
}

// The best of a search is never stopped for the results of another search, and its
// further seeds are not stopped either.
func TestRunnerStopsWithinASearch(t *testing.T) {
	t.Setenv("KOALA_SWEEP_TRAINS", "1")
	file := mustParse(t, `seeds: [1]
best_seeds: [2, 3]
stop: {kind: asha, min_steps: 5, factor: 3}
searches:
- {name: good, grid: {optimizer.lr: [0.1, 0.2, 0.3]}}
- {name: bad, grid: {optimizer.lr: [3, 3.5, 9]}}`)
	trials, err := file.Trials(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	r, known := runAll(t, file, trials)
	repeats, err := r.Repeats(known)
	if err != nil || len(repeats) != 4 {
		t.Fatalf("%d further trials, %v", len(repeats), err)
	}
	for _, trial := range append(trials, repeats...) {
		if run, worst := known[trial.ID], strings.Contains(trial.Label, "=9"); stopped(run) != worst {
			t.Errorf("%s %s: status %s, tags %q", trial.Search, trial.Label, run.Status, run.Tags)
		}
	}
}

// A trial that paused since few had reached its rung continues when it is among the
// best of them: it wins. Which trial comes first decides nothing.
func TestRunnerContinuesPausedTrials(t *testing.T) {
	t.Setenv("KOALA_SWEEP_TRAINS", "1")
	file := mustParse(t, "grid: {optimizer.lr: [1, 2, 6, 7, 8, 9, 10]}\nstop: {kind: asha, min_steps: 5, factor: 3}")
	trials, err := file.Trials(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	_, known := runAll(t, file, trials)
	for i, trial := range trials {
		if run := known[trial.ID]; stopped(run) != (i > 2) || (run.Status == tracking.Finished) != (i <= 2) {
			t.Errorf("%s: status %s, tags %q", trial.Label, run.Status, run.Tags)
		}
	}
	if result := known[trials[2].ID].Result("val_ppl"); result.Best != 50 {
		t.Errorf("the trial that continued has %v", result)
	}
}

// A bad trial that is at its end is not stopped: it has its result.
func TestRunnerStopsNoneAtItsEnd(t *testing.T) {
	t.Setenv("KOALA_SWEEP_TRAINS", "1")
	file := mustParse(t, "set: {train.steps: 10}\ngrid: {optimizer.lr: [0.1, 0.2, 3]}\nstop: {kind: asha, min_steps: 10, factor: 3}")
	trials, err := file.Trials(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	_, known := runAll(t, file, trials)
	for _, trial := range trials {
		if run := known[trial.ID]; run.Status != tracking.Finished || stopped(run) {
			t.Errorf("%s: status %s, tags %q", trial.Label, run.Status, run.Tags)
		}
	}
}

func TestRunnerBudgets(t *testing.T) {
	r := &Runner{File: &File{TimeLimit: time.Hour}, MaxRuns: 2, started: time.Now()}
	for i, want := range []bool{true, true, false} {
		if r.mayStart() != want {
			t.Errorf("run %d may start: %v", i+1, !want)
		}
	}
	r = &Runner{File: &File{TimeLimit: time.Hour}, started: time.Now().Add(-2 * time.Hour)}
	if r.mayStart() {
		t.Error("a run was started after the time limit")
	}
}
