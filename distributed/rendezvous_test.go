package distributed

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRendezvousFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rendezvous")
	mustBeNone := func() {
		t.Helper()
		if m, err := ReadRendezvous(file); !errors.Is(err, ErrNoRendezvous) {
			t.Errorf("got %v, %v", m, err)
		}
	}
	mustBeNone()
	if err := os.WriteFile(file, nil, 0o644); err != nil { // as mktemp leaves it
		t.Fatal(err)
	}
	mustBeNone()
	first, second := NewRendezvous("head"), NewRendezvous("")
	if diff := cmp.Diff(append([]string{"head"}, second.Hosts...), first.Hosts); diff != "" {
		t.Error(diff)
	}
	if host, err := os.Hostname(); err != nil || second.Hosts[0] != host || len(second.Hosts) < 2 {
		t.Errorf("hosts %v, want %s and an address (%v)", second.Hosts, host, err)
	}
	first.Port, second.Port = 1, 2
	for _, m := range []Rendezvous{first, second} {
		if err := m.Publish(file); err != nil {
			t.Fatal(err)
		}
		got, err := ReadRendezvous(file)
		if diff := cmp.Diff(m, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
	}
	first.Remove(file) // which is not its own any more
	if got, err := ReadRendezvous(file); err != nil || got.ID != second.ID {
		t.Errorf("got %v, %v", got, err)
	}
	second.Remove(file)
	mustBeNone()
	second.Remove(file)
}

func TestReadRendezvousRefuses(t *testing.T) {
	folder := t.TempDir()
	pipe := filepath.Join(folder, "pipe") // nobody writes into it
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	files := []string{folder, pipe}
	for name, content := range map[string]string{
		"text": "Call me Ishmael.\n", "config.json": `{"port": 7}`, "mine.json": `{"id": "a", "hosts": ["b"], "port": 1, "loss": 2}`,
		"two": `{"id": "a", "hosts": ["b"], "port": 1} {}`, "torn": `{"id": "a", "hosts": ["b"], "po`,
	} {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	for _, file := range files {
		if m, err := ReadRendezvous(file); err == nil || !strings.Contains(err.Error(), file+" is not a rendezvous file") {
			t.Errorf("%s: %v, %v", file, m, err)
		}
	}
	if _, err := ReadRendezvous(filepath.Join(folder, "text", "below")); err == nil || errors.Is(err, ErrNoRendezvous) {
		t.Errorf("below a file: %v", err)
	}
	if err := NewRendezvous("head").Publish(filepath.Join(folder, "absent", "f")); err == nil || !strings.Contains(err.Error(), "absent/f: no such file") {
		t.Errorf("in no folder: %v", err)
	}
}

func FuzzRendezvous(f *testing.F) {
	f.Add([]byte(`{"id": "a", "hosts": ["b"], "port": 1}`))
	f.Add([]byte(`{"id": "a", "hosts": ["b"], "po`))
	f.Fuzz(func(t *testing.T, content []byte) {
		if r, err := parseRendezvous(content); err == nil && (r.ID == "" || len(r.Hosts) == 0) {
			t.Errorf("%q gives %+v", content, r)
		}
	})
}
