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
			if _, err := tx.ExecContext(ctx, tagDeleteSQL, number, tag); err != nil {
				return err
			}
		}
		for _, tag := range add {
			if _, err := tx.ExecContext(ctx, tagInsertSQL, number, tag); err != nil {
				return err
			}
		}
		return nil
	})
}

// Note replaces the note of the run with the given id.
func (s *Store) Note(ctx context.Context, id, note string) error {
	return s.edit(ctx, "note", id, func(tx *sql.Tx, number int64) error {
		_, err := tx.ExecContext(ctx, noteUpdateSQL, note, number)
		return err
	})
}

// Remove deletes all that is recorded of the run with the given id. A run that
// is still being trained is not removed (ErrStillRunning). The run's folder is
// left to gc, see Garbage.
func (s *Store) Remove(ctx context.Context, id string) error {
	return s.edit(ctx, "remove", id, func(tx *sql.Tx, number int64) error {
		var status, host, heartbeat string
		var pid int64
		if err := tx.QueryRowContext(ctx, runStateSQL, id).Scan(&number, &status, &host, &pid, &heartbeat); err != nil {
			return err
		}
		if status == string(Running) {
			return fmt.Errorf("%w: process %d on %s trains it", ErrStillRunning, pid, host)
		}
		if _, err := tx.ExecContext(ctx, removedInsertSQL, id, formatTime(s.now())); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, runDeleteSQL, number)
		return err
	})
}

// edit changes one run in a transaction.
func (s *Store) edit(ctx context.Context, verb, id string, change func(*sql.Tx, int64) error) error {
	err := s.update(ctx, func(tx *sql.Tx) error {
		var number int64
		err := tx.QueryRowContext(ctx, runNumberSQL, id).Scan(&number)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoRun
		}
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

// update runs change in a transaction that holds the write lock.
func (s *Store) update(ctx context.Context, change func(*sql.Tx) error) error {
	if s.write == nil {
		return fmt.Errorf("the store %s is open for reading only", s.path)
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return explain(err)
	}
	defer tx.Rollback()
	if err := change(tx); err != nil {
		return explain(err)
	}
	return explain(tx.Commit())
}
