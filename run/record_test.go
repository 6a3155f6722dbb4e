package run

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/tracking"
)

// Each kind of store failure is reported once, and training continues.
func TestTroubleWithTheStoreIsTold(t *testing.T) {
	ctx := context.Background()
	store, err := tracking.Open(filepath.Join(t.TempDir(), "koala.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	run, err := store.StartRun(ctx, tracking.NewRun{})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	r := &recorder{run: run, warn: func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }}
	log := func(step int64) {
		t.Helper()
		for range 2 {
			if err := r.log(step, step, map[string]float64{"train_loss": 1}); err != nil {
				t.Fatal(err)
			}
			_ = run.Flush(ctx)
		}
	}
	log(1)
	if len(told) > 0 {
		t.Errorf("of a store that is well it said %q", told)
	}
	if err := os.Remove(store.Path()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(store.Path(), []byte("no store"), 0o644); err != nil {
		t.Fatal(err)
	}
	log(2)
	if err := os.Remove(store.Path()); err != nil {
		t.Fatal(err)
	}
	log(3)
	log(4)
	if err := run.Finish(tracking.Finished, ""); err != nil {
		t.Fatal(err)
	}
	if len(told) != 2 || !strings.Contains(told[0], "wait in memory") || !strings.Contains(told[1], "deleted or replaced") {
		t.Errorf("it said %q", told)
	}
}

// BenchmarkLogged measures how long the training loop waits for logging a row
// of a dozen metrics, once in logEvery steps.
func BenchmarkLogged(b *testing.B) {
	store, err := tracking.Open(filepath.Join(b.TempDir(), "koala.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	run, err := store.StartRun(context.Background(), tracking.NewRun{})
	if err != nil {
		b.Fatal(err)
	}
	r := &recorder{run: run, warn: func(format string, args ...any) { b.Errorf(format, args...) }}
	event := lm.Log{Nats: 5, TokensPerSecond: 1000}
	event.Step.Optimizer.Sigma = 1
	for b.Loop() {
		if event.Step.Step += 10; event.Step.Step%10_000 == 0 { // a training loop is slower than the store
			b.StopTimer()
			if err := run.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		if err := r.Logged(event); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := run.Finish(tracking.Finished, ""); err != nil {
		b.Fatal(err)
	}
}
