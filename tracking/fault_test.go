package tracking

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// checkWhole requires a store that passes SQLite's integrity check and holds the
// given number of points of run name.
func checkWhole(t *testing.T, path, name string, points int) {
	t.Helper()
	s, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var verdict string
	if err := s.read.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity: %s (%v)", verdict, err)
	}
	var got int
	err = s.read.QueryRow("SELECT count(*) FROM metrics WHERE run = (SELECT id FROM runs WHERE name = ?)", name).Scan(&got)
	if err != nil || got != points {
		t.Errorf("%d points of %s, want %d (%v)", got, name, points, err)
	}
	checkSpans(t, s)
}

func logSteps(t *testing.T, run *Run, from, to int64) {
	t.Helper()
	for step := from; step <= to; step++ {
		if err := run.Log(Point{Step: step, Values: map[string]float64{"train_loss": float64(step)}}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStoreDeletedWhileInUse(t *testing.T) {
	for _, files := range []string{"koala.db*", "koala.db"} {
		s := newStore(t)
		ctx := context.Background()
		run := startRun(t, s, NewRun{Name: "r", Tags: []string{"kept"}, Settings: map[string]any{"a.b": true}})
		logSteps(t, run, 1, 100)
		if err := run.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if run.Moved() {
			t.Error("the run moved while its store was there")
		}
		for range 2 {
			found, err := filepath.Glob(filepath.Join(filepath.Dir(s.Path()), files))
			if err != nil || len(found) == 0 {
				t.Fatal(err)
			}
			for _, file := range found {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
			logSteps(t, run, 101, 200)
			if err := run.Flush(ctx); err != nil || !run.Moved() {
				t.Fatal(run.Moved(), err)
			}
		}
		logSteps(t, run, 201, 300)
		if err := run.Finish(Finished, ""); err != nil {
			t.Fatal(err)
		}
		checkWhole(t, s.Path(), "r", 300)
		again, err := OpenReadOnly(s.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		got, err := again.Run(ctx, run.ID())
		if err != nil || got.Status != Finished || got.Settings["a.b"] != true || got.Tags[0] != "kept" ||
			got.Metrics["train_loss"] != (Summary{Step: 300, Last: 300, BestStep: 1, Best: 1}) {
			t.Errorf("%+v (%v)", got.RunSummary, err)
		}
		if kinds := len(got.Events); kinds != 4 || got.Events[1].Kind != "moved" {
			t.Errorf("events %+v", got.Events)
		}
	}
}

func TestStoreReplacedWhileInUse(t *testing.T) {
	s := newStore(t)
	other := newStore(t)
	for range 3 { // runs and metrics get other numbers there
		run := startRun(t, other, NewRun{Name: "other"})
		run.Log(Point{Step: 1, Values: map[string]float64{"another": 1}})
		if err := run.Finish(Finished, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	run := startRun(t, s, NewRun{Name: "r"})
	logSteps(t, run, 1, 100)
	if err := run.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other.Path(), s.Path()); err != nil {
		t.Fatal(err)
	}
	logSteps(t, run, 101, 200)
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, s.Path(), "r", 200)
	checkWhole(t, s.Path(), "other", 1)
	runs, err := openStore(t, s.Path()).Runs(context.Background(), Query{})
	if err != nil || len(runs) != 4 {
		t.Errorf("%d runs, want the 3 that were there and the one taken along (%v)", len(runs), err)
	}
}

func TestStoreReplacedByGarbage(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	run := startRun(t, s, NewRun{Name: "r"})
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("precious text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(garbage, s.Path()); err != nil {
		t.Fatal(err)
	}
	logSteps(t, run, 1, 10)
	if err := run.Flush(ctx); !errors.Is(err, ErrReplaced) || !errors.Is(err, ErrNotAStore) || run.Err() == nil {
		t.Errorf("%v, %v", err, run.Err())
	}
	if text, _ := os.ReadFile(s.Path()); string(text) != "precious text" {
		t.Error("the file was changed")
	}
	if err := os.Remove(s.Path()); err != nil {
		t.Fatal(err)
	}
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, s.Path(), "r", 10)
}

func TestFullDisk(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	run := startRun(t, s, NewRun{Name: "r"})
	// SQLite answers as on a full disk when the file may not grow.
	var pages int
	if err := s.write.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) {
		t.Helper()
		var set int
		if err := s.write.QueryRow("PRAGMA max_page_count = " + strconv.Itoa(n)).Scan(&set); err != nil {
			t.Fatal(err)
		}
	}
	limit(pages)
	logSteps(t, run, 1, 5000)
	err := run.Flush(ctx)
	if err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("%v", err)
	}
	if _, err := s.Run(ctx, "r"); err != nil {
		t.Errorf("the store cannot be read: %v", err)
	}
	if run.Err() == nil {
		t.Error("a full disk goes unnoticed")
	}
	limit(1 << 30)
	logSteps(t, run, 5001, 6000)
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, s.Path(), "r", 6000)
}

func TestClockJumps(t *testing.T) {
	s := newStore(t)
	clock := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return clock }
	run := startRun(t, s, NewRun{Name: "r"})
	for step, jump := range []time.Duration{time.Second, -48 * time.Hour, 72 * time.Hour, -time.Hour} {
		clock = clock.Add(jump)
		logSteps(t, run, int64(step+1), int64(step+1))
	}
	clock = clock.Add(-24 * time.Hour)
	if err := run.Finish(Interrupted, ""); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(-24 * time.Hour)
	ctx := context.Background()
	run, err := s.ResumeRun(ctx, run.ID(), 4, Resume{})
	if err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(time.Second)
	logSteps(t, run, 5, 5)
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	var last Logged
	err = s.Points(ctx, run.ID(), "train_loss", func(p Logged) error {
		if p.Step <= last.Step || p.Seconds < 0 {
			t.Errorf("step %d after %v s, behind step %d", p.Step, p.Seconds, last.Step)
		}
		last = p
		return nil
	})
	if err != nil || last.Step != 5 {
		t.Errorf("the last step is %d (%v)", last.Step, err)
	}
	got, err := s.Run(ctx, "r")
	if err != nil || got.Seconds < 0 || got.Metrics["train_loss"].Last != 5 {
		t.Errorf("%+v (%v)", got.RunSummary, err)
	}
	if resumed := got.Events[2].Message; !strings.Contains(resumed, "0s after it was left interrupted") {
		t.Errorf("the pause: %s", resumed)
	}
}

func TestBackupWhileInUse(t *testing.T) {
	s := newStore(t)
	run := startRun(t, s, NewRun{Name: "r"})
	logSteps(t, run, 1, 1000)
	if err := run.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for step := int64(1001); ; step++ {
			select {
			case <-stop:
				return
			default:
			}
			run.Log(Point{Step: step, Values: map[string]float64{"train_loss": 1}})
			if step%100 == 0 {
				run.Flush(context.Background())
			}
		}
	}()
	target := filepath.Join(t.TempDir(), "what's this?.db")
	for range 3 {
		if err := s.Backup(context.Background(), target); err != nil {
			t.Fatal(err)
		}
		copied := openStore(t, target)
		var points, last int
		if err := copied.read.QueryRow("SELECT count(*), max(step) FROM metrics").Scan(&points, &last); err != nil || points != last || points < 1000 {
			t.Errorf("%d points to step %d (%v)", points, last, err)
		}
		copied.Close()
		checkWhole(t, target, "r", points)
	}
	close(stop)
	<-stopped
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(target), ".backup-*")); len(left) != 0 {
		t.Errorf("left beside it: %v", left)
	}
}
