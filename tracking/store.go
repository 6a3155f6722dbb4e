package tracking

import (
	"context"
	"database/sql"
	"database/sql/driver"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"
)

// ErrNoStore is returned if the file does not exist.
var ErrNoStore = errors.New("there is no store")

// Store is one SQLite file of runs. Many goroutines may use one Store, and many
// processes one file.
type Store struct {
	path  string
	write *sql.DB // nil when opened read-only
	read  *sql.DB
	file  os.FileInfo // the open file, to notice that another one replaced it
	log   os.FileInfo // its write-ahead log, nil when opened read-only
	seen  seen
	now   func() time.Time
}

// Open opens the store at path for reading and writing. It creates a missing
// file and folder, and migrates an older store. It does not change a file that is no
// store (ErrNotAStore) or a newer store (ErrNewer).
func Open(path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := createEmpty(path); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	s := &Store{path: path, now: time.Now}
	if s.file, err = os.Stat(path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.write = openDB(path, readWrite)
	if err := migrate(context.Background(), s.write, path); err != nil {
		s.write.Close()
		return nil, fmt.Errorf("open store %s: %w", path, explain(err))
	}
	s.log, _ = os.Stat(path + "-wal") // it exists as long as a connection does
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
		return nil, fmt.Errorf("%w at %s: the first training run makes it; --store names another", ErrNoStore, path)
	case err != nil:
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := checkRegular(s.file); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	if networkFileSystem(path) != "" && isWAL(path) {
		return nil, fmt.Errorf("open store %s: %w", path, ErrSharedWAL)
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

// Watch notices changes of the store. Close it after use.
type Watch struct {
	conn    *sql.Conn // SQLite's data_version compares only within a connection
	version int64
	running int64
}

// Watch starts to watch the store.
func (s *Store) Watch(ctx context.Context) (*Watch, error) {
	conn, err := s.read.Conn(ctx)
	if err != nil {
		return nil, explain(err)
	}
	w := &Watch{conn: conn}
	if _, err := w.Changed(ctx); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Changed reports whether the store has changed since the last call: any commit of
// another process counts, and a running run whose process is gone.
func (w *Watch) Changed(ctx context.Context) (bool, error) {
	before := *w
	if err := w.conn.QueryRowContext(ctx, `PRAGMA data_version`).Scan(&w.version); err != nil {
		return false, explain(err)
	}
	err := w.conn.QueryRowContext(ctx, `SELECT count(*) FROM observed_runs WHERE number IN (SELECT number FROM main.runs WHERE status = 'running') AND status = 'running'`).Scan(&w.running)
	return *w != before, explain(err)
}

// Close ends the watch.
func (w *Watch) Close() error { return w.conn.Close() }

// OpenCurrent opens an existing store for reading. It first migrates an older store,
// and changes the journal mode of one that was copied to a network file system; both
// need write access.
func OpenCurrent(path string) (*Store, error) {
	s, err := OpenReadOnly(path)
	if errors.Is(err, ErrOlder) || errors.Is(err, ErrSharedWAL) {
		return Open(path)
	}
	return s, err
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
		return fmt.Errorf("%w yet: the file is empty", ErrNoStore) // its creator was killed, or still migrates it
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
	if s.write != nil && !s.seen.isLost() { // the last connection would copy an emptied log into the file
		err = errors.Join(err, s.write.Close())
	}
	return err
}

// checkRegular refuses what is no file of bytes: opening a FIFO waits for its writer.
func checkRegular(info os.FileInfo) error {
	switch {
	case info.IsDir():
		return errors.New("it is a folder, not a file")
	case !info.Mode().IsRegular():
		return errors.New("it is a FIFO, a socket or a device, not a file")
	}
	return nil
}

// createEmpty makes an empty file for SQLite to fill, and its folder.
func createEmpty(path string) error {
	if info, err := os.Stat(path); err == nil {
		return checkRegular(info)
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

// cannotOpen reports whether err is SQLite's error for a file on a read-only
// medium, where SQLite cannot create its shared memory.
func cannotOpen(err error) bool {
	var se sqlite3.Error
	return errors.As(err, &se) && (se.Code == sqlite3.ErrCantOpen || se.Code == sqlite3.ErrReadonly)
}

// hasLog reports whether commits wait in the write-ahead log: a reader that skips
// the log would miss them.
func hasLog(path string) bool {
	info, err := os.Stat(path + "-wal")
	return err == nil && info.Size() > 0
}

// explain adds to SQLite's terse messages what happened and what to do.
func explain(err error) error {
	var se sqlite3.Error
	if !errors.As(err, &se) {
		return err
	}
	if se.ExtendedCode == sqlite3.ErrConstraintForeignKey {
		return fmt.Errorf("%w: another process removed it", ErrNoRun)
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
		return fmt.Errorf("the disk failed: %w", err)
	case sqlite3.ErrCorrupt:
		return fmt.Errorf("the file is damaged; copy it, then try sqlite3's .recover: %w", err)
	}
	return err
}

// access is a connection's access to the file.
type access int

const (
	readWrite access = iota
	readOnly
	immutable // read-only on a medium where SQLite cannot even make its shared memory
)

// views are the temporary views of every connection.
//
//go:embed views.sql
var views string

// With writePragmas a commit survives a power cut: in WAL mode only FULL syncs
// the log at every commit. Batching keeps that at two syncs a second.
var writePragmas = []string{
	"PRAGMA foreign_keys = ON",
	"PRAGMA synchronous = FULL",
	"PRAGMA journal_size_limit = 67108864",
}

var readPragmas = []string{
	"PRAGMA query_only = ON",
}

// connector opens connections to one file, each with the same functions, views
// and pragmas. Unlike sql.Open it registers no global driver.
type connector struct {
	dsn     string
	pragmas []string
	driver  *sqlite3.SQLiteDriver
}

func newConnector(path string, mode access) *connector {
	options := url.Values{}
	options.Set("_busy_timeout", "10000")
	// SQLite refuses, without waiting, a transaction that reads, sees another
	// process write, and then writes itself. Taking the write lock at the start
	// makes it wait instead.
	options.Set("_txlock", "immediate")
	options.Set("mode", "rw")
	c := &connector{pragmas: writePragmas, driver: &sqlite3.SQLiteDriver{ConnectHook: registerFunctions}}
	if mode != readWrite {
		options.Set("mode", "ro")
		options.Set("_txlock", "deferred")
		c.pragmas = readPragmas
	}
	if mode == immutable {
		options.Set("immutable", "1")
	}
	file := url.URL{Scheme: "file", Path: path}
	c.dsn = file.String() + "?" + options.Encode()
	return c
}

func (c *connector) Driver() driver.Driver { return c.driver }

func (c *connector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	for _, statement := range append([]string{views}, c.pragmas...) {
		if _, err := conn.(*sqlite3.SQLiteConn).Exec(statement, nil); err != nil {
			conn.Close()
			return nil, fmt.Errorf("set up connection (%.30s): %w", strings.TrimLeft(statement, "- \n"), err)
		}
	}
	return conn, nil
}

// openDB opens a pool. All writers of a process share one connection: SQLite has
// one write lock, and waiting for it in Go is fairer than in SQLite's busy handler.
func openDB(path string, mode access) *sql.DB {
	db := sql.OpenDB(newConnector(path, mode))
	if mode == readWrite {
		db.SetMaxOpenConns(1)
	}
	return db
}

// queryer is implemented by *sql.DB, *sql.Conn and *sql.Tx.
type queryer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// forEach runs a query and calls scan for each row.
func forEach(ctx context.Context, q queryer, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// update runs change in a transaction that holds the write lock from its start.
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

// snapshot runs read in a read transaction: all its queries see one state.
func (s *Store) snapshot(ctx context.Context, read func(queryer) error) error {
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return read(tx)
}

// isWAL reports whether the file header of a SQLite file asks for WAL mode.
func isWAL(path string) bool {
	header := readHeader(path)
	return header != nil && header[19] == 2
}

// IsStore reports whether the file at path is a store, of any version. It returns
// false for an unreadable file.
func IsStore(path string) bool {
	header := readHeader(path)
	return header != nil && binary.BigEndian.Uint32(header[68:]) == applicationID
}

// readHeader returns the header of a SQLite file, nil for any other file:
// https://sqlite.org/fileformat.html.
func readHeader(path string) []byte {
	if info, err := os.Stat(path); err != nil || checkRegular(info) != nil {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	header := make([]byte, 100)
	if _, err := io.ReadFull(file, header); err != nil || !strings.HasPrefix(string(header), "SQLite format 3\x00") {
		return nil
	}
	return header
}
