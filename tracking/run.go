package tracking

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/koala-lm/koala-lm/tracking/environment"
)

// NewRun describes a run at its start.
type NewRun struct {
	ID   string // made by NewID; empty makes one
	Name string // need not be unique; empty takes the start of the id
	Note string
	Tags []string

	// Settings by dotted key. A value is nil, a bool, an integer, a float, a
	// string, or any value that encoding/json can write (kept as JSON). Reports
	// get it back with its type.
	Settings map[string]any

	Dataset  Dataset
	Git      environment.Git
	Command  []string
	CPU      string // environment.CPU()
	Device   string
	Threads  int
	Versions map[string]string // koala-lm, go, libtorch, ...
	Parent   string            // id of the run this one was forked from
}

// Dataset identifies the training data. Perplexities compare only between runs
// with the same fingerprint.
type Dataset struct {
	Name        string
	Path        string // absolute
	Fingerprint string

	// Facts are further properties, such as the size of the vocabulary.
	Facts map[string]any

	// Metrics that are known before training, such as val_unigram_ppl. They are
	// recorded at step 0.
	Metrics map[string]float64
}

// NewID returns a ULID in lower case: unique ids that sort by time. MustNew does not panic:
// crypto/rand.Reader has no errors, and times are before the year 10889.
func NewID(now time.Time) string {
	return strings.ToLower(ulid.MustNew(ulid.Timestamp(now), rand.Reader).String())
}

