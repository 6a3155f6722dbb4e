package tracking

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
	"time"
)

func TestImport(t *testing.T) {
	ctx := context.Background()
	ours, theirs := fourRuns(t), newStore(t)
	record := func(s *Store, id string, steps int64) {
		t.Helper()
		run := startRun(t, s, NewRun{ID: id, Name: "run " + id, Tags: []string{"imported"}, Settings: map[string]any{"optimizer.lr": 0.5}})
		for step := int64(1); step <= steps; step++ { // metrics get other numbers in that store
			run.Log(Point{Step: step, Values: map[string]float64{"another": 1, "val_ppl": float64(100 + step)}})
		}
		if err := run.Event("note", "from elsewhere"); err != nil {
			t.Fatal(err)
		}
		if err := run.Finish(Interrupted, ""); err != nil {
			t.Fatal(err)
		}
	}
	record(theirs, "x", 200)
	record(theirs, "y", 3)
	live := startRun(t, ours, NewRun{ID: "live"})
	record(theirs, "live", 1)
	if done, err := ours.Import(ctx, theirs); err != nil || done.Added != 2 || done.Updated+done.Unchanged != 0 || !slices.Equal(done.Busy, []string{"live"}) {
		t.Fatalf("%+v (%v)", done, err)
	}
	got, err := ours.Run(ctx, "x")
	if err != nil || got.Metrics["val_ppl"] != (Summary{Step: 200, Last: 300, BestStep: 1, Best: 101}) || got.Tags[0] != "imported" ||
		got.Settings["optimizer.lr"] != 0.5 || len(got.Events) != 3 || got.Status != Interrupted {
		t.Errorf("%+v (%v)", got, err)
	}
	checkSpans(t, ours)
	if done, err := ours.Import(ctx, theirs); err != nil || done.Added+done.Updated != 0 || done.Unchanged != 2 {
		t.Errorf("a second time: %+v (%v)", done, err)
	}
	again, err := theirs.ResumeRun(ctx, "y", 3, Resume{})
	if err != nil {
		t.Fatal(err)
	}
	logSteps(t, again, 4, 5)
	if err := again.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	if done, err := ours.Import(ctx, theirs); err != nil || done.Updated != 1 || done.Unchanged != 1 {
		t.Errorf("after a resume: %+v (%v)", done, err)
	}
	if got, err := ours.Run(ctx, "y"); err != nil || got.Steps != 5 || got.Status != Finished {
		t.Errorf("%+v (%v)", got.RunSummary, err)
	}
	if done, err := ours.Import(ctx, ours); err != nil || done.Added+done.Updated != 0 {
		t.Errorf("into itself: %+v (%v)", done, err)
	}
	if err := live.Log(Point{Step: 1, Values: map[string]float64{"val_ppl": 1}}); err != nil {
		t.Fatal(err)
	}
	if err := live.Finish(Finished, ""); err != nil {
		t.Errorf("a live run after the imports: %v", err)
	}
}

// The later record of a run is the one with more steps, though the clock was set back.
func TestImportAfterTheClockWasSetBack(t *testing.T) {
	ours, theirs := newStore(t), newStore(t)
	clock := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	theirs.now = func() time.Time { return clock }
	run := startRun(t, theirs, NewRun{Name: "r"})
	pull := func(want Imported) {
		t.Helper()
		if err := run.Flush(t.Context()); err != nil && !errors.Is(err, ErrRunEnded) {
			t.Fatal(err)
		}
		if _, err := theirs.write.Exec("UPDATE runs SET host = 'elsewhere', heartbeat = '" + formatTime(clock) + "'"); err != nil {
			t.Fatal(err)
		}
		if done, err := ours.Import(t.Context(), theirs); err != nil || done.Added != want.Added || done.Updated != want.Updated {
			t.Errorf("%+v, want %+v (%v)", done, want, err)
		}
	}
	logSteps(t, run, 1, 5)
	pull(Imported{Added: 1})
	clock = clock.Add(-time.Hour)
	logSteps(t, run, 6, 10)
	pull(Imported{Updated: 1})
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(-time.Hour)
	pull(Imported{Updated: 1})
	if got, err := ours.Run(t.Context(), run.ID()); err != nil || got.Steps != 10 || got.Status != Finished || got.Seconds < 0 {
		t.Errorf("%+v (%v)", got.RunSummary, err)
	}
}

