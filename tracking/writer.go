package tracking

import (
	"context"
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

// writer is the background side of a run: the only goroutine that writes it.
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

// write runs until the run ends: it writes what is queued twice a second and
// otherwise a heartbeat. It goes on from what a resumed run has come to.
func (r *Run) write(s *Store, number int64, from progress) {
	defer close(r.done)
	w := &writer{run: r, store: s, number: number, progress: from, lastWrite: time.Now()}
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
	ctx := context.Background()
	if w.store.replaced() {
		if err := w.rehome(ctx); err != nil {
			return fmt.Errorf("%w: %w", ErrReplaced, err)
		}
	}
	tx, err := w.store.write.BeginTx(ctx, nil)
	if err != nil {
		return explain(err)
	}
	defer tx.Rollback()
	c := commit{ctx: ctx, tx: tx, run: w.run, number: w.number, names: w.names, late: math.MaxInt64, progress: w.progress.clone()}
	if err := c.write(w.pending, end); err != nil {
		return explain(err)
	}
	if err := tx.Commit(); err != nil {
		return explain(err)
	}
	w.progress = c.progress
	return nil
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
