package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"time"
)

const (
	// flushEvery keeps the promise that a power cut loses at most a second.
	flushEvery = 500 * time.Millisecond

	// finishPatience is how long Finish tries while the store takes no writes.
	finishPatience = 20 * time.Second
)

// ErrReplaced means that the file under the store's path is no longer the one
// that was opened, and that no store can be had there.
var ErrReplaced = errors.New("the store was deleted or replaced while in use")

// writer is the background side of a run: from loop on the only goroutine that
// writes it.
type writer struct {
	run       *Run
	store     *Store
	number    int64 // of the run in the store
	owned     bool  // the store was opened by the writer, see rehome
	pending   batch
	names     []string // as far as the pending samples need them
	progress  progress
	lastWrite time.Time
}

// loop runs until the run ends: it writes what is queued twice a second and
// otherwise a heartbeat.
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
	for {
		err := w.writeNow(&end)
		if err == nil || errors.Is(err, ErrNoRun) || time.Now().After(deadline) {
			return
		}
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

func (w *writer) commit(end *ending) (reached progress, err error) {
	ctx := context.Background()
	if w.store.replaced() {
		if err := w.rehome(ctx); err != nil {
			return reached, fmt.Errorf("%w: %w", ErrReplaced, err)
		}
	}
	err = w.store.update(ctx, func(tx *sql.Tx) error {
		reached, err = w.put(ctx, tx, end)
		return err
	})
	return reached, err
}

// put writes what is pending, and returns what the run's points come to once the
// transaction is committed.
func (w *writer) put(ctx context.Context, tx *sql.Tx, end *ending) (progress, error) {
	c := commit{ctx: ctx, tx: tx, run: w.run, number: w.number, names: w.names, late: math.MaxInt64, progress: w.progress.clone()}
	err := c.write(w.pending, end)
	return c.progress, err
}

// wrote takes note that what was pending is in the store.
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

// release closes a store that nobody else knows.
func (w *writer) release() {
	if w.owned {
		w.store.Close() // all is committed; there is nobody left to tell
	}
}

// replaced notices that the path no longer leads to the open file.
func (s *Store) replaced() bool {
	info, err := os.Stat(s.path)
	return err != nil || !os.SameFile(info, s.file)
}
