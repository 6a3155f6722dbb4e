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

// MaxSQLValue bounds, in bytes, each value that a user's SQL may compute: without a
// bound, one line of SQL could use all memory.
const MaxSQLValue = 64 << 20

// SQLRows is the result of a user's SQL, row by row.
type SQLRows struct {
	Columns []string
	rows    *sql.Rows
	close   []func() error
}

// QuerySQL runs one SQL statement of a user, which can only read. It stops when
// ctx ends.
//
// Each of these four guards is sufficient on its own: the file is open for
// reading only, the connection refuses writes, an authorizer allows nothing but
// reads, and no further file can be attached.
func (s *Store) QuerySQL(ctx context.Context, statement string) (*SQLRows, error) {
	if strings.TrimSpace(statement) == "" {
		return nil, fmt.Errorf("SQL %w: the statement is empty", ErrBadQuestion)
	}
	if second := afterStatement(statement); second != "" {
		return nil, fmt.Errorf("SQL %w: it has a second statement, %.40q: ask them one by one", ErrBadQuestion, second)
	}
	rows := &SQLRows{}
	if err := rows.open(ctx, s.read, statement); err != nil {
		return nil, errors.Join(explainSQL(ctx, err), rows.Close())
	}
	return rows, nil
}

// afterStatement returns what follows the first statement beside spaces, comments and
// further semicolons. SQLite would run all statements and answer the last one only.
func afterStatement(text string) string {
	ended := false
	for at := 0; at < len(text); {
		length := 1
		switch rest := text[at:]; {
		case strings.HasPrefix(rest, "--"):
			length = through(rest, 2, "\n")
		case strings.HasPrefix(rest, "/*"):
			length = through(rest, 2, "*/")
		case strings.ContainsRune(" \t\r\n\f\v", rune(rest[0])):
		case rest[0] == ';':
			ended = true
		case ended:
			return rest
		case strings.ContainsRune("'\"`", rune(rest[0])): // doubled quotes are two texts side by side
			length = through(rest, 1, rest[:1])
		case rest[0] == '[':
			length = through(rest, 1, "]")
		}
		at += length
	}
	return ""
}

// through returns the length of text up to and including end, which begins at from or
// later, or of all text.
func through(text string, from int, end string) int {
	if i := strings.Index(text[from:], end); i >= 0 {
		return from + i + len(end)
	}
	return len(text)
}

func (r *SQLRows) open(ctx context.Context, db *sql.DB, statement string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	// The confined connection must not go back into the pool.
	r.close = append(r.close, func() error {
		err := conn.Raw(func(any) error { return errDiscard })
		if errors.Is(err, errDiscard) {
			err = nil
		}
		return err
	})
	if err := conn.Raw(func(driverConn any) error { return confine(driverConn.(*sqlite3.SQLiteConn)) }); err != nil {
		return err
	}
	if r.rows, err = conn.QueryContext(ctx, statement); err != nil {
		return err
	}
	r.close = append([]func() error{r.rows.Close}, r.close...)
	r.Columns, err = r.rows.Columns()
	return err
}

// errDiscard makes database/sql discard a connection.
var errDiscard = fmt.Errorf("confined to one query: %w", driver.ErrBadConn)

// confine restricts a connection to reading this file. The view runs hides the
// table of that name: users see the status that all readers see.
func confine(conn *sqlite3.SQLiteConn) error {
	for _, statement := range []string{
		"PRAGMA query_only = OFF",
		"CREATE TEMP VIEW runs AS SELECT * FROM observed_runs",
		"PRAGMA query_only = ON",
		"PRAGMA trusted_schema = OFF",
	} {
		if _, err := conn.Exec(statement, nil); err != nil {
			return err
		}
	}
	conn.SetLimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
	conn.SetLimit(sqlite3.SQLITE_LIMIT_LENGTH, MaxSQLValue)
	conn.RegisterAuthorizer(authorize)
	return nil
}

// authorize decides about each action of a statement before it runs.
func authorize(action int, first, second, _ string) int {
	switch action {
	case sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqliteRecursive:
		return sqlite3.SQLITE_OK
	case sqlite3.SQLITE_FUNCTION:
		if strings.EqualFold(second, "load_extension") {
			return sqlite3.SQLITE_DENY
		}
		return sqlite3.SQLITE_OK
	case sqlite3.SQLITE_PRAGMA: // pragmas that describe tables
		switch strings.ToLower(first) {
		case "table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list":
			return sqlite3.SQLITE_OK
		}
	}
	return sqlite3.SQLITE_DENY
}

// sqliteRecursive is SQLITE_RECURSIVE, which the driver does not name.
const sqliteRecursive = 33

// Next reads a row; it returns false after the last.
func (r *SQLRows) Next() ([]any, bool, error) {
	if !r.rows.Next() {
		return nil, false, r.rows.Err()
	}
	row := make([]any, len(r.Columns))
	into := make([]any, len(row))
	for i := range row {
		into[i] = &row[i]
	}
	return row, true, r.rows.Scan(into...)
}

// Close ends the query.
func (r *SQLRows) Close() error {
	var err error
	for _, f := range r.close {
		err = errors.Join(err, f())
	}
	r.close = nil
	return err
}

// explainSQL distinguishes a wrong statement from an unreadable store.
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
