package tracking

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestMain makes the test binary a training process when the environment says so.
func TestMain(m *testing.M) {
	if path := os.Getenv("KOALA_TRACKING_TRAINS_INTO"); path != "" {
		if err := trainInto(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			if errors.Is(err, ErrTakenOver) {
				os.Exit(exitTakenOver)
			}
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// exitTakenOver is the exit code of a trainer that lost its run.
const exitTakenOver = 3

// A trainer flushes every trainerBatch steps and prints "ID STEP" after each flush.
const (
	trainerSteps = 600
	trainerBatch = 50
)

// trainInto logs trainerSteps steps. With KOALA_TRACKING_ENDLESS it never ends.
func trainInto(path string) error {
	ctx := context.Background()
	s, err := Open(path)
	if err != nil {
		return err
	}
	defer s.Close()
	run, err := s.StartRun(ctx, NewRun{Name: "trainer", Settings: map[string]any{"a": 1}})
	if err != nil {
		return err
	}
	endless := os.Getenv("KOALA_TRACKING_ENDLESS") != ""
	values := map[string]float64{"train_loss": 0, "train_ppl": 0, "lr": 0, "grad_norm": 0, "tokens_per_second": 0}
	for step := int64(1); endless || step <= trainerSteps; step++ {
		for name := range values {
			values[name] = float64(step)
		}
		if err := run.Log(Point{Step: step, Tokens: step, Values: values}); err != nil {
			return err
		}
		if step%trainerBatch == 0 {
			if err := run.Flush(ctx); err != nil {
				return err
			}
			fmt.Println(run.ID(), step)
		}
	}
	return run.Finish(Finished, "")
}

// startTrainer starts a process that trains into the store at path.
func startTrainer(t *testing.T, path string, environment ...string) (cmd *exec.Cmd, out *bufio.Scanner, stderr *strings.Builder) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "KOALA_TRACKING_TRAINS_INTO="+path), environment...)
	stderr = &strings.Builder{}
	cmd.Stderr = stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(pipe), stderr
}

// Many processes write into one store, some are killed, and others read: no row is
// lost or doubled, and nobody meets a locked database.
func TestManyProcesses(t *testing.T) {
	const finishing, victims = 3, 3
	path := filepath.Join(t.TempDir(), "koala.db")
	var mu sync.Mutex
	flushed := map[string]int64{} // last step that must be in the store, by killed run
	var trainers sync.WaitGroup
	for range finishing {
		cmd, out, stderr := startTrainer(t, path)
		trainers.Go(func() {
			for out.Scan() {
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("a trainer failed: %v: %s", err, stderr)
			}
		})
	}
	for i := range victims {
		cmd, out, stderr := startTrainer(t, path, "KOALA_TRACKING_ENDLESS=1")
		trainers.Go(func() {
			var id string
			var step int64
			for batches := 0; batches <= i && out.Scan(); batches++ {
				if _, err := fmt.Sscan(out.Text(), &id, &step); err != nil {
					t.Errorf("a trainer printed %q: %v", out.Text(), err)
				}
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			if err := cmd.Wait(); err == nil || step == 0 {
				t.Errorf("a victim ended by itself after step %d: %s", step, stderr)
			}
			mu.Lock()
			defer mu.Unlock()
			flushed[id] = step
		})
	}
	ended := make(chan struct{})
	var readers sync.WaitGroup
	reads := 0
	readers.Go(func() {
		for {
			select {
			case <-ended:
				return
			default:
			}
			s, err := OpenReadOnly(path)
			if err != nil {
				continue // no process has made it yet
			}
			if _, err := s.Runs(context.Background(), Query{Where: "steps >= 0"}); err != nil {
				t.Errorf("a reader: %v", err)
			}
			s.Close()
			reads++
		}
	})
	trainers.Wait()
	close(ended)
	readers.Wait()
	if reads == 0 {
		t.Error("nobody read while the trainers wrote")
	}

	s := openStore(t, path)
	runs, err := s.Runs(context.Background(), Query{})
	if err != nil {
		t.Fatal(err)
	}
	count := map[Status]int{}
	for _, run := range runs {
		count[run.Status]++
		for _, metric := range []string{"train_loss", "grad_norm"} {
			steps := int64(0)
			err := s.Points(context.Background(), run.ID, metric, func(p Logged) error {
				steps++
				if p.Step != steps || p.Value != float64(steps) {
					return fmt.Errorf("step %d of %s: %+v", steps, run.ID, p)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if run.Status == Finished && steps != trainerSteps || run.Status == Crashed && steps < flushed[run.ID] {
				t.Errorf("%s run %s has %d steps of %s, flushed %d", run.Status, run.ID, steps, metric, flushed[run.ID])
			}
		}
	}
	if count[Finished] != finishing || count[Crashed] != victims || len(runs) != finishing+victims {
		t.Errorf("statuses %v, want %d finished and %d crashed", count, finishing, victims)
	}
	checkSpans(t, s)
	var verdict string
	if err := s.read.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity: %s (%v)", verdict, err)
	}
}
