package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/koala-lm/koala-lm/tracking/environment"
)

// ErrStillRunning means that a live process trains the run.
var ErrStillRunning = errors.New("the run is still running")

// Resume holds the facts that may differ between two sessions of a run.
type Resume struct {
	Command []string
	Device  string
	Threads int

	// DatasetPath is where the dataset is now; "" if it has not moved.
	DatasetPath string

	// Settings are those that may change, such as the run's length.
	Settings map[string]any
}

// ResumeRun continues the run with the given id after fromStep, the step of its
// checkpoint. It removes the points beyond that step, since training records them
// again, and records the pause as an event.
func (s *Store) ResumeRun(ctx context.Context, id string, fromStep int64, how Resume) (*Run, error) {
	if s.write == nil {
		return nil, fmt.Errorf("resume run: the store %s is open for reading only", s.path)
	}
	run, err := s.resume(ctx, id, fromStep, how)
	if err != nil {
		return nil, fmt.Errorf("resume run %s: %w", id, explain(err))
	}
	return run, nil
}

func (s *Store) resume(ctx context.Context, id string, fromStep int64, how Resume) (*Run, error) {
	command, err := commandJSON(how.Command)
	if err != nil {
		return nil, err
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()

	left, err := readState(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	if left.status == Running {
		return nil, left.stillRunning()
	}
	number := left.number

	now, self := s.now(), environment.Self()
	removed, err := tx.ExecContext(ctx, `DELETE FROM run_points WHERE run = ? AND step > ?`, number, fromStep)
	if err != nil {
		return nil, err
	}
	gone, err := removed.RowsAffected()
	if err != nil {
		return nil, err
	}
	if err := rebuildAfter(ctx, tx, number, fromStep); err != nil {
		return nil, err
	}
	var milliseconds, tokens int64
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(elapsed), 0), coalesce(max(tokens), 0) FROM run_points WHERE run = ?`, number).Scan(&milliseconds, &tokens); err != nil {
		return nil, err
	}
	var lease int64
	err = tx.QueryRowContext(ctx, `
		UPDATE runs
		SET status = 'running', reason = '', ended = NULL, heartbeat = :heartbeat,
		    seconds = :seconds, steps = :steps, tokens = :tokens,
		    host = :host, boot = :boot, pid_namespace = :pid_namespace, pid = :pid, process_start = :process_start,
		    device = :device, threads = :threads, command = :command, lease = lease + 1,
		    dataset_path = coalesce(:dataset_path, dataset_path), dataset_relative = coalesce(:dataset_relative, dataset_relative)
		WHERE number = :run
		RETURNING lease`, sql.Named("run", number), sql.Named("heartbeat", formatTime(now)),
		sql.Named("seconds", float64(milliseconds)/1000), sql.Named("steps", fromStep), sql.Named("tokens", tokens),
		sql.Named("host", self.Host), sql.Named("boot", self.Boot), sql.Named("pid_namespace", self.Namespace),
		sql.Named("pid", self.PID), sql.Named("process_start", self.Start),
		sql.Named("device", how.Device), sql.Named("threads", how.Threads), sql.Named("command", command),
		sql.Named("dataset_path", orNull(how.DatasetPath)), sql.Named("dataset_relative", orNull(s.relative(how.DatasetPath)))).Scan(&lease)
	if err != nil {
		return nil, err
	}
	if err := recordSettings(ctx, tx, number, how.Settings); err != nil {
		return nil, err
	}
	// The pause is by the wall clock: the process that stopped is gone. If the clock
	// was set back meanwhile, the pause counts as zero.
	pause := max(0, now.Sub(left.heartbeat).Round(time.Second))
	message := fmt.Sprintf("at step %d by %s, %v after it was left %s; %d values beyond that step are recorded again",
		fromStep, self, pause, left.status, gone)
	if err := insertEvent(ctx, tx, number, event{now, "resumed", message}); err != nil {
		return nil, err
	}
	run := newRunHandle(s, id, now)
	run.before = time.Duration(milliseconds) * time.Millisecond
	reached, err := loadProgress(ctx, tx, run, number)
	if err != nil {
		return nil, err
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	w := &writer{run: run, store: s, number: number, lease: lease, progress: reached, lastWrite: time.Now()}
	go w.loop()
	return run, nil
}

// orNull turns "" into SQL's NULL.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// relative returns path relative to the store's folder, or "".
func (s *Store) relative(path string) string {
	if path == "" {
		return ""
	}
	relative, err := filepath.Rel(filepath.Dir(s.path), path)
	if err != nil {
		return ""
	}
	return relative
}

// runState is the process that trains a run, or trained it last.
type runState struct {
	number, pid int64
	status      Status // as readers see it
	host        string
	heartbeat   time.Time
}

// readState reads the state of the run with the given id, or ErrNoRun.
func readState(ctx context.Context, q queryer, id string) (runState, error) {
	var r runState
	var heartbeat string
	err := q.QueryRowContext(ctx, `SELECT number, status, host, pid, heartbeat FROM observed_runs WHERE id = ?`, id).
		Scan(&r.number, &r.status, &r.host, &r.pid, &heartbeat)
	if errors.Is(err, sql.ErrNoRows) {
		return r, ErrNoRun
	}
	r.heartbeat = parseTime(heartbeat)
	return r, err
}

func (r runState) stillRunning() error {
	return fmt.Errorf("%w: process %d on %s trains it", ErrStillRunning, r.pid, r.host)
}

// CheckEnded returns ErrStillRunning if a process trains the run.
func (r RunSummary) CheckEnded() error {
	if r.Status != Running {
		return nil
	}
	return runState{host: r.Host, pid: int64(r.PID)}.stillRunning()
}
