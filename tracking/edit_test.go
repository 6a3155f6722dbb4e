package tracking

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestTagAndNote(t *testing.T) {
	s := fourRuns(t)
	ctx := context.Background()
	if err := s.Tag(ctx, "a", []string{"x", "x", "'; --"}, []string{"baseline", "absent"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Note(ctx, "a", "two\nlines"); err != nil {
		t.Fatal(err)
	}
	run, err := s.Run(ctx, "a")
	if err != nil || !slices.Equal(run.Tags, []string{"'; --", "x"}) || run.Note != "two\nlines" {
		t.Errorf("tags %q, note %q (%v)", run.Tags, run.Note, err)
	}
	if err := s.Tag(ctx, "nobody", nil, nil); !errors.Is(err, ErrNoRun) {
		t.Error(err)
	}
}

func TestRemoveAndCollect(t *testing.T) {
	s := fourRuns(t)
	ctx := context.Background()
	live := startRun(t, s, NewRun{ID: "live"})
	dead := startRun(t, s, NewRun{ID: "dead"})
	dead.Log(Point{Step: 1, Values: map[string]float64{"train_loss": 1}})
	if err := dead.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, live.ID()); !errors.Is(err, ErrStillRunning) {
		t.Errorf("a running run was removed: %v", err)
	}
	if _, err := s.write.Exec("UPDATE runs SET process_start = 1 WHERE id = 'dead'"); err != nil {
		t.Fatal(err)
	}
	g, err := s.FindGarbage(ctx)
	if err != nil || len(g.Crashed) != 1 || g.Crashed[0].ID != "dead" || len(g.Removed) != 0 {
		t.Errorf("garbage %+v (%v)", g, err)
	}
	if err := s.Collect(ctx, g, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if run, err := s.Run(ctx, "dead"); err != nil || run.Status != Crashed || run.Reason == "" || run.Ended.IsZero() {
		t.Errorf("after collecting: %+v (%v)", run.RunSummary, err)
	}
	for _, id := range []string{"dead", "b"} {
		if err := s.Remove(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if g, err = s.FindGarbage(ctx); err != nil || !slices.Equal(g.Removed, []string{"b", "dead"}) || len(g.Crashed) != 0 {
		t.Errorf("garbage %+v (%v)", g, err)
	}
	if err := s.Collect(ctx, g, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if g, err = s.FindGarbage(ctx); err != nil || len(g.Removed)+len(g.Crashed) != 0 || g.Bytes != 0 {
		t.Errorf("garbage after collecting %+v (%v)", g, err)
	}
	for _, table := range []string{"run_settings", "run_points", "run_spans", "run_summaries", "run_tags", "run_events"} {
		var orphans int
		err := s.read.QueryRow("SELECT count(*) FROM " + table + " WHERE run NOT IN (SELECT number FROM runs)").Scan(&orphans)
		if err != nil || orphans != 0 {
			t.Errorf("%s: %d rows of removed runs (%v)", table, orphans, err)
		}
	}
	if err := live.Log(Point{Step: 1, Values: map[string]float64{"val_ppl": 3}}); err != nil {
		t.Fatal(err)
	}
	if err := live.Finish(Finished, ""); err != nil {
		t.Errorf("a run that was live while others were collected: %v", err)
	}
}

// Whatever a store calls a removed run, gc deletes nothing but the folders of runs.
func TestGarbageFoldersAreRuns(t *testing.T) {
	root := t.TempDir()
	id := NewID(time.Now())
	for _, name := range []string{".git", "src", id} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	g := Garbage{Removed: []string{"", ".", "..", ".git", "src", "../" + filepath.Base(root), "/etc", id}}
	if folders, err := g.Folders(root); err != nil || len(folders) != 1 || folders[0] != filepath.Join(root, id) {
		t.Errorf("%v (%v)", folders, err)
	}
}
