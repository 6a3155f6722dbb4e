package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzTokenFile opens datasets whose train.bin holds any bytes, with a
// dataset.json of any size. A dataset that opens gives whole batches of ids
// within the vocabulary.
func FuzzTokenFile(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 2, 0}, int64(3), 3)
	f.Add([]byte{0, 0, 1, 0, 9, 0}, int64(3), 3)
	f.Add([]byte{0, 0, 0, 0, 1, 0, 1, 0}, int64(2), 70_000)
	f.Add([]byte{}, int64(0), 1)
	f.Fuzz(func(t *testing.T, content []byte, tokens int64, vocab int) {
		dir := t.TempDir()
		tokenizer := []byte("{}")
		write(t, dir, TokenizerFile, tokenizer)
		write(t, dir, "train.bin", content)
		info, err := json.Marshal(Info{
			Format: Format, Name: "fuzz", TokenType: TokenType(vocab),
			Tokenizer: TokenizerInfo{Kind: "word", Vocab: vocab, SHA256: sum(tokenizer)},
			Splits:    map[string]SplitInfo{"train": {File: "train.bin", Tokens: tokens, SHA256: sum(content)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, InfoFile, info)
		d, err := Open(dir)
		if err != nil {
			return
		}
		defer d.Close()
		train, _ := d.Split("train")
		b, err := NewContiguous(train, 2, 3, Evaluation())
		if err != nil {
			return
		}
		predictions := 0
		for {
			batch, err := b.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			predictions += batch.Predictions
			for _, id := range batch.Inputs {
				if id < 0 || id >= int64(vocab) {
					t.Fatalf("id %d in a vocabulary of %d", id, vocab)
				}
			}
		}
		if int64(predictions) != tokens-1 {
			t.Errorf("%d predictions of %d tokens", predictions, tokens)
		}
	})
}

func TestTokensOfBothWidths(t *testing.T) {
	for _, width := range []int{2, 4} {
		var content []byte
		for id := range 1000 {
			if width == 2 {
				content = binary.LittleEndian.AppendUint16(content, uint16(65_535-id))
			} else {
				content = binary.LittleEndian.AppendUint32(content, uint32(65_535-id))
			}
		}
		dir := t.TempDir()
		write(t, dir, "x.bin", content)
		tokens, err := mapTokens(filepath.Join(dir, "x.bin"), width, 1000)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]int64, 10)
		if err := tokens.Read(got, 990); err != nil || got[9] != 65_535-999 || tokens.At(5) != 65_530 {
			t.Errorf("width %d: %v, %v", width, got, err)
		}
		for _, from := range []int{-1, 991, 5000} {
			if err := tokens.Read(got, from); err == nil {
				t.Errorf("width %d: Read from %d succeeds", width, from)
			}
		}
		if err := tokens.unmap(); err != nil {
			t.Error(err)
		}
	}
}

func write(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}
