package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/tracking"
)

// BenchmarkLogged is what the loop waits for while a row of a dozen metrics is
// logged, once in logEvery steps.
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
		event.Step.Step += 10
		if err := r.Logged(event); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := run.Finish(tracking.Finished, ""); err != nil {
		b.Fatal(err)
	}
}
