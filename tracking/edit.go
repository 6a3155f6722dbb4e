package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Tag adds tags to the run with the given id and removes others.
func (s *Store) Tag(ctx context.Context, id string, add, remove []string) error {
	return s.edit(ctx, "tag", id, func(tx *sql.Tx, number int64) error {
		for _, tag := range remove {
			if _, err := tx.ExecContext(ctx, `DELETE FROM run_tags WHERE run = ? AND tag = ?`, number, tag); err != nil {
				return err
			}
		}
		for _, tag := range add {
			if err := addTag(ctx, tx, number, tag); err != nil {
				return err
			}
		}
		return nil
	})
}

// Note replaces the note of the run with the given id.
func (s *Store) Note(ctx context.Context, id, note string) error {
	return s.edit(ctx, "note", id, func(tx *sql.Tx, number int64) error {
		_, err := tx.ExecContext(ctx, `UPDATE runs SET note = ? WHERE number = ?`, note, number)
		return err
	})
}

// Remove deletes the records of the run with the given id. It returns
// ErrStillRunning if a process still trains the run. The run's folder stays until
// gc, see Garbage.
func (s *Store) Remove(ctx context.Context, id string) error {
	return s.edit(ctx, "remove", id, func(tx *sql.Tx, number int64) error {
		run, err := readState(ctx, tx, id)
		if err != nil {
			return err
		}
		if run.status == Running {
			return run.stillRunning()
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO removed_runs (id, removed) VALUES (?, ?) ON CONFLICT DO NOTHING`, id, formatTime(s.now())); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM runs WHERE number = ?`, number)
		return err
	})
}

// edit changes one run in a transaction.
func (s *Store) edit(ctx context.Context, verb, id string, change func(*sql.Tx, int64) error) error {
	err := s.update(ctx, func(tx *sql.Tx) error {
		number, err := runNumber(ctx, tx, id)
		if err != nil {
			return err
		}
		return change(tx, number)
	})
	if err != nil {
		return fmt.Errorf("%s run %s: %w", verb, id, err)
	}
	return nil
}

func addTag(ctx context.Context, tx *sql.Tx, run int64, tag string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO run_tags (run, tag) VALUES (?, ?) ON CONFLICT DO NOTHING`, run, tag)
	return err
}

// runNumber returns the row number of the run with the given id, or ErrNoRun.
func runNumber(ctx context.Context, q queryer, id string) (number int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT number FROM runs WHERE id = ?`, id).Scan(&number)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, ErrNoRun
	}
	return number, err
}
