package main

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/data/prepare"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/tracking"
)

// awaitCheckpoint returns once a run has a checkpoint.
func (w *workshop) awaitCheckpoint() { w.awaitCheckpoints(1) }

// awaitCheckpoints returns once a run has so many.
func (w *workshop) awaitCheckpoints(n int) {
	w.t.Helper()
	await(w.t, "a checkpoint", func() bool {
		found, _ := filepath.Glob(filepath.Join(w.runs, "*", "checkpoints", "step-*"))
		return len(found) >= n
	})
}

func TestInterrupt(t *testing.T) {
	s := long(t)
	for _, signals := range [][]syscall.Signal{
		{syscall.SIGINT}, {syscall.SIGHUP},
		{syscall.SIGSTOP, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCONT}, // two at once are one
	} {
		if signal.Ignored(signals[0]) {
			continue // as under nohup, which what the tests start inherits
		}
		w, want := fresh(t)
		p := w.train(w.request(s, ""))
		w.awaitCheckpoint()
		for _, sent := range signals {
			if err := p.Process.Signal(sent); err != nil {
				t.Fatal(err)
			}
		}
		p.mustEnd(t, exit.Interrupted)
		run, _ := w.run()
		if run.Status != tracking.Interrupted {
			t.Errorf("%v: the run is %s", signals, run.Status)
		}
		if said := p.stderr.String(); !strings.Contains(said, "--resume "+run.ID) || strings.Count(said, "\n") != 1 {
			t.Errorf("%v: it said:\n%s", signals, said)
		}
		w.train(w.request(s, run.ID)).mustEnd(t, exit.OK)
		if diff := cmp.Diff(want, w.ended()); diff != "" {
			t.Errorf("%v (-left alone +interrupted):\n%s", signals, diff)
		}
	}
}

// A run whose loss is not a number ends with a line that says what to do. Its
// last finite state is saved.
func TestDivergence(t *testing.T) {
	w := newWorkshop(t)
	p := w.train(w.request(settings(t, "optimizer.kind=sgd", "optimizer.lr=1e38", "train.clip=0", "optimizer.max_skipped=3"), ""))
	p.mustEnd(t, exit.Failed)
	run, _ := w.run()
	for _, said := range []string{p.stderr.String(), run.Reason} {
		if !strings.Contains(said, "4 steps in a row") || !strings.Contains(said, "lower optimizer.lr") {
			t.Errorf("it said %q", said)
		}
	}
	if run.Status != tracking.Failed {
		t.Errorf("the run is %s", run.Status)
	}
}

// A damaged checkpoint is named, and the run resumes from the previous one.
func TestResumeFromTheOneBefore(t *testing.T) {
	s := long(t)
	w, want := fresh(t)
	p := w.train(w.request(s, ""))
	w.awaitCheckpoints(2)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.code(t)
	run, _ := w.run()
	newest := w.damageNewest(run.ID)
	p = w.train(w.request(s, run.ID))
	p.mustEnd(t, exit.OK)
	if said := p.stderr.String(); !strings.Contains(said, newest+" cannot be used: its checksum") {
		t.Errorf("it said:\n%s", said)
	}
	if diff := cmp.Diff(want, w.ended()); diff != "" {
		t.Errorf("(-left alone +resumed):\n%s", diff)
	}
}

// A run that was killed before its first checkpoint starts again.
func TestResumeWithoutCheckpoint(t *testing.T) {
	s := long(t, "checkpoint.every=1000", "checkpoint.interval=0")
	w, want := fresh(t)
	p := w.train(w.request(s, ""))
	await(t, "the run in the store", func() bool {
		_, ok := w.run()
		return ok
	})
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.code(t)
	run, _ := w.run()
	if err := os.RemoveAll(w.checkpoints(run.ID)); err != nil { // one may have been in time
		t.Fatal(err)
	}
	p = w.train(w.request(s, run.ID))
	p.mustEnd(t, exit.OK)
	if said := p.stderr.String(); !strings.Contains(said, "starts at step 0") {
		t.Errorf("it said:\n%s", said)
	}
	if diff := cmp.Diff(want, w.ended()); diff != "" {
		t.Errorf("(-left alone +resumed):\n%s", diff)
	}
}

// A run that was killed after its last evaluation still ends beside the n-gram model.
func TestResumeAfterTheLastEvaluation(t *testing.T) {
	s := settings(t, "train.steps=20")
	w := newWorkshop(t)
	w.train(w.request(s, "")).mustEnd(t, exit.OK)
	want := w.ended()
	db, err := sql.Open("sqlite3", "file:"+w.store)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, script := range []string{`UPDATE runs SET status = 'crashed'`, `DELETE FROM run_points WHERE metric IN (SELECT metric FROM metric_names WHERE name LIKE '%ngram%')`,
		`DELETE FROM run_summaries WHERE metric IN (SELECT metric FROM metric_names WHERE name LIKE '%ngram%')`} {
		changed, err := db.Exec(script)
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := changed.RowsAffected(); n == 0 {
			t.Fatalf("%s changes nothing", script)
		}
	}
	run, _ := w.run()
	w.train(w.request(s, run.ID)).mustEnd(t, exit.OK)
	if diff := cmp.Diff(want, w.ended()); diff != "" {
		t.Errorf("(-left alone +resumed):\n%s", diff)
	}
}

// A checkpoint tells no place on its machine, and finds its dataset beside it.
func TestCheckpointTellsNoPlace(t *testing.T) {
	w := newWorkshop(t)
	w.train(w.request(settings(t, "train.steps=20"), "")).mustEnd(t, exit.OK)
	run, _ := w.run()
	f, _, err := checkpoint.Latest(w.checkpoints(run.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Dataset() != w.data {
		t.Errorf("its dataset is %s, want %s", f.Dataset(), w.data)
	}
	content, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	if folder := filepath.Dir(w.data); bytes.Contains(content, []byte(folder)) {
		t.Errorf("the file names %s", folder)
	}
	f.State.Origin.Dataset = "/older/files/have/it"
	if f.Dataset() != "/older/files/have/it" {
		t.Errorf("an older file's dataset is %s", f.Dataset())
	}
}

// A fork starts from its parent's weights, and records its parent.
func TestFork(t *testing.T) {
	w := newWorkshop(t)
	w.train(w.request(settings(t, "train.steps=20"), "")).mustEnd(t, exit.OK)
	parent, _ := w.run()
	r := w.request(settings(t, "train.steps=20", "optimizer.kind=adam"), "")
	r.Fork = parent.ID
	w.train(r).mustEnd(t, exit.OK)
	child, _ := w.run()
	if child.Parent != parent.ID {
		t.Errorf("the parent is %q, want %q", child.Parent, parent.ID)
	}
	if before, after := parent.Metrics["val_loss"].Last, child.Metrics["val_loss"].Best; !(after < before) {
		t.Errorf("val_loss was %v and is at best %v", before, after)
	}
	// The weights do not fit another tokenizer.
	r.Data = filepath.Join(t.TempDir(), "data")
	opts := prepare.Options{Paths: []string{filepath.Join(filepath.Dir(w.data), "text.txt")}, Out: r.Data, Tokenizer: "char"}
	if _, err := prepare.Run(context.Background(), opts); err != nil {
		t.Fatal(err)
	}
	p := w.train(r)
	p.mustEnd(t, exit.Failed)
	if said := p.stderr.String(); !strings.Contains(said, "another tokenizer") {
		t.Errorf("it said:\n%s", said)
	}
}
