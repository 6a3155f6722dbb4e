package tracking

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Errors of a run's handle.
var (
	// ErrQueueFull is returned by Log when the store has not taken writes for
	// so long that the queue is full. The point is lost; how many were is
	// recorded as an event once the store takes writes again.
	ErrQueueFull = errors.New("the metrics queue is full")

	// ErrRunEnded is returned after Finish.
	ErrRunEnded = errors.New("the run has ended")
)

const (
	// queueLimit bounds the values waiting to be written: some ten minutes of
	// a fast training loop, about 6 MB.
	queueLimit = 1 << 17

	// patience bounds how long Log may wait when the queue is full.
	patience = 100 * time.Millisecond
)

// Point is what is known at one step.
type Point struct {
	Step   int64
	Tokens int64     // trained on so far
	Time   time.Time // zero is now
	Values map[string]float64
}

// Run is the handle of a run that this process is training. Its methods may be
// called from any goroutine.
type Run struct {
	id      string
	now     func() time.Time
	started time.Time     // of this session
	before  time.Duration // trained in earlier sessions

	mu      sync.Mutex
	index   map[string]int // metric name -> place in names
	names   []string
	queue   batch
	backlog int           // values accepted and not yet in the store
	room    chan struct{} // closed when the backlog shrinks
	err     error         // why the last write failed, nil after one that did not
	moved   bool          // into another file, see rehome
	ended   bool

	wake  chan struct{}
	flush chan chan error
	end   chan ending
	done  chan struct{}

	finishing sync.Once
	finishErr error
}

func newRunHandle(s *Store, id string, now time.Time) *Run {
	return &Run{
		id: id, now: s.now, started: now,
		index: map[string]int{},
		room:  make(chan struct{}),
		wake:  make(chan struct{}, 1),
		flush: make(chan chan error),
		end:   make(chan ending),
		done:  make(chan struct{}),
	}
}

// ID is the run's id.
func (r *Run) ID() string { return r.id }

// Log queues a point; it is in the store within a second. A point logged again
// at the same step replaces the values it names. NaN is kept as NULL.
//
// Log waits at most 100 ms, and only when the queue is full: then it returns
// ErrQueueFull together with why the store takes no writes.
func (r *Run) Log(p Point) error {
	if p.Time.IsZero() {
		p.Time = r.now()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.makeRoom(len(p.Values)) {
		r.queue.lost.add(p)
		return fmt.Errorf("%w at step %d: %w", ErrQueueFull, p.Step, r.err)
	}
	if r.ended {
		return ErrRunEnded
	}
	at, elapsed := p.Time.UnixMilli(), r.elapsed(p.Time).Milliseconds()
	for name, value := range p.Values {
		metric, known := r.index[name]
		if !known {
			metric = len(r.names)
			r.index[name] = metric
			r.names = append(r.names, name)
		}
		r.queue.samples = append(r.queue.samples, sample{metric, p.Step, p.Tokens, at, elapsed, value})
	}
	r.backlog += len(p.Values)
	if r.backlog >= queueLimit/4 {
		r.nudge()
	}
	return nil
}

// makeRoom waits for space for n values, for as long as patience allows. The
// lock is held when it is called and when it returns.
func (r *Run) makeRoom(n int) bool {
	var timeout <-chan time.Time
	for r.backlog+n > queueLimit && !r.ended {
		if timeout == nil {
			timeout = time.After(patience)
		}
		room := r.room
		r.nudge()
		r.mu.Unlock()
		timedOut := false
		select {
		case <-room:
		case <-timeout:
			timedOut = true
		}
		r.mu.Lock()
		if timedOut {
			return r.backlog+n <= queueLimit
		}
	}
	return true
}

// nudge makes the writer write now rather than at its next tick.
func (r *Run) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// elapsed is the time trained until now, over all sessions of the run.
func (r *Run) elapsed(now time.Time) time.Duration {
	return r.before + max(0, now.Sub(r.started))
}

// Event records that something happened, in the order of the calls.
func (r *Run) Event(kind, message string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return ErrRunEnded
	}
	r.queue.events = append(r.queue.events, event{r.now(), kind, message})
	return nil
}

// Err returns why the store takes no writes at present, or nil. What was logged
// meanwhile waits in the queue.
func (r *Run) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Moved reports whether the store was deleted or replaced, and the run's record
// taken along into the file that is under its path now.
func (r *Run) Moved() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.moved
}

// Flush returns once everything logged before is in the store, or with the
// reason why not.
func (r *Run) Flush(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case r.flush <- reply:
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Finish writes what is queued and the run's last status. Only its first call
// counts; the others return the same.
func (r *Run) Finish(status Status, reason string) error {
	r.finishing.Do(func() {
		r.mu.Lock()
		r.ended = true
		r.mu.Unlock()
		r.end <- ending{at: r.now(), status: status, reason: reason}
		<-r.done
		if err := r.Err(); err != nil {
			r.finishErr = fmt.Errorf("finish run %s: %w", r.id, err)
		}
	})
	return r.finishErr
}
