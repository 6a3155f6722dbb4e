package data_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/prepare"
	"github.com/koala-lm/koala-lm/data/tokenizer"
)

const poem = `the koala sleeps in the tree
the koala eats a leaf

a leaf falls from the tree
and the koala sleeps
`

// prepared makes a dataset of the poem: its last line is test, the one before
// it valid.
func prepared(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text := filepath.Join(dir, "poem.txt")
	if err := os.WriteFile(text, []byte(poem), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "poem")
	if _, err := prepare.Run(context.Background(), prepare.Options{Paths: []string{text}, Out: out, Valid: 0.2, Test: 0.2}); err != nil {
		t.Fatal(err)
	}
	return out
}

func open(t *testing.T, dir string) *data.Dataset {
	t.Helper()
	d, err := data.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestOpen(t *testing.T) {
	d := open(t, prepared(t))
	tok, err := d.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	whole := ""
	for _, name := range data.SplitNames {
		tokens, ok := d.Split(name)
		if !ok {
			t.Fatalf("there is no %s", name)
		}
		ids := make([]uint32, tokens.Len())
		for i := range ids {
			ids[i] = uint32(tokens.At(i))
		}
		whole += tokenizer.Decode(tok, ids)
		if got := d.Info().Splits[name]; got.Words != got.Tokens || got.Tokens != int64(tokens.Len()) {
			t.Errorf("%s: %+v with %d tokens", name, got, tokens.Len())
		}
	}
	if want := strings.Replace(poem, "falls from", "<unk> <unk>", 1); whole != want && whole != strings.Replace(want, "and", "<unk>", 1) {
		t.Errorf("the splits read\n%s", whole)
	}
	if again := open(t, d.Dir()); again.Fingerprint() != d.Fingerprint() || len(d.Fingerprint()) != 64 {
		t.Errorf("fingerprints %q and %q", d.Fingerprint(), again.Fingerprint())
	}
}

func TestUnigramPPL(t *testing.T) {
	d := open(t, prepared(t))
	counts, err := d.Counts("train")
	if err != nil {
		t.Fatal(err)
	}
	for _, split := range data.SplitNames {
		tokens, _ := d.Split(split)
		train, _ := d.Split("train")
		nats := 0.0
		for i := 1; i < tokens.Len(); i++ {
			nats -= math.Log(float64(counts[tokens.At(i)]+1) / float64(train.Len()+d.Vocab()))
		}
		want := math.Exp(nats / float64(tokens.Len()-1))
		got, err := d.UnigramPPL(split)
		if err != nil || math.Abs(got-want) > 1e-9*want {
			t.Errorf("UnigramPPL(%s) = %v, %v, want %v", split, got, err, want)
		}
	}
}

// A dataset that was changed after prepare is an error that names the file.
func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		want   []string
	}{
		"no folder":    {func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) }, []string{"no dataset at", "koala-lm prepare"}},
		"no json":      {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "dataset.json"))) }, []string{"dataset.json"}},
		"no train":     {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "train.bin"))) }, []string{"train.bin"}},
		"truncated":    {func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "train.bin"), 10)) }, []string{"train.bin", "10 bytes"}},
		"empty":        {func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "valid.bin"), 0)) }, []string{"valid.bin", "0 bytes"}},
		"no starts":    {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "train.starts"))) }, []string{"train.starts"}},
		"cut starts":   {func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "train.starts"), 7)) }, []string{"train.starts", "7 bytes"}},
		"other starts": {func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "train.starts")) }, []string{"train.starts", "checksum"}},
		"flipped":      {func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "train.bin")) }, []string{"train.bin", "checksum"}},
		"tokenizer":    {func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "tokenizer.json")) }, []string{"tokenizer.json", "checksum"}},
		"format":       {edit("format", 99), []string{"format is 99"}},
		"type":         {edit("token_type", "uint64"), []string{"token_type"}},
		"type of json": {edit("splits", "train"), []string{"dataset.json"}},
		"no splits":    {edit("splits", map[string]any{}), []string{"no train"}},
		"path": {edit("splits", map[string]any{"train": map[string]any{"file": "../../x", "tokens": 1}}),
			[]string{"splits.train.file"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := prepared(t)
			c.change(t, dir)
			d, err := data.Open(dir)
			if err == nil {
				d.Close()
				t.Fatal("it opens")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

// A dataset of a version without an index of documents opens.
func TestOpenWithoutStarts(t *testing.T) {
	dir := prepared(t)
	with := open(t, dir)
	path := filepath.Join(dir, "dataset.json")
	content, err := os.ReadFile(path)
	must(t, err)
	var info map[string]any
	must(t, json.Unmarshal(content, &info))
	for name, split := range info["splits"].(map[string]any) {
		delete(split.(map[string]any), "starts_sha256")
		must(t, os.Remove(filepath.Join(dir, data.StartsFile(name))))
	}
	content, err = json.Marshal(info)
	must(t, err)
	must(t, os.WriteFile(path, content, 0o644))
	without := open(t, dir)
	if with.Fingerprint() != without.Fingerprint() {
		t.Error("its fingerprint is another")
	}
	for _, c := range []struct {
		d    *data.Dataset
		want bool
	}{{with, true}, {without, false}} {
		tokens, _ := c.d.Split("train")
		if err := tokens.ReadStarts(make([]int64, 1), 0); tokens.HasDocuments() != c.want || (err == nil) != c.want {
			t.Errorf("has an index: %t, %v, want %t", tokens.HasDocuments(), err, c.want)
		}
	}
}

// An index that does not fit the tokens is an error, whatever its checksum.
func TestWrongStarts(t *testing.T) {
	for name, starts := range map[string][]byte{
		"not at 0": {1, 0, 0, 0, 0, 0, 0, 0}, "beyond": {0, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0},
		"negative": {0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255},
		"falling":  {0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0},
	} {
		dir := prepared(t)
		must(t, os.WriteFile(filepath.Join(dir, "train.starts"), starts, 0o644))
		path := filepath.Join(dir, "dataset.json")
		content, err := os.ReadFile(path)
		must(t, err)
		var info data.Info
		must(t, json.Unmarshal(content, &info))
		split := info.Splits["train"]
		split.Documents, split.Starts = int64(len(starts)/8), fmt.Sprintf("%x", sha256.Sum256(starts))
		info.Splits["train"] = split
		content, err = json.Marshal(info)
		must(t, err)
		must(t, os.WriteFile(path, content, 0o644))
		if d, err := data.Open(dir); err == nil || !strings.Contains(err.Error(), "train.starts") {
			d.Close()
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// A token file that is truncated while it is mapped gives an error, not a
// crash.
func TestCutUnderTheMap(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "long.txt")
	must(t, os.WriteFile(text, []byte(strings.Repeat("a b c d\n", 10_000)), 0o644))
	out := filepath.Join(dir, "long")
	if _, err := prepare.Run(context.Background(), prepare.Options{Paths: []string{text}, Out: out}); err != nil {
		t.Fatal(err)
	}
	d := open(t, out)
	tokens, _ := d.Split("train")
	must(t, os.Truncate(filepath.Join(out, "train.bin"), 100))
	if err := tokens.Read(make([]int64, 1000), 40_000); err == nil || !strings.Contains(err.Error(), "train.bin") {
		t.Errorf("Read past the cut: %v", err)
	}
	if err := d.Verify(); err == nil {
		t.Error("Verify past the cut finds nothing")
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"format":1,"tokenizer":{"vocab":3},"token_type":"uint16","splits":{"train":{"file":"train.bin","tokens":1,"sha256":"` + strings.Repeat("0", 64) + `"}}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		info, err := data.ParseInfo(content)
		if err != nil {
			return
		}
		again, err := json.Marshal(info)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := data.ParseInfo(again); err != nil {
			t.Errorf("what was read is refused when written: %v", err)
		}
	})
}

func edit(key string, value any) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, "dataset.json")
		content, err := os.ReadFile(path)
		must(t, err)
		var fields map[string]any
		must(t, json.Unmarshal(content, &fields))
		fields[key] = value
		content, err = json.Marshal(fields)
		must(t, err)
		must(t, os.WriteFile(path, content, 0o644))
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	content[len(content)/2] ^= 1
	must(t, os.WriteFile(path, content, 0o644))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
