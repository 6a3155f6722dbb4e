package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"
)

const (
	// Because of flushEvery, a power cut loses at most a second of metrics.
	flushEvery = 500 * time.Millisecond

	// finishPatience bounds how long Finish retries while the store refuses writes.
	finishPatience = 20 * time.Second
)

// ErrReplaced means that another file replaced the open store, and that the new
// file cannot be opened as a store.
var ErrReplaced = errors.New("the store was deleted or replaced while in use")

// ErrOverwritten means that another program has written into the open store or its log.
// Nothing is written to it any more: SQLite would take the pages that it remembers for
// the whole.
var ErrOverwritten = errors.New("another program has emptied or overwritten the store or its log, and runs are lost: put a copy in its place, or remove it")

// writer is the background part of a run. Once loop runs, only its goroutine writes
// the run.
type writer struct {
	run       *Run
	store     *Store
	number    int64 // of the run in the store
	lease     int64 // of this session, see ErrTakenOver
	owned     bool  // the writer itself opened the store, see relocate
	pending   batch
	names     []string // of the metrics in the pending samples
	progress  progress
	lastWrite time.Time
}

// loop writes the queue twice a second, or a heartbeat when it is empty, until
// the run ends.
func (w *writer) loop() {
	r := w.run
	defer close(r.done)
	defer w.release()
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.writeIfDue()
		case <-r.wake:
			w.writeIfDue()
		case task := <-r.tasks:
			task(w)
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

// finish retries the last batch until the store accepts it, at most for
// finishPatience.
func (w *writer) finish(end ending) {
	deadline := time.Now().Add(finishPatience)
	for {
		err := w.writeNow(&end)
		if err == nil || errors.Is(err, ErrNoRun) || errors.Is(err, ErrTakenOver) || errors.Is(err, ErrOverwritten) || time.Now().After(deadline) {
			return
		}
		time.Sleep(flushEvery)
	}
}

// take appends the queue to the pending batch.
func (w *writer) take() {
	r := w.run
	r.mu.Lock()
	defer r.mu.Unlock()
	w.pending.append(&r.queue)
	w.names = r.names
}

// writeNow commits the queue. After an error the batch stays pending for the next
// attempt.
func (w *writer) writeNow(end *ending) error {
	w.take()
	reached, err := w.commit(end)
	if err == nil {
		w.wrote(reached)
		return nil
	}
	w.run.mu.Lock()
	defer w.run.mu.Unlock()
	w.run.err = err
	return err
}

// checkLease returns ErrTakenOver unless the session with this lease still owns the
// run. It runs in the transaction that writes: no other session can begin between.
func checkLease(ctx context.Context, tx *sql.Tx, run, lease int64) error {
	var current, pid int64
	var host string
	err := tx.QueryRowContext(ctx, `SELECT lease, pid, host FROM runs WHERE number = ?`, run).Scan(&current, &pid, &host)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%w: another process removed it", ErrNoRun)
	case err != nil:
		return err
	case current != lease:
		return fmt.Errorf("%w: process %d on %s trains it now", ErrTakenOver, pid, host)
	}
	return nil
}

// whileOwned calls f in a transaction, whose write lock keeps others from taking over.
func (w *writer) whileOwned(f func() error) error {
	var failed error
	called := false
	err := w.store.update(context.Background(), func(tx *sql.Tx) error {
		if err := checkLease(context.Background(), tx, w.number, w.lease); err != nil {
			return err
		}
		failed, called = f(), true
		return nil
	})
	switch {
	case called:
		return failed
	case errors.Is(err, ErrTakenOver):
		return err
	}
	return f()
}

func (w *writer) commit(end *ending) (reached progress, err error) {
	ctx := context.Background()
	if w.store.overwritten(ctx) {
		return reached, ErrOverwritten
	}
	if w.store.replaced() {
		if err := w.relocate(ctx); err != nil {
			return reached, fmt.Errorf("%w: %w", ErrReplaced, err)
		}
	}
	err = w.store.update(ctx, func(tx *sql.Tx) (err error) {
		if err := checkLease(ctx, tx, w.number, w.lease); err != nil {
			return err
		}
		reached, err = w.put(ctx, tx, end)
		return err
	})
	return reached, err
}

// put writes the pending batch and returns the progress after the commit of tx.
func (w *writer) put(ctx context.Context, tx *sql.Tx, end *ending) (progress, error) {
	c := commit{ctx: ctx, tx: tx, run: w.run, number: w.number, names: w.names, late: math.MaxInt64, progress: w.progress.clone()}
	err := c.write(w.pending, end)
	return c.progress, err
}