// StartRun records a new run as running and starts its writer.
func (s *Store) StartRun(ctx context.Context, n NewRun) (*Run, error) {
	if s.write == nil {
		return nil, fmt.Errorf("start run: the store %s is open for reading only", s.path)
	}
	now := s.now()
	n.ID = cmp.Or(n.ID, NewID(now))
	n.Name = cmp.Or(n.Name, n.ID[:min(10, len(n.ID))])
	run := newRunHandle(s, n.ID, now)
	if err := run.Log(Point{Time: now, Values: n.Dataset.Metrics}); err != nil {
		return nil, fmt.Errorf("start run: %w", err)
	}
	w := &writer{run: run, store: s, lease: 1}
	w.take()
	var reached progress
	// One transaction: a run is never in the store without its settings and its
	// first metrics, whenever the process dies.
	err := s.update(ctx, func(tx *sql.Tx) (err error) {
		if w.number, err = insertRun(ctx, tx, n, now, s.relative(n.Dataset.Path)); err != nil {
			return err
		}
		reached, err = w.put(ctx, tx, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("start run: %w", err)
	}
	w.wrote(reached)
	go w.loop()
	return run, nil
}

// insertRun records a run with its settings and tags.
func insertRun(ctx context.Context, tx *sql.Tx, n NewRun, now time.Time, relative string) (number int64, err error) {
	facts, err := jsonObject(n.Dataset.Facts)
	if err != nil {
		return 0, fmt.Errorf("dataset facts: %w", err)
	}
	versions, err := jsonObject(n.Versions)
	if err != nil {
		return 0, err
	}
	command, err := commandJSON(n.Command)
	if err != nil {
		return 0, err
	}
	self := environment.Self()
	err = tx.QueryRowContext(ctx, `
		INSERT INTO runs (
		  id, name, note, status, started, heartbeat,
		  host, boot, pid_namespace, pid, process_start, cpu, device, threads,
		  dataset, dataset_path, dataset_relative, dataset_fingerprint, dataset_facts,
		  parent, git_commit, git_dirty, git_diff, command, versions
		) VALUES (
		  :id, :name, :note, 'running', :started, :started,
		  :host, :boot, :pid_namespace, :pid, :process_start, :cpu, :device, :threads,
		  :dataset, :dataset_path, :dataset_relative, :dataset_fingerprint, :dataset_facts,
		  :parent, :git_commit, :git_dirty, :git_diff, :command, :versions
		)
		RETURNING number`,
		sql.Named("id", n.ID), sql.Named("name", n.Name), sql.Named("note", n.Note),
		sql.Named("started", formatTime(now)),
		sql.Named("host", self.Host), sql.Named("boot", self.Boot), sql.Named("pid_namespace", self.Namespace),
		sql.Named("pid", self.PID), sql.Named("process_start", self.Start),
		sql.Named("cpu", n.CPU), sql.Named("device", n.Device), sql.Named("threads", n.Threads),
		sql.Named("dataset", n.Dataset.Name), sql.Named("dataset_path", n.Dataset.Path),
		sql.Named("dataset_relative", relative), sql.Named("dataset_fingerprint", n.Dataset.Fingerprint), sql.Named("dataset_facts", facts),
		sql.Named("parent", n.Parent), sql.Named("git_commit", n.Git.Commit),
		sql.Named("git_dirty", n.Git.Dirty), sql.Named("git_diff", n.Git.Diff),
		sql.Named("command", command), sql.Named("versions", versions),
	).Scan(&number)
	if err != nil {
		return 0, err
	}
	if err := recordSettings(ctx, tx, number, n.Settings); err != nil {
		return 0, err
	}
	for _, tag := range n.Tags {
		if err := addTag(ctx, tx, number, tag); err != nil {
			return 0, err
		}
	}
	return number, insertEvent(ctx, tx, number, event{now, "started", self.String()})
}

// recordSettings records settings of a run, in place of those of the same keys.
func recordSettings(ctx context.Context, tx *sql.Tx, number int64, settings map[string]any) error {
	for key, value := range settings {
		stored, kind, err := encodeSetting(value)
		if err != nil {
			return fmt.Errorf("setting %s: %w", key, err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO run_settings (run, key, value, type) VALUES (?, ?, ?, ?)`, number, key, stored, kind); err != nil {
			return err
		}
	}
	return nil
}

// jsonObject writes a map as a JSON object, a nil map as an empty one.
func jsonObject[V any](m map[string]V) (string, error) {
	if m == nil {
		return "{}", nil
	}
	text, err := json.Marshal(m)
	return string(text), err
}

// commandJSON writes a command line as a JSON array.
func commandJSON(command []string) (string, error) {
	text, err := json.Marshal(append([]string{}, command...))
	return string(text), err
}

// Errors of a run's handle.
var (
	// ErrQueueFull: the store has refused writes for so long that the queue is
	// full. Log drops the point. Once the store accepts writes again, an event
	// records how many points were dropped.
	ErrQueueFull = errors.New("the metrics queue is full")

	// ErrTakenOver: another process has resumed the run, because this process was
	// silent for too long. This process no longer writes to the store.
	ErrTakenOver = errors.New("another process has taken over the run")

	// ErrRunEnded: the run has been finished.
	ErrRunEnded = errors.New("the run has ended")
)

const (
	// queueLimit bounds the values waiting to be written: some ten minutes of
	// a fast training loop, about 6 MB.
	queueLimit = 1 << 17

	// patience bounds how long Log waits when the queue is full.
	patience = 100 * time.Millisecond
)

// Point holds the metrics of one step.
type Point struct {
	Step   int64
	Tokens int64     // trained so far
	Time   time.Time // zero is now
	Values map[string]float64
}

// Run is the handle of a run that this process trains. Its methods are safe for
// concurrent use.
type Run struct {
	id      string
	now     func() time.Time
	started time.Time     // of this session
	before  time.Duration // training time of earlier sessions

	mu      sync.Mutex
	index   map[string]int // metric name -> index in names
	names   []string
	queue   batch
	backlog int           // queued values that are not yet in the store
	room    chan struct{} // closed when the backlog shrinks
	err     error         // of the last write
	moved   bool          // the record moved to another file, see relocate
	ended   bool

	wake  chan struct{}
	tasks chan func(*writer)
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
		tasks: make(chan func(*writer)),
		end:   make(chan ending),
		done:  make(chan struct{}),
	}
}

// ID is the run's id.
func (r *Run) ID() string { return r.id }

// Log queues a point, which reaches the store within a second. A second point at the
// same step replaces the values of its metrics. NaN is kept as NULL.
//
// Log waits at most 100 ms, and only when the queue is full. It then returns
// ErrQueueFull together with the store's error.
func (r *Run) Log(p Point) error {
	if p.Time.IsZero() {
		p.Time = r.now()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(r.err, ErrTakenOver) {
		return r.err
	}
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

// Reached notes how far training has come. A run often ends after the last point that it
// logged.
func (r *Run) Reached(step, tokens int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue.reached(step, tokens)
}

// makeRoom waits, at most for patience, until the queue has space for n values.
// The caller holds the lock.
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

// nudge makes the writer write before its next tick.
func (r *Run) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// elapsed is the training time until now over all sessions of the run.
func (r *Run) elapsed(now time.Time) time.Duration {
	return r.before + max(0, now.Sub(r.started))
}

// Event queues an event. Events keep the order of the calls.
func (r *Run) Event(kind, message string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return ErrRunEnded
	}
	r.queue.events = append(r.queue.events, event{r.now(), kind, message})
	return nil
}

// Err returns the error of the last write, or nil. Points logged after a failed
// write wait in the queue.
func (r *Run) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Moved reports whether another file replaced the store, and the run's record was
// copied to the new file.
func (r *Run) Moved() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.moved
}

// Flush waits until every point logged before is in the store. It returns the
// error of the write.
func (r *Run) Flush(ctx context.Context) error {
	err := r.ask(ctx, func(w *writer) error { return w.writeNow(nil) })
	if errors.Is(err, ErrRunEnded) {
		return nil
	}
	return err
}

// WhileOwned calls f, during which no other process can take over the run, and returns
// its error. It returns ErrTakenOver if one already has. A store that takes no writes
// does not keep f from being called: nobody can take over a run in it.
func (r *Run) WhileOwned(f func() error) error {
	return r.ask(context.Background(), func(w *writer) error { return w.whileOwned(f) })
}

// ask lets the writer do a task.
func (r *Run) ask(ctx context.Context, task func(*writer) error) error {
	reply := make(chan error, 1)
	select {
	case r.tasks <- func(w *writer) { reply <- task(w) }:
	case <-r.done:
		return ErrRunEnded
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

// Finish writes the queue and the final status. Later calls do nothing and return
// the result of the first.
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
