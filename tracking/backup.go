package tracking

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
)

// Backup copies a snapshot of the store to the file target while other processes
// write. An error leaves no partial copy.
func (s *Store) Backup(ctx context.Context, target string) error {
	// VACUUM INTO needs a new file, and makes a journal beside it: a folder of its
	// own keeps both apart from the target's neighbours.
	folder, err := os.MkdirTemp(filepath.Dir(target), ".backup-*")
	if err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	defer os.RemoveAll(folder)
	partial := filepath.Join(folder, "copy.db")
	if err := s.vacuumInto(ctx, partial); err != nil {
		return fmt.Errorf("back up store to %s: %w", target, explain(err))
	}
	if err := os.Rename(partial, target); err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	if err := atomicfile.SyncFolder(filepath.Dir(target)); err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	return nil
}

func (s *Store) vacuumInto(ctx context.Context, path string) error {
	conn, err := s.read.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Only the copy is written: this file stays open for reading only.
	if _, err := conn.ExecContext(ctx, "PRAGMA query_only = OFF"); err != nil {
		return err
	}
	defer conn.ExecContext(context.Background(), "PRAGMA query_only = ON")
	if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "VACUUM INTO ?", path)
	return err
}
