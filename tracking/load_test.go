package tracking

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain makes the test binary a training process when it is asked to be one.
func TestMain(m *testing.M) {
	if path := os.Getenv("KOALA_TRACKING_TRAINS_INTO"); path != "" {
		if err := trainInto(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// trainInto logs as a fast training loop does for two seconds, or as long as
// KOALA_TRACKING_SECONDS says, and prints its id, its steps and its slowest call.
func trainInto(path string) error {
	lasting := 2.0
	if s, err := strconv.ParseFloat(os.Getenv("KOALA_TRACKING_SECONDS"), 64); err == nil {
		lasting = s
	}
	s, err := Open(path)
	if err != nil {
		return err
	}
	defer s.Close()
	run, err := s.StartRun(context.Background(), NewRun{Name: "trainer", Settings: map[string]any{"a": 1}})
	if err != nil {
		return err
	}
	values := map[string]float64{"train_loss": 0, "train_ppl": 0, "lr": 0, "grad_norm": 0, "tokens_per_second": 0}
	slowest, step := time.Duration(0), int64(0)
	for begin := time.Now(); time.Since(begin).Seconds() < lasting; {
		step++
		for name := range values {
			values[name] = float64(step)
		}
		before := time.Now()
		if err := run.Log(Point{Step: step, Tokens: step, Values: values}); err != nil {
			return err
		}
		slowest = max(slowest, time.Since(before))
		time.Sleep(5 * time.Millisecond)
	}
	if err := run.Finish(Finished, ""); err != nil {
		return err
	}
	fmt.Println(run.ID(), step, slowest.Microseconds())
	return nil
}

// Many processes write into one store, some of them are killed, and others read:
// no row may be lost or doubled, and nobody may meet a locked database.
func TestManyProcesses(t *testing.T) {
	const processes = 6
	path := filepath.Join(t.TempDir(), "koala.db")
	var mu sync.Mutex
	finished := map[string]int{}
	killed, slowest := 0, 0
	var trainers sync.WaitGroup
	for i := range processes {
		trainers.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "KOALA_TRACKING_TRAINS_INTO="+path)
			var errors strings.Builder
			cmd.Stderr = &errors
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Error(err)
				return
			}
			if err := cmd.Start(); err != nil {
				t.Error(err)
				return
			}
			if i%2 == 1 {
				time.Sleep(time.Duration(700+rand.IntN(900)) * time.Millisecond)
				cmd.Process.Kill()
			}
			var id string
			var steps, worst int
			line, _ := bufio.NewReader(out).ReadString('\n')
			_, scanErr := fmt.Sscan(line, &id, &steps, &worst)
			err = cmd.Wait()
			mu.Lock()
			defer mu.Unlock()
			if i%2 == 1 {
				killed++
				return
			}
			if err != nil || scanErr != nil {
				t.Errorf("a trainer failed: %v, %v: %s", err, scanErr, errors.String())
			}
			finished[id] = steps
			slowest = max(slowest, worst)
		})
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			s, err := OpenReadOnly(path)
			if err != nil {
				continue // not made yet
			}
			if _, err := s.Runs(context.Background(), Query{Where: "steps >= 0"}); err != nil {
				t.Errorf("a reader: %v", err)
			}
			s.Close()
		}
	})
	trainers.Wait()
	close(stop)
	readers.Wait()
	t.Logf("slowest call %d us", slowest)

	s := openStore(t, path)
	runs, err := s.Runs(context.Background(), Query{})
	if err != nil {
		t.Fatal(err)
	}
	crashed := 0
	for _, run := range runs {
		if run.Status == Crashed {
			crashed++
		} else if run.Status != Finished {
			t.Errorf("run %s is %s", run.ID, run.Status)
		}
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
			if want, ok := finished[run.ID]; ok && int64(want) != steps {
				t.Errorf("run %s has %d steps of %s, logged %d", run.ID, steps, metric, want)
			}
		}
	}
	if len(finished) != processes/2 || crashed > killed {
		t.Errorf("%d finished, %d crashed of %d killed", len(finished), crashed, killed)
	}
	checkSpans(t, s)
	var verdict string
	if err := s.read.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity: %s (%v)", verdict, err)
	}
}
