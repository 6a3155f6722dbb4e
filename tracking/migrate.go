package tracking

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// applicationID marks a SQLite file as a store: "koal" in ASCII.
const applicationID = 0x6b6f616c

// migrations returns the scripts in order. Their count is the version of the
// schema, which SQLite's user_version holds.
func migrations() ([]string, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	scripts := make([]string, len(names))
	for i, name := range names {
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		scripts[i] = string(text)
	}
	return scripts, nil
}

// Errors of Open for a file that it leaves unchanged.
var (
	ErrNotAStore = errors.New("not a koala-lm store")
	ErrNewer     = errors.New("the store was written by a newer koala-lm")
	ErrOlder     = errors.New("the store was written by an older koala-lm and must be opened for writing once")
	ErrSharedWAL = errors.New("the store is in WAL mode on a network file system and must be opened for writing once")
)

// identity is the header of a SQLite file, the number of its tables, indexes, views and
// triggers, and a view in place of a table, or "": what a view computes has no end that
// the file's size would bound.
type identity struct {
	application, version, objects int
	view                          string
}

func readIdentity(ctx context.Context, q queryer) (identity, error) {
	var id identity
	err := q.QueryRowContext(ctx, `
		SELECT (SELECT application_id FROM pragma_application_id),
		       (SELECT user_version FROM pragma_user_version),
		       (SELECT count(*) FROM sqlite_schema),
		       coalesce((SELECT name FROM sqlite_schema WHERE type = 'view' AND lower(name) IN
		           ('runs', 'run_settings', 'metric_names', 'run_points', 'run_summaries', 'run_tags', 'run_events', 'run_spans', 'removed_runs')), '')`).
		Scan(&id.application, &id.version, &id.objects, &id.view)
	var se sqlite3.Error
	if errors.As(err, &se) && se.Code == sqlite3.ErrNotADB {
		return id, ErrNotAStore
	}
	return id, err
}

// check returns an error unless a program that knows versions up to latest can use
// the file.
func (id identity) check(latest int) error {
	switch {
	case id.application == 0 && id.version == 0 && id.objects == 0:
		return nil // a new file
	case id.application != applicationID:
		return ErrNotAStore
	case id.version < 0, id.version == 0 && id.objects > 0: // the first script sets a version in its transaction
		return fmt.Errorf("%w, or damaged: it has version %d", ErrNotAStore, id.version)
	case id.view != "":
		return fmt.Errorf("%w, or changed by hand: %s is a view, not a table", ErrNotAStore, id.view)
	case id.version > latest:
		return fmt.Errorf("%w: it has version %d, this program knows up to %d", ErrNewer, id.version, latest)
	}
	return nil
}

// migrate brings the file to the latest version. Many processes may call it at
// once: each script runs in a transaction that takes the write lock and then reads
// the version again.
func migrate(ctx context.Context, db *sql.DB, path string) error {
	scripts, err := migrations()
	if err != nil {
		return err
	}
	id, err := readIdentity(ctx, db)
	if err != nil {
		return err
	}
	if err := id.check(len(scripts)); err != nil {
		return err
	}
	if err := setJournalMode(ctx, db, journalModeFor(path)); err != nil {
		return fmt.Errorf("set journal mode: %w", err)
	}
	for version := id.version; version < len(scripts); version++ {
		if err := applyMigration(ctx, db, version+1, scripts[version]); err != nil {
			return fmt.Errorf("migrate to version %d: %w", version+1, err)
		}
	}
	return nil
}

func applyMigration(ctx context.Context, db *sql.DB, version int, script string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	id, err := readIdentity(ctx, tx)
	if err != nil {
		return err
	}
	if id.version >= version {
		return nil // another process was first
	}
	if _, err := tx.ExecContext(ctx, script); err != nil {
		return err
	}
	stamp := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, version)
	if _, err := tx.ExecContext(ctx, stamp); err != nil {
		return err
	}
	return tx.Commit()
}

// journalModeFor returns the journal mode of a store: WAL on a local disk. WAL needs
// memory that all processes share, which hosts of a network file system do not have:
// https://sqlite.org/wal.html says that WAL does not work there.
func journalModeFor(path string) string {
	if networkFileSystem(path) != "" {
		return "delete"
	}
	return "wal"
}

// networkFileSystem names the network file system that holds path, or returns "".
var networkFileSystem = func(path string) string {
	var info unix.Statfs_t
	if unix.Statfs(path, &info) != nil {
		return ""
	}
	return map[uint32]string{ // statfs(2)
		0x6969: "NFS", 0x517b: "SMB", 0xff534d42: "CIFS", 0xfe534d42: "SMB2", 0x5346414f: "AFS", 0x00c36400: "Ceph",
		0x0bd00bd0: "Lustre", 0x47504653: "GPFS", 0x01021997: "9p", 0x65735546: "FUSE", 0x7461636f: "OCFS2", 0x19830326: "FhGFS",
	}[uint32(info.Type)]
}

// setJournalMode has its own retry loop: SQLite does not call the busy handler while
// it changes the journal mode, so all but one of several simultaneous starts would
// fail.
func setJournalMode(ctx context.Context, db *sql.DB, want string) error {
	const patience = 15 * time.Second
	deadline := time.Now().Add(patience)
	for {
		var mode string
		err := db.QueryRowContext(ctx, "PRAGMA journal_mode = "+want).Scan(&mode)
		if err == nil && mode != want {
			return fmt.Errorf("the file system allows only journal mode %q", mode)
		}
		if err == nil || !isBusy(err) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// isBusy reports whether another process kept the lock for too long.
func isBusy(err error) bool {
	var se sqlite3.Error
	return errors.As(err, &se) && (se.Code == sqlite3.ErrBusy || se.Code == sqlite3.ErrLocked)
}
