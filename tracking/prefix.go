package tracking

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
)

// PrefixLength returns how many characters, at least six, name each of the runs
// without naming any other run in the store.
func (s *Store) PrefixLength(ctx context.Context, runs []RunSummary) (int, error) {
	ids := make([]string, len(runs))
	for i, run := range runs {
		ids[i] = run.ID
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return 0, err
	}
	length := 6
	err = forEach(ctx, s.read, func(rows *sql.Rows) error {
		var id, below, above string
		if err := rows.Scan(&id, &below, &above); err != nil {
			return err
		}
		length = max(length, shared(id, below)+1, shared(id, above)+1)
		return nil
	}, idNeighboursSQL, string(list))
	if err != nil {
		return 0, fmt.Errorf("abbreviate ids: %w", explain(err))
	}
	return length, nil
}

// shared is the length of the start that two ids have in common.
func shared(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
