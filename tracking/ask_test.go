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
func ask(ctx context.Context, s *Store, statement string) ([][]any, error) {
	answer, err := s.Ask(ctx, statement)
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

func TestAsk(t *testing.T) {
	s := questioned(t)
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
		rows, err := ask(ctx, s, statement)
		if err != nil || len(rows) != 1 || rows[0][0] != want {
			t.Errorf("%s: %v, want %v (%v)", statement, rows, want, err)
		}
	}
}

// Each would change something if only one of the walls stood.
func TestAskOnlyReads(t *testing.T) {
	s := questioned(t)
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
		"SELEKT",
		"",
	} {
		if _, err := ask(context.Background(), s, statement); !errors.Is(err, ErrBadQuestion) {
			t.Errorf("%s: %v", statement, err)
		}
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

func TestAskStopsInTime(t *testing.T) {
	s := questioned(t)
	for _, statement := range []string{
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT max(i) FROM n",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i FROM n WHERE i < 0",
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		start := time.Now()
		_, err := ask(ctx, s, statement)
		cancel()
		if err == nil || time.Since(start) > 5*time.Second {
			t.Errorf("%s: %v after %v", statement, err, time.Since(start))
		}
	}
}
