package tokenizer

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rwkvFixture is a small vocabulary with the ids of the package rwkv (testdata/make_rwkv.py).
func rwkvFixture(t testing.TB) (vocabulary string, cases []struct {
	Text string
	IDs  []uint32
}) {
	t.Helper()
	var recorded struct {
		Vocabulary string
		Cases      []struct {
			Text string
			IDs  []uint32
		}
	}
	if err := json.Unmarshal(fixture(t, "rwkv.json"), &recorded); err != nil {
		t.Fatal(err)
	}
	return recorded.Vocabulary, recorded.Cases
}

// A vocabulary of RWKV gives the ids of its own package, whatever the file is called, and so
// does the tokenizer.json that is written of it.
func TestRWKV(t *testing.T) {
	vocabulary, cases := rwkvFixture(t)
	for _, name := range []string{"rwkv_vocab_v20230424.txt", "vocab.txt", "folder"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			file := path
			if name == "folder" {
				file = filepath.Join(path, "rwkv_vocab_v20230424.txt")
				if err := os.Mkdir(path, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(file, []byte(vocabulary), 0o644); err != nil {
				t.Fatal(err)
			}
			read, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, tok := range []Tokenizer{read, writtenAndRead(t, read)} {
				for _, c := range cases {
					if got, err := Encode(tok, c.Text); err != nil || !slices.Equal(got, c.IDs) {
						t.Errorf("%q: %v, %v, want %v", c.Text, got, err, c.IDs)
					}
				}
				if id, ok := tok.ID(rwkvEnd); !ok || id != 0 {
					t.Errorf("the end of text has the id %d, %v", id, ok)
				}
			}
			if err := SpecialInText(read); err != nil {
				t.Fatal(err)
			}
			if got, err := Encode(read, "a"+rwkvEnd+"b"); err != nil || !slices.Equal(got, []uint32{'a' + 1, 0, 'b' + 1}) {
				t.Errorf("with special tokens in the text: %v, %v", got, err)
			}
		})
	}
}

// Special tokens that a folder names do not take the vocabulary's own tokens away: fla's
// folders of RWKV-7 name two line ends as the end of a sequence.
func TestRWKVFolderNames(t *testing.T) {
	vocabulary, cases := rwkvFixture(t)
	for _, name := range []string{`\n\n`, `\n`, "a", "ab", "é", rwkvEnd} {
		t.Run(name, func(t *testing.T) {
			tok, err := Load(folderOf(t, map[string]string{
				"rwkv_vocab_v20230424.txt": vocabulary,
				"tokenizer_config.json":    `{"tokenizer_class":"RwkvTokenizer","bos_token":"` + rwkvEnd + `","eos_token":"` + name + `"}`,
			}))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cases {
				if got, err := Encode(tok, c.Text); err != nil || !slices.Equal(got, c.IDs) {
					t.Errorf("%q: %v, %v, want %v", c.Text, got, err, c.IDs)
				}
			}
		})
	}
}

// A text is cut where the encoding of the whole has a boundary, also one without a place at
// which no token could stand.
func TestRWKVCuts(t *testing.T) {
	for name, letters := range map[string]string{"one letter": "a", "two": "ab", "ideographs": "中文国"} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(8) {
				rng := rand.New(rand.NewPCG(seed, 5))
				var b strings.Builder
				for i := range 256 {
					fmt.Fprintf(&b, "%d b'\\x%02x' 1\n", i+1, i)
				}
				taken := map[string]bool{}
				for id := 257; id < 257+4+rng.IntN(30); {
					text := randomText(rng, letters, 2+rng.IntN(12))
					text = text[rng.IntN(2) : len(text)-rng.IntN(2)] // tokens may hold parts of characters
					if len(text) < 2 || taken[text] {
						continue
					}
					taken[text] = true
					fmt.Fprintf(&b, "%d b'", id)
					for _, c := range []byte(text) {
						fmt.Fprintf(&b, `\x%02x`, c)
					}
					fmt.Fprintf(&b, "' %d\n", len(text))
					id++
					if len(taken) == 1<<len(letters) {
						break
					}
				}
				tok, err := parseRWKV(t.TempDir(), []byte(b.String()))
				if err != nil {
					t.Fatal(err)
				}
				text := []byte(randomText(rng, letters, 3*longPiece))
				want, err := tok.NewEncoder().Encode(nil, text, Document)
				if err != nil {
					t.Fatal(err)
				}
				var got []uint32
				part, e := Starts, tok.NewEncoder()
				for from := 0; from < len(text); part = 0 {
					known := min(len(text), from+longPiece+2000+rng.IntN(1000))
					cut := known
					if known == len(text) {
						part |= Ends
					} else if cut = from + e.Cut(text[from:known], part); cut == from {
						t.Fatalf("seed %d: no cut in %d bytes", seed, known-from)
					}
					if got, err = e.Encode(got, text[from:cut], part); err != nil {
						t.Fatal(err)
					}
					from = cut
				}
				if !slices.Equal(got, want) {
					t.Fatalf("seed %d: in parts other ids than at once", seed)
				}
			}
		})
	}
}

// A line that is none of the format is named.
func TestRWKVRefused(t *testing.T) {
	vocabulary, _ := rwkvFixture(t)
	for name, c := range map[string]struct{ line, want string }{
		"no literal":        {"301 abc 3", "not an id"},
		"no length":         {"301 'abc'", "not an id"},
		"another length":    {"301 'abc' 4", "the token has 3 bytes, the line says 4"},
		"no bytes":          {"301 '' 0", "has 0 bytes"},
		"an id again":       {"97 'abc' 3", "the id 97 is taken by line 97"},
		"the end's id":      {"0 'abc' 3", "taken by the end of text"},
		"a large id":        {"99999999999 'abc' 3", "too large"},
		"quote in quotes":   {"301 'a'c' 3", "within the token's quotes"},
		"short escape":      {`301 '\x4' 1`, "Python does not write"},
		"unknown escape":    {`301 '\q' 1`, "Python does not write"},
		"no hexadecimal":    {`301 '\xzz' 1`, "of no character"},
		"surrogate":         {`301 '\ud800' 3`, "of no character"},
		"backslash at end":  {`301 'a\' 1`, `lone \`},
		"character in b''":  {"301 b'é' 2", "literal of bytes"},
		"\\u in b''":        {`301 b'\u00e9' 2`, "Python does not write"},
		"the last is alone": {`301 'a\\' 2` + "\n302 x", "line 286"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseRWKV(t.TempDir(), []byte(vocabulary+c.line+"\n")); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
	t.Run("bytes missing", func(t *testing.T) {
		if _, err := parseRWKV(t.TempDir(), []byte("1 'a' 1\n")); err == nil || !strings.Contains(err.Error(), "this file has 1") {
			t.Errorf("error is %v", err)
		}
	})
}

func FuzzRWKV(f *testing.F) {
	vocabulary, _ := rwkvFixture(f)
	for _, line := range []string{`301 'a\\' 2`, `301 "it's" 4`, `301 b'\xff\'' 2`, `301 '\U0001f600' 4`} {
		f.Add(line)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, line string) {
		if tok, err := parseRWKV(dir, []byte(vocabulary+line)); err == nil {
			if _, err := Encode(tok, line); err != nil {
				t.Error(err)
			}
		}
	})
}
