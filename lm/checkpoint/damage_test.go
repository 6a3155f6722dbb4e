package checkpoint

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/koala-lm/koala-lm/internal/safetensors"
)

// small returns the smallest checkpoint that has all parts.
func small(t testing.TB) []byte {
	j := baseJob()
	j.model.Layers, j.model.Embed, j.model.Hidden = 1, 1, 1
	folder := trained(t, j, 3)
	return must[[]byte](t)(os.ReadFile(filepath.Join(folder, fileName(3))))
}

// opens calls Open on a file with the given content.
func opens(content []byte) error {
	r, err := safetensors.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	return (&File{reader: r}).verify()
}

// Open refuses the file whatever part is cut off and whichever byte changes, except
// for the white space that pads the format's header.
func TestEveryDamageIsNoticed(t *testing.T) {
	content := small(t)
	if err := opens(content); err != nil {
		t.Fatal(err)
	}
	for n := range content {
		if opens(content[:n]) == nil {
			t.Errorf("the first %d of %d bytes open", n, len(content))
		}
	}
	for i := range content {
		if content[i] == ' ' {
			continue
		}
		for bit := byte(1); bit > 0; bit <<= 1 {
			content[i] ^= bit
			if opens(content) == nil {
				t.Errorf("the file opens with bit %#x of byte %d of %d changed", bit, i, len(content))
			}
			content[i] ^= bit
		}
	}
}

// A file that cannot be opened is skipped like a damaged file.
func TestLatestPassesByUnopenableFiles(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a dangling link":  func(path string) error { return os.Symlink("/nonexistent", path) },
		"a link to itself": func(path string) error { return os.Symlink(path, path) },
		"a folder":         func(path string) error { return os.Mkdir(path, 0o755) },
		"a FIFO":           func(path string) error { return syscall.Mkfifo(path, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.WriteFile(filepath.Join(folder, fileName(3)), small(t), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := make(filepath.Join(folder, fileName(9))); err != nil {
				t.Fatal(err)
			}
			f, damaged, err := Latest(folder)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.State.Progress.Step != 3 || len(damaged) != 1 || damaged[0].Path != filepath.Join(folder, fileName(9)) {
				t.Errorf("opened step %d, passed by %v", f.State.Progress.Step, damaged)
			}
		})
	}
}

// Whatever the bytes, nothing panics.
func FuzzOpen(f *testing.F) {
	f.Add(small(f))
	f.Fuzz(func(t *testing.T, content []byte) { _ = opens(content) })
}
