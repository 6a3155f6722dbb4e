package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/koala-lm/koala-lm/tracking/environment"
)

// ErrStillRunning means that another live process trains the run.
var ErrStillRunning = errors.New("the run is still running")

// Resume is what may differ from the session that the run was left in.
type Resume struct {
	Command []string
	Device  string
	Threads int
}

// ResumeRun takes up the run with the given id after fromStep, the step of its
// checkpoint. What was recorded beyond that step is removed, as training will
// record it again; the pause becomes an event.
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

	var number, pid int64
	var status, host, heartbeat string
	err = tx.QueryRowContext(ctx, runStateSQL, id).Scan(&number, &status, &host, &pid, &heartbeat)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, ErrNoRun
	case err != nil:
		return nil, err
	case status == string(Running):
		return nil, fmt.Errorf("%w: process %d on %s trains it", ErrStillRunning, pid, host)
	}

	now, self := s.now(), environment.Self()
	removed, err := tx.ExecContext(ctx, pointsDeleteAfterSQL, number, fromStep)
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
	if err := tx.QueryRowContext(ctx, pointsExtentSQL, number).Scan(&milliseconds, &tokens); err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, runResumeSQL, sql.Named("run", number), sql.Named("heartbeat", formatTime(now)),
		sql.Named("seconds", float64(milliseconds)/1000), sql.Named("steps", fromStep), sql.Named("tokens", tokens),
		sql.Named("host", self.Host), sql.Named("boot", self.Boot), sql.Named("pid_namespace", self.Namespace),
		sql.Named("pid", self.PID), sql.Named("process_start", self.Start),
		sql.Named("device", how.Device), sql.Named("threads", how.Threads), sql.Named("command", command))
	if err != nil {
		return nil, err
	}
	// By the wall clock, as the process that left it is gone: nobody else knows the
	// time. One that was set back meanwhile makes the pause none.
	pause := max(0, now.Sub(parseTime(heartbeat)).Round(time.Second))
	message := fmt.Sprintf("at step %d by %s, %v after it was left %s; %d values beyond that step are recorded anew",
		fromStep, self, pause, status, gone)
	if _, err := tx.ExecContext(ctx, eventInsertSQL, number, formatTime(now), "resumed", message); err != nil {
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
	w := &writer{run: run, store: s, number: number, progress: reached, lastWrite: time.Now()}
	go w.loop()
	return run, nil
}

// rebuildAfter makes anew what a run's points come to: its summaries, and its
// spans after a step.
func rebuildAfter(ctx context.Context, q queryer, run, step int64) error {
	if _, err := q.ExecContext(ctx, spansDeleteAfterSQL, run, step); err != nil {
		return err
	}
	for _, statement := range []string{summariesDeleteSQL, summariesRebuildSQL, spansRebuildSQL} {
		if _, err := q.ExecContext(ctx, statement, sql.Named("run", run)); err != nil {
			return err
		}
	}
	return nil
}

// loadProgress reads what the writer goes on from, and gives the metrics their
// places in the handle. The writer begins new spans.
func loadProgress(ctx context.Context, q queryer, run *Run, runNumber int64) (progress, error) {
	var p progress
	err := readSummaries(ctx, q, runNumber, func(metric int64, name string, s summary) {
		run.index[name] = len(run.names)
		run.names = append(run.names, name)
		p.ids = append(p.ids, metric)
		p.series = append(p.series, series{summary: s})
	})
	return p, err
}

// readSummaries visits the summaries of a run.
func readSummaries(ctx context.Context, q queryer, run int64, visit func(metric int64, name string, s summary)) error {
	return forEach(ctx, q, func(rows *sql.Rows) error {
		var metric int64
		var name string
		var s summary
		var value, best sql.NullFloat64
		var bestStep sql.NullInt64
		if err := rows.Scan(&metric, &name, &s.step, &value, &bestStep, &best); err != nil {
			return err
		}
		s.value, s.best, s.bestStep = number(value), number(best), bestStep.Int64
		visit(metric, name, s)
		return nil
	}, summariesSQL, run)
}

// number turns SQL's NULL into NaN.
func number(value sql.NullFloat64) float64 {
	if !value.Valid {
		return math.NaN()
	}
	return value.Float64
}
