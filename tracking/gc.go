package tracking

import (
	"context"
	"database/sql"
	"fmt"
)

// Garbage is what a store holds and nobody needs.
type Garbage struct {
	Crashed []RunSummary // recorded as running, their processes gone
	Removed []string     // ids of removed runs whose folders may still be there
	Bytes   int64        // free inside the file
}

// FindGarbage looks for it and changes nothing.
func (s *Store) FindGarbage(ctx context.Context) (Garbage, error) {
	var g Garbage
	err := s.snapshot(ctx, func(q queryer) error {
		return s.findGarbage(ctx, q, &g)
	})
	if err != nil {
		return Garbage{}, fmt.Errorf("find garbage: %w", explain(err))
	}
	return g, nil
}

func (s *Store) findGarbage(ctx context.Context, q queryer, g *Garbage) error {
	runs, err := s.readRuns(ctx, q, Query{Where: "status == 'crashed'"})
	if err != nil {
		return err
	}
	for _, run := range runs {
		if !run.recorded {
			g.Crashed = append(g.Crashed, run)
		}
	}
	err = forEach(ctx, q, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		g.Removed = append(g.Removed, id)
		return err
	}, removedListSQL)
	if err != nil {
		return err
	}
	return q.QueryRowContext(ctx, freeBytesSQL).Scan(&g.Bytes)
}

// Collect writes crashes down, forgets the removed runs, whose folders the caller
// has deleted, and gives free space back to the disk. It may run while others
// write.
func (s *Store) Collect(ctx context.Context, g Garbage) error {
	err := s.update(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, crashesRecordSQL); err != nil {
			return err
		}
		for _, id := range g.Removed {
			if _, err := tx.ExecContext(ctx, removedDeleteSQL, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	if g.Bytes == 0 {
		return nil
	}
	if _, err := s.write.ExecContext(ctx, "VACUUM"); err != nil {
		return fmt.Errorf("give back free space: %w", explain(err))
	}
	// Until the log is copied back the disk holds both.
	var busy, frames, copied int
	if err := s.write.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &copied); err != nil && !isBusy(err) {
		return fmt.Errorf("give back free space: %w", explain(err))
	}
	return nil
}