// wrote clears the pending batch after its commit.
func (w *writer) wrote(reached progress) {
	w.progress, w.lastWrite = reached, time.Now()
	r := w.run
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = nil
	r.backlog -= len(w.pending.samples)
	w.pending.clear()
	close(r.room)
	r.room = make(chan struct{})
}

// release closes a store that the writer opened itself.
func (w *writer) release() {
	if w.owned {
		w.store.Close() // everything is committed: its error has no consequence
	}
}

// replaced reports whether the path no longer leads to the open file.
func (s *Store) replaced() bool {
	info, err := os.Stat(s.path)
	return err != nil || !os.SameFile(info, s.file)
}

// batch holds the queue of one transaction.
type batch struct {
	samples []sample
	events  []event
	lost    loss
	steps   int64 // that training has come to, with its tokens
	tokens  int64
}

func (b *batch) reached(steps, tokens int64) {
	b.steps, b.tokens = max(b.steps, steps), max(b.tokens, tokens)
}

func (b *batch) empty() bool {
	return len(b.samples) == 0 && len(b.events) == 0 && b.lost.points == 0
}

// append moves the contents of next to the end of b.
func (b *batch) append(next *batch) {
	b.samples = append(b.samples, next.samples...)
	b.events = append(b.events, next.events...)
	b.lost.merge(next.lost)
	b.reached(next.steps, next.tokens)
	next.clear()
}

// clear empties the batch and keeps its memory.
func (b *batch) clear() { *b = batch{samples: b.samples[:0], events: b.events[:0]} }

// sample is one value of one metric, small because thousands may wait.
type sample struct {
	metric  int // index into Run.names
	step    int64
	tokens  int64
	at      int64 // Unix milliseconds
	elapsed int64 // milliseconds
	value   float64
}

type event struct {
	at            time.Time
	kind, message string
}

// ending is the end of a run.
type ending struct {
	at     time.Time
	status Status
	reason string
}

func (e ending) message() string {
	if e.reason == "" {
		return string(e.status)
	}
	return string(e.status) + ": " + e.reason
}

// loss counts the points that a full queue dropped.
type loss struct{ points, first, last int64 }

func (l *loss) add(p Point) {
	if l.points == 0 {
		l.first = p.Step
	}
	l.points++
	l.last = p.Step
}

func (l *loss) merge(next loss) {
	if l.points == 0 {
		*l = next
		return
	}
	if next.points > 0 {
		l.points += next.points
		l.last = next.last
	}
}

// message explains the gap that a reader will see in the curves.
func (l loss) message() string {
	return fmt.Sprintf("%d points between steps %d and %d were lost: the store refused writes for too long", l.points, l.first, l.last)
}

// progress aggregates a run's points so far; the next batch continues from it.
type progress struct {
	ids    []int64  // of the metrics, in the order of Run.names
	series []series // in the same order
	steps  int64
	tokens int64
}

// series aggregates the points of one metric.
type series struct {
	summary summary
	span    span
}

func (p progress) clone() progress {
	p.ids, p.series = slices.Clone(p.ids), slices.Clone(p.series)
	return p
}

// commit writes one batch in one transaction. The writer keeps its progress only
// if the transaction commits.
type commit struct {
	ctx    context.Context
	tx     *sql.Tx
	run    *Run
	number int64 // of the run in the store
	names  []string
	late   int64 // the first step that was logged twice or out of order
	progress
}

func (c *commit) exec(statement string, args ...any) error {
	_, err := c.tx.ExecContext(c.ctx, statement, args...)
	return err
}

func (c *commit) write(b batch, end *ending) error {
	if err := c.nameMetrics(); err != nil {
		return fmt.Errorf("name metrics: %w", err)
	}
	if err := c.writeSamples(b.samples); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	if err := c.writeEvents(b, end); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	c.steps, c.tokens = max(c.steps, b.steps), max(c.tokens, b.tokens)
	return c.writeRun(end)
}

// nameMetrics finds the ids of the metrics that are new in this batch.
func (c *commit) nameMetrics() error {
	for _, name := range c.names[len(c.ids):] {
		id, err := metricID(c.ctx, c.tx, name)
		if err != nil {
			return err
		}
		c.ids = append(c.ids, id)
	}
	for len(c.series) < len(c.ids) {
		c.series = append(c.series, series{summary: newSummary()})
	}
	return nil
}

