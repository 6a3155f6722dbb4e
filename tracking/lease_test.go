package tracking

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A process is paused until it counts as crashed, another process takes the run
// over, and the first continues. Only one of them writes, and no row is lost or
// doubled.
func TestOnlyOneProcessWritesARun(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "koala.db")
	s := openStore(t, path)
	for round := range 50 {
		cmd, out, stderr := startTrainer(t, path, "KOALA_TRACKING_ENDLESS=1")
		var id string
		var step int64
		for batches := 0; batches <= round%3 && out.Scan(); batches++ {
			if _, err := fmt.Sscan(out.Text(), &id, &step); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
			t.Fatalf("the trainer is not paused: %v (%v)", status, err)
		}
		// As seen from another host: its heartbeat is old. A transaction that the pause
		// interrupted holds the write lock until the process continues.
		if _, err := s.write.Exec("PRAGMA busy_timeout = 200"); err != nil {
			t.Fatal(err)
		}
		_, err := s.write.Exec("UPDATE runs SET host = 'elsewhere', heartbeat = '2001-01-01T00:00:00.000Z' WHERE id = ?", id)
		if err != nil && isBusy(err) {
			endTrainer(t, cmd)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		run, err := s.ResumeRun(ctx, id, step, Resume{})
		if err != nil {
			t.Fatal(err)
		}
		logSteps(t, run, step+1, step+100)
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		for out.Scan() { // the steps that the trainer flushed before the pause
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitTakenOver {
			t.Errorf("round %d: the paused trainer ended with %v: %s", round, err, stderr)
		}
		if err := run.Finish(Finished, ""); err != nil {
			t.Fatal(err)
		}
		want := int64(0)
		err = s.Points(ctx, id, "train_loss", func(p Logged) error {
			if want++; p.Step != want || p.Value != float64(want) {
				return fmt.Errorf("step %d is %+v", want, p)
			}
			return nil
		})
		if err != nil || want != step+100 {
			t.Errorf("round %d: %d steps, want %d (%v)", round, want, step+100, err)
		}
	}
	checkSpans(t, s)
}

// endTrainer kills a paused trainer.
func endTrainer(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	cmd.Wait()
}

func TestTakenOverRunWritesNothing(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	first := startRun(t, s, NewRun{Name: "r"})
	logSteps(t, first, 1, 10)
	if err := first.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.write.Exec("UPDATE runs SET process_start = 1"); err != nil {
		t.Fatal(err)
	}
	second, err := openStore(t, s.Path()).ResumeRun(ctx, first.ID(), 5, Resume{})
	if err != nil {
		t.Fatal(err)
	}
	logSteps(t, first, 11, 20)
	if err := first.Event("note", "lost"); err != nil {
		t.Fatal(err)
	}
	if err := first.Flush(ctx); !errors.Is(err, ErrTakenOver) {
		t.Errorf("flush: %v", err)
	}
	if err := first.Log(Point{Step: 21}); !errors.Is(err, ErrTakenOver) {
		t.Errorf("log: %v", err)
	}
	if err := first.Finish(Failed, "lost"); !errors.Is(err, ErrTakenOver) {
		t.Errorf("finish: %v", err)
	}
	logSteps(t, second, 6, 8)
	if err := second.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	got, err := s.Run(ctx, first.ID())
	if err != nil || got.Status != Finished || got.Metrics["train_loss"].Step != 8 || len(got.Events) != 3 {
		t.Errorf("%+v, events %+v (%v)", got.RunSummary, got.Events, err)
	}
}

// What a process does while it owns its run ends before another can take the run over.
// After a takeover it is not done.
func TestWhileOwned(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	first := startRun(t, s, NewRun{Name: "r"})
	logSteps(t, first, 1, 10)
	if err := first.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	other := openStore(t, s.Path())
	for _, statement := range []string{"PRAGMA busy_timeout = 50", "UPDATE runs SET process_start = 1"} {
		if _, err := other.write.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	failed := errors.New("failed")
	err := first.WhileOwned(func() error {
		if _, err := other.ResumeRun(ctx, first.ID(), 5, Resume{}); !isBusy(err) {
			t.Errorf("taken over meanwhile: %v", err)
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("the error is %v", err)
	}
	second, err := other.ResumeRun(ctx, first.ID(), 5, Resume{})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.WhileOwned(func() error { t.Error("called after the takeover"); return nil }); !errors.Is(err, ErrTakenOver) {
		t.Errorf("after the takeover: %v", err)
	}
	if err := first.Finish(Failed, "lost"); !errors.Is(err, ErrTakenOver) {
		t.Errorf("finish: %v", err)
	}
	// A store that takes no writes keeps nobody from doing their work.
	if err := os.Rename(s.Path(), s.Path()+".away"); err != nil {
		t.Fatal(err)
	}
	called := false
	if err := second.WhileOwned(func() error { called = true; return nil }); err != nil || !called {
		t.Errorf("with the store away: called %v, %v", called, err)
	}
	if err := os.Rename(s.Path()+".away", s.Path()); err != nil {
		t.Fatal(err)
	}
	if err := second.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
}

// A run says that its store, or the log beside it, was emptied or overwritten, and writes
// nothing into it.
func TestOverwrittenStore(t *testing.T) {
	ctx := context.Background()
	for name, harm := range map[string]func(path string) error{
		"emptied":         func(path string) error { return os.Truncate(path, 0) },
		"cut":             func(path string) error { return os.Truncate(path, 8192) },
		"written over":    func(path string) error { return os.WriteFile(path, make([]byte, 1<<20), 0o644) },
		"log emptied":     func(path string) error { return os.Truncate(path+"-wal", 0) },
		"log cut":         func(path string) error { return os.Truncate(path+"-wal", 4096) },
		"checkpointed":    nil,
		"smaller by SQL":  nil,
		"nothing happens": nil,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			run := startRun(t, s, NewRun{Name: "r"})
			for step := int64(1); step < 20; step += 10 { // the store has pages in its file, and others in its log
				logSteps(t, run, step, step+9)
				if err := run.Flush(ctx); err != nil {
					t.Fatal(err)
				}
				if step > 1 {
					continue
				}
				if _, err := s.write.Exec("PRAGMA wal_checkpoint"); err != nil {
					t.Fatal(err)
				}
			}
			switch name {
			case "checkpointed":
				var busy, frames, copied int
				if err := openStore(t, s.Path()).write.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &copied); err != nil || busy > 0 {
					t.Fatal(busy, err)
				}
			case "smaller by SQL":
				other := openStore(t, s.Path()).write
				for _, statement := range []string{"CREATE TABLE large(x)", "INSERT INTO large VALUES (zeroblob(1000000))", "PRAGMA wal_checkpoint", "DROP TABLE large", "VACUUM", "PRAGMA wal_checkpoint"} {
					if _, err := other.Exec(statement); err != nil {
						t.Fatal(err)
					}
					logSteps(t, run, 21, 22)
					if err := run.Flush(ctx); err != nil {
						t.Errorf("after %s: %v", statement, err)
					}
				}
			}
			var want error
			if harm != nil {
				want = ErrOverwritten
				if err := harm(s.Path()); err != nil {
					t.Fatal(err)
				}
			}
			before := fileSizes(t, s.Path())
			logSteps(t, run, 31, 40)
			if err := run.Flush(ctx); !errors.Is(err, want) || !errors.Is(run.Err(), want) {
				t.Errorf("flush: %v, %v", err, run.Err())
			}
			if err := run.Finish(Finished, ""); !errors.Is(err, want) {
				t.Errorf("finish: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if after := fileSizes(t, s.Path()); harm != nil && before != after {
				t.Errorf("the files were written: they had %d bytes, and have %d", before, after)
			}
		})
	}
}

// fileSizes are those of a store and its log.
func fileSizes(t *testing.T, path string) (sizes [2]int64) {
	t.Helper()
	for i, name := range []string{path, path + "-wal"} {
		if info, err := os.Stat(name); err == nil {
			sizes[i] = info.Size()
		}
	}
	return sizes
}

// A writer of a deleted store does not copy its run over the new file at that path
// if another process has taken the run over there.
func TestTakenOverRunIsNotRelocated(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	first := startRun(t, s, NewRun{Name: "r"})
	logSteps(t, first, 1, 10)
	if err := first.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := s.Backup(ctx, copied); err != nil {
		t.Fatal(err)
	}
	other := openStore(t, copied)
	if _, err := other.write.Exec("UPDATE runs SET process_start = 1"); err != nil {
		t.Fatal(err)
	}
	second, err := other.ResumeRun(ctx, first.ID(), 5, Resume{})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Rename(copied, s.Path()); err != nil {
		t.Fatal(err)
	}
	logSteps(t, first, 11, 20)
	if err := first.Flush(ctx); !errors.Is(err, ErrTakenOver) {
		t.Errorf("flush: %v", err)
	}
}
