package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Imported counts the runs of another store by what Import did with them.
type Imported struct {
	Added, Updated, Unchanged int
	Busy                      []string // ids of runs that a process trains into this store: left alone
}

// Import copies the runs of another store into this one. If both have a run, it
// keeps the later record: the one with more sessions, then with more steps, then the
// one that ended. Only then the clock decides, which may have been set back meanwhile.
// It copies everything in one transaction.
func (s *Store) Import(ctx context.Context, from *Store) (Imported, error) {
	var done Imported
	err := from.snapshot(ctx, func(theirs queryer) error {
		return s.update(ctx, func(ours *sql.Tx) error {
			done = Imported{}
			return importRuns(ctx, theirs, ours, &done)
		})
	})
	if err != nil {
		return Imported{}, fmt.Errorf("import %s: %w", from.path, explain(err))
	}
	return done, nil
}

// session is a run's progress, to compare two records of it.
type session struct {
	id, heartbeat string
	lease, steps  int64
	status        Status
}

// ended reports whether the run itself recorded its end: that it crashed is what a
// reader thought.
func (s session) ended() bool { return s.status != Running && s.status != Crashed }

func (s session) later(than session) bool {
	switch {
	case s.lease != than.lease:
		return s.lease > than.lease
	case s.steps != than.steps:
		return s.steps > than.steps
	case s.ended() != than.ended():
		return s.ended()
	}
	return s.heartbeat > than.heartbeat
}

func importRuns(ctx context.Context, theirs queryer, ours *sql.Tx, done *Imported) error {
	var runs []session
	err := forEach(ctx, theirs, func(rows *sql.Rows) error {
		var run session
		err := rows.Scan(&run.id, &run.lease, &run.steps, &run.heartbeat, &run.status)
		runs = append(runs, run)
		return err
	}, `SELECT id, lease, steps, heartbeat, status FROM runs ORDER BY number`)
	if err != nil {
		return err
	}
	for _, run := range runs {
		known := session{id: run.id}
		err := ours.QueryRowContext(ctx, `SELECT lease, steps, heartbeat, status FROM observed_runs WHERE id = ?`, run.id).
			Scan(&known.lease, &known.steps, &known.heartbeat, &known.status)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			done.Added++
		case err != nil:
			return err
		case !run.later(known):
			done.Unchanged++
			continue
		case known.status == Running:
			done.Busy = append(done.Busy, run.id)
			continue
		default:
			done.Updated++
		}
		if _, err := copyRun(ctx, theirs, ours, run.id); err != nil {
			return fmt.Errorf("run %s: %w", run.id, err)
		}
	}
	return nil
}
