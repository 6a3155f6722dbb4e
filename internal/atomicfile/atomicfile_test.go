package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func write(text string) func(w io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

// holds checks that a folder holds one file with the given text and nothing else.
func holds(t *testing.T, name, want string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil || string(text) != want {
		t.Errorf("%s holds %.20q, %v; want %.20q", name, text, err, want)
	}
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestWriteReplaces(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"first", "", strings.Repeat("long", bufferSize)} {
		if err := Write(name, write(text)); err != nil {
			t.Fatal(err)
		}
		holds(t, name, text)
	}
}

func TestFailureLeavesTheOldFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := Write(name, write("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := Write(name, func(w io.Writer) error {
		if err := write(strings.Repeat("new", bufferSize))(w); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v", err)
	}
	holds(t, name, "old")
}

func TestErrorsNameTheTarget(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{filepath.Join(folder, "absent", "file"), folder} {
		err := Write(name, write("x"))
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), marker) {
			t.Errorf("got %v", err)
		}
	}
}

// Callers must be able to recognise the error of a full disk.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full")
	}
	if err := fill(full, write("x")); !errors.Is(reason(err), syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

func TestSymlink(t *testing.T) {
	folder := t.TempDir()
	link := filepath.Join(folder, "link")
	for _, text := range []string{"one", "two"} {
		if err := Write(filepath.Join(folder, text), write(text)); err != nil {
			t.Fatal(err)
		}
		if err := Symlink(text, link); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(link); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestRemovePartial(t *testing.T) {
	folder := t.TempDir()
	keep := filepath.Join(folder, "keep")
	for _, name := range []string{keep, filepath.Join(folder, ".keep"+marker+"X")} {
		if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemovePartial(folder); err != nil {
		t.Fatal(err)
	}
	holds(t, keep, "x")
	if err := RemovePartial(filepath.Join(folder, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
