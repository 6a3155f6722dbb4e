package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/mattn/go-sqlite3"
)

// ErrNoStore is returned when there is no file to read.
var ErrNoStore = errors.New("there is no store")

// Store is one SQLite file of runs. It is safe for use by many goroutines, and
// the file by many processes.
type Store struct {
	path  string
	write *sql.DB // nil when opened read-only
	read  *sql.DB
	file  os.FileInfo // the file as it was opened, to notice its replacement
	log   os.FileInfo // its write-ahead log, nil when opened read-only
	now   func() time.Time
}

// Open opens the store at path for reading and writing, creating it and its
// folder where missing and bringing an older one up to date. A file that is no
// store (ErrNotAStore) or a newer one (ErrNewer) is left untouched.
func Open(path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := createEmpty(path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{path: path, now: time.Now}
	if s.file, err = os.Stat(path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.write = openDB(path, readWrite)
	if err := migrate(context.Background(), s.write); err != nil {
		s.write.Close()
		return nil, fmt.Errorf("open store %s: %w", path, explain(err))
	}
	s.log, _ = os.Stat(path + "-wal") // there for as long as a connection is
	s.read = openDB(path, readOnly)
	return s, nil
}

// OpenReadOnly opens an existing store for reading. It works beside writers, on
// read-only files and on read-only media, and writes nothing.
func OpenReadOnly(path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{path: path, now: time.Now}
	s.file, err = os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w at %s: it is made by the first training run, or name another with --store", ErrNoStore, path)
	case err != nil:
		return nil, fmt.Errorf("open store: %w", err)
	case s.file.IsDir():
		return nil, fmt.Errorf("open store %s: it is a folder, not a file", path)
	}
	s.read = openDB(path, readOnly)
	err = s.checkReadable()
	if cannotOpen(err) && !hasLog(path) {
		s.read.Close()
		s.read = openDB(path, immutable)
		err = s.checkReadable()
	}
	if err != nil {
		s.read.Close()
		return nil, fmt.Errorf("open store %s: %w", path, explain(err))
	}
	return s, nil
}

func (s *Store) checkReadable() error {
	scripts, err := migrations()
	if err != nil {
		return err
	}
	id, err := readIdentity(context.Background(), s.read)
	if err != nil {
		return err
	}
	if err := id.check(len(scripts)); err != nil {
		return err
	}
	switch {
	case id.version == 0:
		return fmt.Errorf("%w yet: the file is empty", ErrNoStore) // its maker was killed, or is at it
	case id.version < len(scripts):
		return ErrOlder
	}
	return nil
}

// Path is the store's absolute path.
func (s *Store) Path() string { return s.path }

// Close closes the store. Runs must have been finished before.
func (s *Store) Close() error {
	err := s.read.Close()
	if s.write != nil {
		err = errors.Join(err, s.write.Close())
	}
	return err
}

// createEmpty makes an empty file for SQLite to fill, and the folder it is in.
func createEmpty(path string) error {
	if info, err := os.Stat(path); err == nil {
		if info.IsDir() {
			return fmt.Errorf("%s is a folder, not a file", path)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

// cannotOpen reports SQLite's answer when it may not create its shared memory
// beside a file on a read-only medium.
func cannotOpen(err error) bool {
	var se sqlite3.Error
	return errors.As(err, &se) && (se.Code == sqlite3.ErrCantOpen || se.Code == sqlite3.ErrReadonly)
}

// hasLog reports whether commits wait in the write-ahead log: without reading
// it the file would look older than it is.
func hasLog(path string) bool {
	info, err := os.Stat(path + "-wal")
	return err == nil && info.Size() > 0
}

// explain says in words what SQLite's terse messages leave open.
func explain(err error) error {
	var se sqlite3.Error
	if !errors.As(err, &se) {
		return err
	}
	if se.ExtendedCode == sqlite3.ErrConstraintForeignKey {
		return fmt.Errorf("%w: it was removed meanwhile", ErrNoRun)
	}
	switch se.Code {
	case sqlite3.ErrFull:
		return fmt.Errorf("the disk is full: %w", err)
	case sqlite3.ErrReadonly:
		return fmt.Errorf("the file or its folder is not writable: %w", err)
	case sqlite3.ErrCantOpen:
		return fmt.Errorf("the file or its folder cannot be opened or written: %w", err)
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		return fmt.Errorf("another process keeps the store locked: %w", err)
	case sqlite3.ErrIoErr:
		return fmt.Errorf("the disk fails: %w", err)
	case sqlite3.ErrCorrupt:
		return fmt.Errorf("the file is damaged; copy it, then try sqlite3's .recover: %w", err)
	}
	return err
}
