package tracking

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/mattn/go-sqlite3"
)

// MaxValue bounds a single value a question in SQL may make, in bytes: without a
// bound one line of SQL takes all memory.
const MaxValue = 64 << 20

// Answer is the result of a question in SQL, row by row.
type Answer struct {
	Columns []string
	rows    *sql.Rows
	close   []func() error
}

// Ask runs one SQL statement that can only read. It stops when ctx ends.
//
// Four things hold it each by itself: the file is open for reading only, the
// connection refuses writes, an authorizer lets nothing through but reading, and
// no further file may be attached.
func (s *Store) Ask(ctx context.Context, statement string) (*Answer, error) {
	if strings.TrimSpace(statement) == "" {
		return nil, fmt.Errorf("SQL %w: the statement is empty", ErrBadQuestion)
	}
	answer := &Answer{}
	if err := answer.open(ctx, s.read, statement); err != nil {
		return nil, errors.Join(explainSQL(ctx, err), answer.Close())
	}
	return answer, nil
}

func (a *Answer) open(ctx context.Context, db *sql.DB, statement string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	// The connection is spoilt for other uses: it must not go back into the pool.
	a.close = append(a.close, func() error {
		err := conn.Raw(func(any) error { return errSpoilt })
		if errors.Is(err, errSpoilt) {
			err = nil
		}
		return err
	})
	if err := conn.Raw(func(driverConn any) error { return confine(driverConn.(*sqlite3.SQLiteConn)) }); err != nil {
		return err
	}
	if a.rows, err = conn.QueryContext(ctx, statement); err != nil {
		return err
	}
	a.close = append([]func() error{a.rows.Close}, a.close...)
	a.Columns, err = a.rows.Columns()
	return err
}

// errSpoilt makes database/sql throw a connection away.
var errSpoilt = fmt.Errorf("confined to one question: %w", driver.ErrBadConn)

// confine leaves a connection nothing but reading this file. Runs are shown with
// the status that readers see.
func confine(conn *sqlite3.SQLiteConn) error {
	for _, statement := range []string{"PRAGMA query_only = OFF", seenViewSQL, "PRAGMA query_only = ON", "PRAGMA trusted_schema = OFF"} {
		if _, err := conn.Exec(statement, nil); err != nil {
			return err
		}
	}
	conn.SetLimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
	conn.SetLimit(sqlite3.SQLITE_LIMIT_LENGTH, MaxValue)
	conn.RegisterAuthorizer(authorize)
	return nil
}

// authorize is asked for each thing a statement does before it is run.
func authorize(action int, first, second, _ string) int {
	switch action {
	case sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqliteRecursive:
		return sqlite3.SQLITE_OK
	case sqlite3.SQLITE_FUNCTION:
		if strings.EqualFold(second, "load_extension") {
			return sqlite3.SQLITE_DENY
		}
		return sqlite3.SQLITE_OK
	case sqlite3.SQLITE_PRAGMA: // those that describe tables
		switch strings.ToLower(first) {
		case "table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list":
			return sqlite3.SQLITE_OK
		}
	}
	return sqlite3.SQLITE_DENY
}

// sqliteRecursive is SQLITE_RECURSIVE, which the driver does not name.
const sqliteRecursive = 33

// Next reads a row; false after the last.
func (a *Answer) Next() ([]any, bool, error) {
	if !a.rows.Next() {
		return nil, false, a.rows.Err()
	}
	row := make([]any, len(a.Columns))
	into := make([]any, len(row))
	for i := range row {
		into[i] = &row[i]
	}
	return row, true, a.rows.Scan(into...)
}

// Close ends the question.
func (a *Answer) Close() error {
	var err error
	for _, f := range a.close {
		err = errors.Join(err, f())
	}
	a.close = nil
	return err
}

// explainSQL tells a bad statement from a store that cannot be read.
func explainSQL(ctx context.Context, err error) error {
	var se sqlite3.Error
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &se) && se.Code == sqlite3.ErrAuth:
		return fmt.Errorf("SQL %w: only reading is allowed here", ErrBadQuestion)
	case errors.As(err, &se) && (se.Code == sqlite3.ErrError || se.Code == sqlite3.ErrReadonly || se.Code == sqlite3.ErrTooBig):
		return fmt.Errorf("SQL %w: %w", ErrBadQuestion, err)
	}
	return explain(err)
}
