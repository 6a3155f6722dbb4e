package tracking

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
)

// Backup copies the store into the file target as it is at one moment, also
// while others write. The copy is whole or not there.
func (s *Store) Backup(ctx context.Context, target string) error {
	// VACUUM INTO wants a file that is not there, and names it in its journal:
	// a folder of its own keeps both away from the target's neighbours.
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
	// The file stays open for reading only: the copy is another one.
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
