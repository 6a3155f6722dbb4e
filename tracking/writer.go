package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

const (
	// flushEvery keeps the promise that a power cut loses at most a second.
	flushEvery = 500 * time.Millisecond

	// finishPatience is how long Finish tries while the store takes no writes.
	finishPatience = 20 * time.Second
)

// ErrReplaced means that the file under the store's path is no longer the one
// that was opened: what is written to that one nobody will find.
var ErrReplaced = errors.New("the store was deleted or replaced while in use")

// writer is the background side of a run: the only goroutine that writes it.
type writer struct {
	run       *Run
	pending   batch
	names     []string // as far as the pending samples need them
	ids       []int64  // by place in names
	summaries []summary
	steps     int64 // how far the run has come
	tokens    int64
	lastWrite time.Time
}

// write runs until the run ends: it writes what is queued twice a second and
// otherwise a heartbeat. It goes on from the summaries of a resumed run.
func (r *Run) write(known []summary) {
	defer close(r.done)
	w := &writer{run: r, summaries: known, lastWrite: time.Now()}
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.writeIfDue()
		case <-r.wake:
			w.writeIfDue()
		case reply := <-r.flush:
			reply <- w.writeNow(nil)
		case end := <-r.end:
			w.finish(end)
			return
		}
	}
}

func (w *writer) writeIfDue() {
	w.take()
	if w.pending.empty() && time.Since(w.lastWrite) < HeartbeatEvery {
		return
	}
	w.writeNow(nil)
}

// finish tries until the store takes the last batch, or gives up.
func (w *writer) finish(end ending) {
	deadline := time.Now().Add(finishPatience)
	for w.writeNow(&end) != nil && time.Now().Before(deadline) {
		time.Sleep(flushEvery)
	}
}

// take moves the queue behind what could not be written so far.
func (w *writer) take() {
	r := w.run
	r.mu.Lock()
	defer r.mu.Unlock()
	w.pending.append(&r.queue)
	w.names = r.names
}

// writeNow commits all that is queued. After an error everything stays pending
// for the next attempt.
func (w *writer) writeNow(end *ending) error {
	w.take()
	err := w.commit(end)
	r := w.run
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	if err != nil {
		return err
	}
	r.backlog -= len(w.pending.samples)
	w.pending.clear()
	w.lastWrite = time.Now()
	close(r.room)
	r.room = make(chan struct{})
	return nil
}

func (w *writer) commit(end *ending) error {
	if err := w.run.store.checkFile(); err != nil {
		return err
	}
	ctx := context.Background()
	tx, err := w.run.store.write.BeginTx(ctx, nil)
	if err != nil {
		return explain(err)
	}
	defer tx.Rollback()
	next := *w // takes effect with the commit
	if err := next.writeBatch(ctx, tx, end); err != nil {
		return explain(err)
	}
	if err := tx.Commit(); err != nil {
		return explain(err)
	}
	w.ids, w.summaries, w.steps, w.tokens = next.ids, next.summaries, next.steps, next.tokens
	return nil
}

func (w *writer) writeBatch(ctx context.Context, tx *sql.Tx, end *ending) error {
	if err := w.nameMetrics(ctx, tx); err != nil {
		return fmt.Errorf("name metrics: %w", err)
	}
	if err := w.writeSamples(ctx, tx); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	if err := w.writeEvents(ctx, tx, end); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	return w.writeRun(ctx, tx, end)
}

func (w *writer) writeEvents(ctx context.Context, tx *sql.Tx, end *ending) error {
	events := slices.Clone(w.pending.events)
	if lost := w.pending.lost; lost.points > 0 {
		events = append(events, event{w.run.store.now(), "metrics lost", lost.message()})
	}
	if end != nil {
		events = append(events, event{end.at, "ended", end.message()})
	}
	for _, e := range events {
		if _, err := tx.ExecContext(ctx, eventInsertSQL, w.run.number, formatTime(e.at), e.kind, e.message); err != nil {
			return err
		}
	}
	return nil
}

// nameMetrics finds the ids of the metrics met since the last batch.
func (w *writer) nameMetrics(ctx context.Context, tx *sql.Tx) error {
	w.ids = slices.Clone(w.ids)
	for _, name := range w.names[len(w.ids):] {
		var id int64
		if err := tx.QueryRowContext(ctx, metricIDSQL, name, HigherIsBetter(name)).Scan(&id); err != nil {
			return err
		}
		w.ids = append(w.ids, id)
	}
	return nil
}

func (w *writer) writeSamples(ctx context.Context, tx *sql.Tx) error {
	if len(w.pending.samples) == 0 {
		return nil
	}
	insert, err := tx.PrepareContext(ctx, pointInsertSQL)
	if err != nil {
		return err
	}
	defer insert.Close()
	w.summaries = slices.Clone(w.summaries)
	for len(w.summaries) < len(w.ids) {
		w.summaries = append(w.summaries, newSummary())
	}
	changed := make([]bool, len(w.ids))
	for _, s := range w.pending.samples {
		_, err := insert.ExecContext(ctx, w.run.number, w.ids[s.metric], s.step, s.tokens, s.at, s.elapsed, null(s.value))
		if err != nil {
			return err
		}
		w.summaries[s.metric].add(s.step, s.value, HigherIsBetter(w.names[s.metric]))
		w.steps = max(w.steps, s.step)
		w.tokens = max(w.tokens, s.tokens)
		changed[s.metric] = true
	}
	for metric, s := range w.summaries {
		if !changed[metric] {
			continue
		}
		if _, err := tx.ExecContext(ctx, summaryUpsertSQL, s.args(w.run.number, w.ids[metric])...); err != nil {
			return err
		}
	}
	return nil
}

func (s summary) args(run, metric int64) []any {
	if best := null(s.best); best != nil {
		return []any{run, metric, s.step, null(s.value), s.bestStep, best}
	}
	return []any{run, metric, s.step, null(s.value), nil, nil}
}

// writeRun updates the run's own row: a sign of life, or its end.
func (w *writer) writeRun(ctx context.Context, tx *sql.Tx, end *ending) error {
	now := w.run.store.now()
	_, err := tx.ExecContext(ctx, runProgressSQL, sql.Named("run", w.run.number),
		sql.Named("heartbeat", formatTime(now)), sql.Named("seconds", w.run.elapsed(now).Seconds()),
		sql.Named("steps", w.steps), sql.Named("tokens", w.tokens))
	if err != nil || end == nil {
		return err
	}
	_, err = tx.ExecContext(ctx, runFinishSQL, sql.Named("run", w.run.number),
		sql.Named("status", string(end.status)), sql.Named("reason", end.reason),
		sql.Named("ended", formatTime(end.at)), sql.Named("seconds", w.run.elapsed(end.at).Seconds()))
	return err
}

// checkFile notices that the path no longer leads to the open file.
func (s *Store) checkFile() error {
	info, err := os.Stat(s.path)
	if err != nil || !os.SameFile(info, s.file) {
		return fmt.Errorf("%w: %s", ErrReplaced, s.path)
	}
	return nil
}
