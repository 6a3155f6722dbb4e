package tracking

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// ask returns all rows.
func queryAll(ctx context.Context, s *Store, statement string) ([][]any, error) {
	answer, err := s.QuerySQL(ctx, statement)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	var rows [][]any
	for {
		row, more, err := answer.Next()
		if err != nil || !more {
			return rows, err
		}
		rows = append(rows, row)
	}
}

func TestQuerySQL(t *testing.T) {
	s := fourRuns(t)
	ctx := context.Background()
	startRun(t, s, NewRun{ID: "dead", Name: "dead"})
	if _, err := s.write.Exec("UPDATE runs SET process_start = 1 WHERE id = 'dead'"); err != nil {
		t.Fatal(err)
	}
	tests := map[string]any{
		"SELECT count(*) FROM runs":                                                                  int64(5),
		"SELECT status FROM runs WHERE id = 'dead'":                                                  "crashed",
		"SELECT value FROM settings WHERE run = 'a' AND key = 'optimizer.kind'":                      "koala-v",
		"SELECT count(*) FROM metrics WHERE run = 'a' AND name = 'val_ppl'":                          int64(2),
		"SELECT min(best) FROM latest WHERE name = 'val_ppl'":                                        70.0,
		"SELECT value IS NULL FROM latest WHERE name = 'val_ppl' AND run = 'c'":                      int64(1),
		"SELECT tag FROM tags WHERE run = 'b'":                                                       "odd ' tag",
		"SELECT kind FROM events WHERE run = 'a' ORDER BY time LIMIT 1":                              "started",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 9) SELECT max(i) FROM n": int64(9),
		"SELECT name FROM pragma_table_info('runs') LIMIT 1":                                         "number",
		"SELECT started < '2026-01-02' FROM runs WHERE id = 'a'":                                     int64(1),
	}
	for statement, want := range tests {
		t.Run(statement, func(t *testing.T) {
			rows, err := queryAll(ctx, s, statement)
			if err != nil || len(rows) != 1 || rows[0][0] != want {
				t.Errorf("%v, want %v (%v)", rows, want, err)
			}
		})
	}
}

// Each statement would change something if a guard were missing.
func TestQuerySQLOnlyReads(t *testing.T) {
	s := fourRuns(t)
	folder := t.TempDir()
	outside := filepath.Join(folder, "outside.db")
	before, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		"INSERT INTO run_tags VALUES (1, 'x')",
		"UPDATE runs SET name = 'x'",
		"UPDATE main.runs SET name = 'x'",
		"DELETE FROM runs",
		"DROP TABLE runs",
		"DROP VIEW temp.runs",
		"CREATE TABLE x (y)",
		"CREATE TEMP TABLE x (y)",
		"CREATE VIEW x AS SELECT 1",
		"ALTER TABLE runs RENAME TO x",
		"ATTACH '" + outside + "' AS x",
		"SELECT 1; ATTACH '" + outside + "' AS x",
		"VACUUM INTO '" + outside + "'",
		"VACUUM",
		"PRAGMA query_only = OFF",
		"PRAGMA writable_schema = ON",
		"PRAGMA user_version = 99",
		"PRAGMA journal_mode = DELETE",
		"PRAGMA wal_checkpoint",
		"BEGIN IMMEDIATE",
		"SAVEPOINT x",
		"REINDEX",
		"ANALYZE",
		"SELECT load_extension('x')",
		"WITH x AS (SELECT 1) DELETE FROM runs",
		"REPLACE INTO run_tags VALUES (1, 'x')",
		"EXPLAIN DELETE FROM runs",
		"SELECT zeroblob(1000000000)",
		"SELECT printf('%.*c', 100000000, 'x')",
		"SELECT 1; SELECT 2",
		"SELECT ';'; -- one\nSELECT 2",
		";SELECT 1",
		"SELEKT",
		"",
	} {
		t.Run(statement, func(t *testing.T) {
			if _, err := queryAll(context.Background(), s, statement); !errors.Is(err, ErrBadQuestion) {
				t.Error(err)
			}
		})
	}
	if entries, _ := os.ReadDir(folder); len(entries) != 0 {
		t.Errorf("files were made: %v", entries)
	}
	if after, err := os.ReadFile(s.Path()); err != nil || string(after) != string(before) {
		t.Errorf("the store was changed (%v)", err)
	}
	if runs, err := s.Runs(context.Background(), Query{}); err != nil || len(runs) != 4 {
		t.Errorf("%d runs afterwards (%v)", len(runs), err)
	}
}

func TestQuerySQLStopsInTime(t *testing.T) {
	s := fourRuns(t)
	for _, statement := range []string{
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT max(i) FROM n",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i FROM n WHERE i < 0",
	} {
		t.Run(statement, func(t *testing.T) {
			tooSlow := errors.New("too slow")
			ctx, cancel := context.WithTimeoutCause(context.Background(), 20*time.Millisecond, tooSlow)
			defer cancel()
			if _, err := queryAll(ctx, s, statement); !errors.Is(err, tooSlow) && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}
