package checkpoint

import (
	"bytes"
	"os"
	"path/filepath"
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

// opens is Open of a file with the given content.
func opens(content []byte) error {
	r, err := safetensors.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	return (&File{reader: r}).verify()
}

// Whatever is cut off and whichever byte is another, the file is refused; but for
// the white space that the format pads its header with.
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

// Whatever the bytes, nothing panics.
func FuzzOpen(f *testing.F) {
	f.Add(small(f))
	f.Fuzz(func(t *testing.T, content []byte) { _ = opens(content) })
}
