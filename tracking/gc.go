package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
)

// Garbage lists the contents of a store that nobody needs any more.
type Garbage struct {
	Crashed []RunSummary // recorded as running, their processes gone
	Removed []string     // ids of removed runs whose folders may still be there
	Bytes   int64        // free space inside the file
}

// FindGarbage finds garbage and changes nothing.
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
	}, `SELECT id FROM removed_runs ORDER BY id`)
	if err != nil {
		return err
	}
	return q.QueryRowContext(ctx, `SELECT (SELECT freelist_count FROM pragma_freelist_count) * (SELECT page_size FROM pragma_page_size)`).Scan(&g.Bytes)
}

// Folders returns the folders of removed runs that exist below root.
func (g Garbage) Folders(root string) ([]string, error) {
	var folders []string
	for _, id := range g.Removed {
		if _, err := ulid.ParseStrict(id); err != nil {
			continue // no run has such an id: delete nothing else, such as root/.git
		}
		folder := filepath.Join(root, id)
		_, err := os.Lstat(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find the folders of removed runs: %w", err)
		}
		folders = append(folders, folder)
	}
	return folders, nil
}

// Collect records crashed runs as crashed, deletes the folders of removed runs
// below root, forgets those runs, and returns free space to the disk. Other
// processes may write meanwhile.
func (s *Store) Collect(ctx context.Context, g Garbage, root string) error {
	folders, err := g.Folders(root)
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if err := os.RemoveAll(folder); err != nil {
			return fmt.Errorf("delete the folder of a removed run: %w", err)
		}
	}
	err = s.update(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE runs
			SET status = 'crashed', ended = heartbeat, reason = 'process ' || pid || ' on ' || host || ' is gone'
			WHERE status = 'running' AND number IN (SELECT number FROM observed_runs WHERE status = 'crashed')`); err != nil {
			return err
		}
		for _, id := range g.Removed {
			if _, err := tx.ExecContext(ctx, `DELETE FROM removed_runs WHERE id = ?`, id); err != nil {
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
		return fmt.Errorf("return free space: %w", explain(err))
	}
	// Until SQLite copies the log back, the disk holds both.
	var busy, frames, copied int
	if err := s.write.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &copied); err != nil && !isBusy(err) {
		return fmt.Errorf("return free space: %w", explain(err))
	}
	return nil
}
