package tracking

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net/url"
	"strings"

	"github.com/mattn/go-sqlite3"
)

// access says what a connection may do to the file.
type access int

const (
	readWrite access = iota
	readOnly
	immutable // read-only on a medium where SQLite cannot even make its shared memory
)

// writePragmas make a commit survive a power cut: in WAL mode only FULL syncs
// the log at every commit, and batches make that one sync a second.
var writePragmas = []string{
	"PRAGMA foreign_keys = ON",
	"PRAGMA synchronous = FULL",
	"PRAGMA journal_size_limit = 67108864",
}

var readPragmas = []string{
	"PRAGMA query_only = ON",
}

// connector opens connections to one file. It stands in for sql.Open so that
// the package registers no driver and every connection is set up alike.
type connector struct {
	dsn     string
	pragmas []string
	driver  *sqlite3.SQLiteDriver
}

func newConnector(path string, mode access) *connector {
	options := url.Values{}
	options.Set("_busy_timeout", "10000")
	// A transaction that first reads and then writes may find that another has
	// written meanwhile, and SQLite then refuses it at once. So the write lock is
	// taken, and waited for, at the start.
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
	for _, pragma := range c.pragmas {
		if _, err := conn.(*sqlite3.SQLiteConn).Exec(pragma, nil); err != nil {
			conn.Close()
			return nil, fmt.Errorf("%s: %w", strings.ToLower(pragma), err)
		}
	}
	return conn, nil
}

// openDB opens a pool. Writers share one connection: SQLite has one write lock,
// and waiting for it in Go is fairer than in SQLite's busy handler.
func openDB(path string, mode access) *sql.DB {
	db := sql.OpenDB(newConnector(path, mode))
	if mode == readWrite {
		db.SetMaxOpenConns(1)
	}
	return db
}
