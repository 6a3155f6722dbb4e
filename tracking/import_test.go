package tracking

import (
	"context"
	"os"
	"slices"
	"testing"
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