func (c *commit) writeSamples(samples []sample) error {
	insert, err := c.tx.PrepareContext(c.ctx, `
		INSERT INTO run_points (run, metric, step, tokens, at, elapsed, value) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (run, metric, step) DO UPDATE
		SET tokens = excluded.tokens, at = excluded.at, elapsed = excluded.elapsed, value = excluded.value`)
	if err != nil {
		return err
	}
	defer insert.Close()
	changed := make([]bool, len(c.ids))
	for _, s := range samples {
		_, err := insert.ExecContext(c.ctx, c.number, c.ids[s.metric], s.step, s.tokens, s.at, s.elapsed, null(s.value))
		if err != nil {
			return err
		}
		if err := c.add(s); err != nil {
			return err
		}
		changed[s.metric] = true
	}
	for metric := range c.series {
		if !changed[metric] {
			continue
		}
		if err := c.exec(`
			INSERT INTO run_summaries (run, metric, step, value, best_step, best) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (run, metric) DO UPDATE
			SET step = excluded.step, value = excluded.value, best_step = excluded.best_step, best = excluded.best`, c.series[metric].summary.args(c.number, c.ids[metric])...); err != nil {
			return err
		}
		if err := c.writeSpan(metric); err != nil {
			return err
		}
	}
	return c.rebuild()
}

// rebuild recomputes spans and summaries from the first out-of-order step, since a
// replaced value cannot be subtracted from them.
func (c *commit) rebuild() error {
	if c.late == math.MaxInt64 {
		return nil
	}
	if err := rebuildAfter(c.ctx, c.tx, c.number, c.late-1); err != nil {
		return err
	}
	return readSummaries(c.ctx, c.tx, c.number, func(metric int64, _ string, s summary) {
		if i := slices.Index(c.ids, metric); i >= 0 {
			c.series[i] = series{summary: s}
		}
	})
}

// add adds a sample to the aggregates of its metric, and writes a full span.
func (c *commit) add(s sample) error {
	c.steps = max(c.steps, s.step)
	c.tokens = max(c.tokens, s.tokens)
	of := &c.series[s.metric]
	if s.step <= of.summary.step {
		c.late = min(c.late, s.step)
	}
	of.summary.add(s.step, s.value, HigherIsBetter(c.names[s.metric]))
	if of.span.points == spanLength {
		if err := c.writeSpan(s.metric); err != nil {
			return err
		}
		of.span = span{}
	}
	if of.span.points == 0 {
		of.span = newSpan(s)
	}
	of.span.add(s)
	return nil
}

func (c *commit) writeSpan(metric int) error {
	return c.exec(`
		INSERT INTO run_spans (run, metric, first, last, tokens, elapsed, count, lowest, highest, mean)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (run, metric, first) DO UPDATE
		SET last = excluded.last, tokens = excluded.tokens, elapsed = excluded.elapsed, count = excluded.count,
		    lowest = excluded.lowest, highest = excluded.highest, mean = excluded.mean`, c.series[metric].span.args(c.number, c.ids[metric])...)
}

func (c *commit) writeEvents(b batch, end *ending) error {
	events := slices.Clone(b.events)
	if b.lost.points > 0 {
		events = append(events, event{c.run.now(), "metrics lost", b.lost.message()})
	}
	if end != nil {
		events = append(events, event{end.at, "ended", end.message()})
	}
	for _, e := range events {
		if err := insertEvent(c.ctx, c.tx, c.number, e); err != nil {
			return err
		}
	}
	return nil
}

// writeRun updates the run's row: its heartbeat, or its end.
func (c *commit) writeRun(end *ending) error {
	now := c.run.now()
	err := c.exec(`
		UPDATE runs
		SET heartbeat = :heartbeat, seconds = :seconds, steps = max(steps, :steps), tokens = max(tokens, :tokens)
		WHERE number = :run`, sql.Named("run", c.number),
		sql.Named("heartbeat", formatTime(now)), sql.Named("seconds", c.run.elapsed(now).Seconds()),
		sql.Named("steps", c.steps), sql.Named("tokens", c.tokens))
	if err != nil || end == nil {
		return err
	}
	return c.exec(`
		UPDATE runs SET status = :status, reason = :reason, ended = :ended, heartbeat = :ended, seconds = :seconds
		WHERE number = :run`, sql.Named("run", c.number),
		sql.Named("status", string(end.status)), sql.Named("reason", end.reason),
		sql.Named("ended", formatTime(end.at)), sql.Named("seconds", c.run.elapsed(end.at).Seconds()))
}

func insertEvent(ctx context.Context, tx *sql.Tx, run int64, e event) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO run_events (run, at, kind, message) VALUES (?, ?, ?, ?)`,
		run, formatTime(e.at), e.kind, e.message)
	return err
}

// metricID returns the number of a metric's name. It adds a new name.
func metricID(ctx context.Context, tx *sql.Tx, name string) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `
		INSERT INTO metric_names (name, highest) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET name = excluded.name
		RETURNING metric`, name, HigherIsBetter(name)).Scan(&id)
	return id, err
}
