package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// A store that is deleted or replaced while a run writes into it lives on, as
// files do that are open, but nobody will find it. The run then takes its record
// along: from the file it still holds into the one under the path.

// rehome opens the store that is under the path now, made if need be, and copies
// the run into it.
func (w *writer) rehome(ctx context.Context) error {
	if err := w.store.dropStaleLog(); err != nil {
		return err
	}
	next, err := Open(w.store.path)
	if err != nil {
		return err
	}
	next.now = w.store.now
	var number int64
	err = w.store.snapshotForWriting(ctx, func(from *sql.Tx) error {
		return next.update(ctx, func(to *sql.Tx) (err error) {
			number, err = copyRun(ctx, from, to, w.run.id)
			if err != nil {
				return err
			}
			_, err = to.ExecContext(ctx, eventInsertSQL, number, formatTime(next.now()), "moved",
				"the store was deleted or replaced; this run's record went on into the one under its path")
			return err
		})
	})
	if err != nil {
		return errors.Join(fmt.Errorf("take the run along: %w", err), next.Close())
	}
	w.run.mu.Lock()
	w.run.moved = true
	w.run.mu.Unlock()
	old := w.store
	w.store, w.number, w.progress.ids = next, number, nil
	if w.owned {
		err = old.Close()
	}
	w.owned = true
	return err
}

// dropStaleLog removes the old file's write-ahead log from beside the new one:
// SQLite finds a log by its name, would take it for the new file's and damage
// that. The old file keeps its own, which is open.
func (s *Store) dropStaleLog() error {
	log, err := os.Stat(s.path + "-wal")
	if err != nil || s.log == nil || !os.SameFile(log, s.log) {
		return nil // none, or another's
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(s.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the replaced store's log: %w", err)
		}
	}
	return nil
}

// snapshotForWriting reads on the connection that writes: in a file without a
// name no other can be opened.
func (s *Store) snapshotForWriting(ctx context.Context, read func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return read(tx)
}

// copyRun copies all rows of a run from one store to another of the same
// version, where it takes the place of a run with the same id.
func copyRun(ctx context.Context, from, to *sql.Tx, id string) (number int64, err error) {
	if _, err := to.ExecContext(ctx, runDeleteByIDSQL, id); err != nil {
		return 0, err
	}
	var old int64
	if err := from.QueryRowContext(ctx, runNumberSQL, id).Scan(&old); err != nil {
		return 0, err
	}
	c := copier{ctx: ctx, from: from, to: to, run: old, metrics: map[int64]int64{}}
	if err := c.table("runs", "number"); err != nil {
		return 0, err
	}
	if err := to.QueryRowContext(ctx, runNumberSQL, id).Scan(&c.newRun); err != nil {
		return 0, err
	}
	if err := c.nameMetrics(); err != nil {
		return 0, err
	}
	for _, table := range []string{"run_settings", "run_points", "run_spans", "run_summaries", "run_tags", "run_events"} {
		if err := c.table(table, "run"); err != nil {
			return 0, fmt.Errorf("copy %s: %w", table, err)
		}
	}
	return c.newRun, nil
}

type copier struct {
	ctx         context.Context
	from, to    *sql.Tx
	run, newRun int64
	metrics     map[int64]int64 // numbers there to numbers here
}

func (c *copier) nameMetrics() error {
	return forEach(c.ctx, c.from, func(rows *sql.Rows) error {
		var old, id int64
		var name string
		if err := rows.Scan(&old, &name); err != nil {
			return err
		}
		err := c.to.QueryRowContext(c.ctx, metricIDSQL, name, HigherIsBetter(name)).Scan(&id)
		c.metrics[old] = id
		return err
	}, metricNamesSQL)
}

// table copies the rows that belong to the run by the column key. Keys that a
// store gives out itself are given out anew.
func (c *copier) table(name, key string) error {
	rows, err := c.from.QueryContext(c.ctx, "SELECT * FROM "+name+" WHERE "+key+" = ?", c.run)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	insert, err := c.to.PrepareContext(c.ctx, "INSERT INTO "+name+" ("+strings.Join(columns, ", ")+") VALUES (?"+
		strings.Repeat(", ?", len(columns)-1)+")")
	if err != nil {
		return err
	}
	defer insert.Close()
	for rows.Next() {
		row, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, column := range columns {
			switch column {
			case "number", "event":
				row[i] = nil
			case "run":
				row[i] = c.newRun
			case "metric":
				row[i] = c.metrics[row[i].(int64)]
			}
		}
		if _, err := insert.ExecContext(c.ctx, row...); err != nil {
			return err
		}
	}
	return rows.Err()
}