// Stores of every earlier version are imported with all their values.
func TestImportOlderStores(t *testing.T) {
	scripts, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	for version := 1; version < len(scripts); version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			ours := newStore(t)
			theirs, err := OpenCurrent(storeOfVersion(t, version, fillVersion1))
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			if done, err := ours.Import(t.Context(), theirs); err != nil || done.Added != 1 {
				t.Fatalf("%+v (%v)", done, err)
			}
			points, err := ours.Curve(t.Context(), "a", "train_loss", 1000)
			if err != nil || len(points) != 1000 || points[999].Value != 0.001 {
				t.Errorf("%d points (%v)", len(points), err)
			}
			if version == 1 { // later ones keep spans by themselves
				checkSpans(t, ours)
			}
		})
	}
}

// Names of metrics, settings and tags that differ in the case of their letters are
// different names everywhere.
func TestNamesDifferByCase(t *testing.T) {
	s := newStore(t)
	run := startRun(t, s, NewRun{Name: "r", Tags: []string{"Base", "base"}, Settings: map[string]any{"optimizer.lr": 1.0, "optimizer.LR": 2.0}})
	for step := int64(1); step <= 100; step++ {
		if err := run.Log(Point{Step: step, Values: map[string]float64{"acc": float64(step), "Acc": -float64(step), "ACC": math.NaN()}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	theirs := newStore(t)
	if _, err := theirs.Import(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, store := range []*Store{s, theirs} {
		got, err := store.Run(t.Context(), run.ID())
		if err != nil || got.Metrics["acc"].Last != 100 || got.Metrics["Acc"].Last != -100 || !math.IsNaN(got.Metrics["ACC"].Last) ||
			got.Settings["optimizer.lr"] != 1.0 || got.Settings["optimizer.LR"] != 2.0 || len(got.Tags) != 2 {
			t.Errorf("%+v (%v)", got.RunSummary, err)
		}
		points, err := store.Curve(t.Context(), run.ID(), "Acc", 100)
		if err != nil || len(points) != 100 || points[99].Value != -100 {
			t.Errorf("the curve has %d points (%v)", len(points), err)
		}
		for where, want := range map[string]int{"acc == 100": 1, "Acc == -100": 1, "Acc == 100": 0, "ACC == NaN": 1, "'Base' in tags": 1, "'BASE' in tags": 0, "optimizer.LR > optimizer.lr": 1} {
			if runs, err := store.Runs(t.Context(), Query{Where: where}); err != nil || len(runs) != want {
				t.Errorf("%s: %d runs (%v)", where, len(runs), err)
			}
		}
	}
}

// On a network file system, WAL would damage the store: a store there uses SQLite's
// rollback journal, even if it was copied from a local disk.
func TestNetworkFileSystem(t *testing.T) {
	ctx := context.Background()
	local := fourRuns(t)
	if err := local.Close(); err != nil {
		t.Fatal(err)
	}
	here := networkFileSystem
	t.Cleanup(func() { networkFileSystem = here })
	networkFileSystem = func(string) string { return "NFS" }
	if _, err := OpenReadOnly(local.Path()); err == nil {
		t.Error("a store in WAL mode was opened for reading")
	}
	read, err := OpenCurrent(local.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	for _, s := range []*Store{openStore(t, local.Path()), newStore(t)} {
		run := startRun(t, s, NewRun{Name: "r"})
		logSteps(t, run, 1, 100)
		if runs, err := read.Runs(ctx, Query{}); err != nil || len(runs) < 4 {
			t.Errorf("a reader beside a writer: %d runs (%v)", len(runs), err)
		}
		if err := run.Finish(Finished, ""); err != nil {
			t.Fatal(err)
		}
		var mode string
		if err := s.write.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil || mode != "delete" {
			t.Errorf("journal mode %s (%v)", mode, err)
		}
		if _, err := os.Stat(s.Path() + "-wal"); err == nil {
			t.Error("there is a write-ahead log")
		}
		checkWhole(t, s.Path(), "r", 100)
	}
}
