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

// A file that is deleted or replaced while a run writes to it stays open, but
// nobody can find it any more. The run then copies its record from the open file
// to the file that has its path now.

// relocate opens or creates the store that is under the path now, and copies the
// run to it.
func (w *writer) relocate(ctx context.Context) error {
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
			var there int64
			err = to.QueryRowContext(ctx, `SELECT lease FROM runs WHERE id = ?`, w.run.id).Scan(&there)
			if err == nil && there > w.lease {
				return ErrTakenOver
			}
			if number, err = copyRun(ctx, from, to, w.run.id); err != nil {
				return err
			}
			return insertEvent(ctx, to, number, event{next.now(), "moved",
				"the store was deleted or replaced; the run's record continues in the file under its path"})
		})
	})
	if err != nil {
		return errors.Join(fmt.Errorf("copy the run to the new store: %w", err), next.Close())
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

// dropStaleLog removes the old file's write-ahead log from beside the new file.
// SQLite finds a log by its name: it would apply the old log to the new file and
// damage it. The old file keeps its log, which is open.
func (s *Store) dropStaleLog() error {
	log, err := os.Stat(s.path + "-wal")
	if err != nil || s.log == nil || !os.SameFile(log, s.log) {
		return nil // no log, or that of the new file
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(s.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the replaced store's log: %w", err)
		}
	}
	return nil
}

// snapshotForWriting reads on the write connection: no other can be opened to a
// file without a name.
func (s *Store) snapshotForWriting(ctx context.Context, read func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return read(tx)
}

// copyRun copies all rows of a run from one store to another of the same version.
// It replaces a run with the same id there.
func copyRun(ctx context.Context, from queryer, to *sql.Tx, id string) (number int64, err error) {
	if _, err := to.ExecContext(ctx, `DELETE FROM runs WHERE id = ?`, id); err != nil {
		return 0, err
	}
	old, err := runNumber(ctx, from, id)
	if err != nil {
		return 0, err
	}
	c := copier{ctx: ctx, from: from, to: to, run: old, metrics: map[int64]int64{}}
	if err := c.table("runs", "number"); err != nil {
		return 0, err
	}
	if c.newRun, err = runNumber(ctx, to, id); err != nil {
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
	from        queryer
	to          *sql.Tx
	run, newRun int64
	metrics     map[int64]int64 // numbers in from -> numbers in to
}

func (c *copier) nameMetrics() error {
	return forEach(c.ctx, c.from, func(rows *sql.Rows) error {
		var old int64
		var name string
		if err := rows.Scan(&old, &name); err != nil {
			return err
		}
		id, err := metricID(c.ctx, c.to, name)
		c.metrics[old] = id
		return err
	}, `SELECT metric, name FROM metric_names`)
}

// table copies the rows whose column key is the run. The target assigns new values
// to the keys that a store assigns itself.
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
