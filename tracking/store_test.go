package tracking

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// newStore opens a store in a folder of its own.
func newStore(t testing.TB) *Store {
	t.Helper()
	return openStore(t, filepath.Join(t.TempDir(), "koala.db"))
}

func openStore(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func startRun(t testing.TB, s *Store, n NewRun) *Run {
	t.Helper()
	run, err := s.StartRun(context.Background(), n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run.Finish(Failed, "the test ended") })
	return run
}

func TestOpenRefusesForeignFiles(t *testing.T) {
	sqlite := func(statements string) []byte {
		path := filepath.Join(t.TempDir(), "made.db")
		db, err := sql.Open("sqlite3", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(statements); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	tests := map[string]struct {
		content []byte
		want    error
	}{
		"text":             {[]byte("hello"), ErrNotAStore},
		"long text":        {[]byte(strings.Repeat("not a database\n", 1000)), ErrNotAStore},
		"another's SQLite": {sqlite("CREATE TABLE accounts (id)"), ErrNotAStore},
		"newer":            {sqlite("CREATE TABLE runs (id); PRAGMA application_id = 0x6b6f616c; PRAGMA user_version = 99"), ErrNewer},
		"negative":         {sqlite("CREATE TABLE runs (id); PRAGMA application_id = 0x6b6f616c; PRAGMA user_version = -1"), ErrNotAStore},
		"views":            {sqlite("CREATE VIEW runs AS SELECT 1 AS id; PRAGMA application_id = 0x6b6f616c; PRAGMA user_version = 1"), ErrNotAStore},
		"zero with tables": {sqlite("CREATE TABLE runs (id); PRAGMA application_id = 0x6b6f616c; PRAGMA user_version = 0"), ErrNotAStore},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, "koala.db")
			if err := os.WriteFile(path, test.content, 0o644); err != nil {
				t.Fatal(err)
			}
			for mode, open := range map[string]func(string) (*Store, error){"Open": Open, "OpenReadOnly": OpenReadOnly} {
				if _, err := open(path); !errors.Is(err, test.want) {
					t.Errorf("%s: got %v, want %v", mode, err, test.want)
				}
			}
			if content, err := os.ReadFile(path); err != nil || string(content) != string(test.content) {
				t.Errorf("the file was changed (%v)", err)
			}
			if entries, _ := os.ReadDir(folder); len(entries) != 1 {
				t.Errorf("files were left beside it: %v", entries)
			}
		})
	}
}

func TestOpenReadOnlyWithoutStore(t *testing.T) {
	folder := t.TempDir()
	if _, err := OpenReadOnly(filepath.Join(folder, "none.db")); !errors.Is(err, ErrNoStore) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := OpenReadOnly(folder); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("folder: %v", err)
	}
	if _, err := Open(folder); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("folder: %v", err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(string) (*Store, error){"Open": Open, "OpenReadOnly": OpenReadOnly, "OpenCurrent": OpenCurrent} {
		if _, err := open(fifo); err == nil || !strings.Contains(err.Error(), "FIFO") {
			t.Errorf("%s of a FIFO: %v", name, err)
		}
	}
	if IsStore(fifo) {
		t.Error("a FIFO is a store")
	}
	if entries, _ := os.ReadDir(folder); len(entries) != 0 {
		t.Errorf("reading made files: %v", entries)
	}
}

func TestOpenOddPaths(t *testing.T) {
	for _, name := range []string{"a b.db", "what?.db", "100%.db", "a#b.db", "k&o=a.db", "ключ 🐨.db", "a'b\"c.db"} {
		s := openStore(t, filepath.Join(t.TempDir(), name, name))
		startRun(t, s, NewRun{Name: name}).Finish(Finished, "")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := OpenReadOnly(s.Path())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := again.Run(context.Background(), name); err != nil {
			t.Error(err)
		}
		again.Close()
	}
}

func TestOpenRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "koala.db")
	var starters sync.WaitGroup
	for range 10 {
		starters.Go(func() {
			s, err := Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			run, err := s.StartRun(context.Background(), NewRun{Name: "racer"})
			if err != nil {
				t.Error(err)
				return
			}
			if err := run.Finish(Finished, ""); err != nil {
				t.Error(err)
			}
		})
	}
	starters.Wait()
	runs, err := openStore(t, path).Runs(context.Background(), Query{})
	if err != nil || len(runs) != 10 {
		t.Errorf("%d runs, want 10 (%v)", len(runs), err)
	}
}
