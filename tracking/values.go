package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/mattn/go-sqlite3"
)

// Values returns the values of names for each of the selected runs, in the order
// of the query: for questions that need little of many runs. A value that a run
// lacks is nil.
func (s *Store) Values(ctx context.Context, query Query, names ...Name) ([][]any, error) {
	var table [][]any
	err := s.snapshot(ctx, func(q queryer) error {
		statement, args, err := s.compileValues(ctx, q, query, names)
		if err != nil {
			return err
		}
		return forEach(ctx, q, func(rows *sql.Rows) error {
			row := make([]any, len(names))
			into := make([]any, len(names))
			for i := range row {
				into[i] = &row[i]
			}
			if err := rows.Scan(into...); err != nil {
				return err
			}
			table = append(table, row)
			return nil
		}, statement, args...)
	})
	if err != nil {
		return nil, explainQuestion(err, query)
	}
	return table, nil
}

func (s *Store) compileValues(ctx context.Context, q queryer, query Query, names []Name) (string, []any, error) {
	columns := make([]string, len(names))
	var args []any
	for i, name := range names {
		column, columnArgs := name.shown()
		columns[i] = column
		args = append(args, columnArgs...)
	}
	clauses, clauseArgs, err := s.clauses(ctx, q, query)
	if err != nil {
		return "", nil, err
	}
	return seenSQL + "SELECT " + strings.Join(columns, ", ") + " FROM seen" + clauses, append(args, clauseArgs...), nil
}

// explainQuestion blames the question, and not the store, for what is wrong
// with it: also for what SQLite would not compile, an expression that is too deep.
func explainQuestion(err error, query Query) error {
	if errors.Is(err, ErrBadQuestion) {
		return err
	}
	var se sqlite3.Error
	if errors.As(err, &se) && se.Code == sqlite3.ErrError && query.Where != "" {
		return fmt.Errorf("filter %w: %w", ErrBadQuestion, err)
	}
	return fmt.Errorf("read runs: %w", explain(err))
}
