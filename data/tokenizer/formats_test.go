package tokenizer

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// proto writes a field of a protocol buffer.
func proto(number int, value any) []byte {
	switch v := value.(type) {
	case string:
		return append(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(number)<<3|2), uint64(len(v))), v...)
	case float32:
		return binary.LittleEndian.AppendUint32(binary.AppendUvarint(nil, uint64(number)<<3|5), math.Float32bits(v))
	case int:
		return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(number)<<3), uint64(v))
	}
	panic("no such field")
}

// spFile writes a SentencePiece model.
func spFile(kind int, fallback bool, pieces ...spPiece) []byte {
	var content []byte
	for _, p := range pieces {
		content = append(content, proto(1, string(slices.Concat(proto(1, p.text), proto(2, p.score), proto(3, int(p.kind)))))...)
	}
	content = append(content, proto(2, string(slices.Concat(proto(3, kind), proto(35, boolInt(fallback)))))...)
	return append(content, proto(3, string(slices.Concat(proto(1, "identity"), proto(3, 1), proto(4, 0))))...)
}

// A tokenizer of another format is found in its file and in a model's folder, gives
// the right ids and is written as a tokenizer.json that gives them again.
func TestFormats(t *testing.T) {
	var ranks strings.Builder
	for i := range 50256 {
		text := []byte{byte(i)}
		switch {
		case i == 256:
			text = []byte("ab")
		case i == 257:
			text = []byte("abc")
		case i > 257:
			text = fmt.Appendf(nil, "\x00%d", i)
		}
		fmt.Fprintf(&ranks, "%s %d\n", base64.StdEncoding.EncodeToString(text), i)
	}
	tekken := `{"config":{"pattern":"\\p{L}+|[^\\p{L}]","default_vocab_size":260,"default_num_special_tokens":3},"vocab":[`
	for i := range 256 {
		tekken += fmt.Sprintf(`{"rank":%d,"token_bytes":%q},`, i, base64.StdEncoding.EncodeToString([]byte{byte(i)}))
	}
	tekken += `{"rank":256,"token_bytes":"YWI="},{"rank":257,"token_bytes":"YmM="}]}`
	const small = `{"added_tokens":[{"id":3,"content":"<s>"}],"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"model":{"type":"BPE","vocab":{"a":0,"b":1,"Ġ":2},"merges":[]}}`
	for name, c := range map[string]struct {
		files map[string]string
		load  string // "" is the folder
		text  string
		want  []uint32
	}{
		"tiktoken":         {map[string]string{"gpt2.tiktoken": ranks.String()}, "", "abc ab c", []uint32{257, 32, 97 + 159, 32, 99}},
		"tiktoken unnamed": {map[string]string{"tokenizer.model": ranks.String()}, "", "abcab", []uint32{257, 256}},
		"tekken":           {map[string]string{"tekken.json": tekken}, "", "ab bc", []uint32{259, 35, 101, 102}},
		"vocab and merges": {map[string]string{"vocab.json": `{"a":0,"b":1,"Ġ":2,"ab":3,"model":4,"Ġab":5}`, "merges.txt": "#version: 0.2\na b\nĠ ab\n"}, "", "ab ab", []uint32{3, 5}},
		"prefix space":     {map[string]string{"vocab.json": `{"a":0,"b":1,"Ġ":2,"ab":3,"Ġab":5}`, "merges.txt": "a b\nĠ ab\n", "tokenizer_config.json": `{"tokenizer_class":"RobertaTokenizerFast","add_prefix_space":true}`}, "", "ab ab", []uint32{5, 5}},
		"qwen's digits":    {map[string]string{"vocab.json": `{"1":0,"2":1,"12":2}`, "merges.txt": "1 2\n", "tokenizer_config.json": `{"tokenizer_class":"Qwen2Tokenizer"}`}, "", "12", []uint32{0, 1}},
		"added tokens":     {map[string]string{"vocab.json": `{"a":0,"b":1}`, "merges.txt": "", "added_tokens.json": `{"<x>":2}`}, "", "a<x>b", []uint32{0, 2, 1}},
		"merges by name":   {map[string]string{"x-vocab.json": `{"a":0,"b":1,"ab":2}`, "x-merges.txt": "a b\n"}, "x-merges.txt", "aab", []uint32{0, 2}},
		"vocab by name":    {map[string]string{"x-vocab.json": `{"a":0,"b":1,"ab":2}`, "x-merges.txt": "a b\n"}, "x-vocab.json", "aab", []uint32{0, 2}},
		"bert":             {map[string]string{"vocab.txt": "[PAD]\n[UNK]\nko\n##ala\n!\n"}, "", "Koala! x", []uint32{2, 3, 4, 1}},
		"bert cased":       {map[string]string{"vocab.txt": "[UNK]\nKo\n##ala\n"}, "", "Koala koala", []uint32{1, 2, 0}},
		"added beside":     {map[string]string{"tokenizer.json": small, "added_tokens.json": `{"<x>":9,"<y>":7}`}, "", "a <s> b<x>a<y>", []uint32{0, 2, 3, 2, 1, 5, 0, 4}},
		"added in config":  {map[string]string{"tokenizer.json": small, "added_tokens.json": `{"a":5}`, "tokenizer_config.json": `{"added_tokens_decoder":{"9":{"content":"<x>"},"7":{"content":"<y>"},"3":{"content":"<s>","lstrip":true}}}`}, "", "a <s> b<x>a<y>", []uint32{0, 3, 2, 1, 5, 0, 4}},
		"no list of added": {map[string]string{"tokenizer.json": strings.Replace(small, `"added_tokens"`, `"x"`, 1), "added_tokens.json": `{"<s>":8}`}, "", "a<s>b", []uint32{0, 3, 1}},
		"one file alone":   {map[string]string{"tokenizer.json": small, "added_tokens.json": `{"ba":4}`}, "tokenizer.json", "ba<s>", []uint32{1, 0, 3}},
		"added unused":     {map[string]string{"vocab.json": `{"a":0,"b":1,"y":2}`, "merges.txt": "", "added_tokens.json": `{"yy":4}`, "tokenizer_config.json": `{"added_tokens_decoder":{"3":{"content":"<x>"}}}`}, "", "a<x>byy", []uint32{0, 3, 1, 2, 2}},
		"bert accents":     {map[string]string{"vocab.txt": "[UNK]\né\n考拉\ne\n", "tokenizer_config.json": `{"strip_accents":false,"tokenize_chinese_chars":false}`}, "", "É 考拉", []uint32{1, 2}},
		"bert config":      {map[string]string{"vocab.txt": "[UNK]\nko\n##ala\n", "tokenizer_config.json": `{"do_lower_case":false}`}, "", "Koala koala", []uint32{0, 1, 2}},
		"sentencepiece bpe": {map[string]string{"tokenizer.model": string(spFile(2, false,
			spPiece{"<unk>", 0, spUnknown}, spPiece{"<s>", 0, spControl}, spPiece{"▁a", -1, spNormal}, spPiece{"ab", -2, spNormal},
			spPiece{"▁", -3, spNormal}, spPiece{"a", -4, spNormal}, spPiece{"b", -5, spNormal}))}, "", "a ab<s>", []uint32{2, 2, 6, 0}},
		"sentencepiece unigram": {map[string]string{"spiece.model": string(spFile(1, false,
			spPiece{"<unk>", 0, spUnknown}, spPiece{"▁a", -1, spNormal}, spPiece{"b", -2, spNormal}, spPiece{"▁ab", -2.5, spNormal}, spPiece{"▁", -9, spNormal}))}, "", "ab  b", []uint32{3, 4, 4, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folderOf(t, c.files)
			tok, err := Load(filepath.Join(dir, c.load))
			if err != nil {
				t.Fatal(err)
			}
			for _, tok := range []Tokenizer{tok, writtenAndRead(t, tok)} {
				if got, err := Encode(tok, c.text); err != nil || !slices.Equal(got, c.want) {
					t.Errorf("%q: %v, %v, want %v", c.text, got, err, c.want)
				}
			}
		})
	}
}

func TestFolderOfAnotherClass(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"vocab.json": `{"a":0}`, "merges.txt": "", "tokenizer_config.json": `{"tokenizer_class":"CLIPTokenizer"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "CLIPTokenizer") {
		t.Errorf("%v, want an error that names the class", err)
	}
}

// The error for a file that is not a tokenizer lists the possible formats.
func TestFormatsRefused(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"vocab.json":    {`{"a":0}`, "needs its merges.txt"},
		"merges.txt":    {"a b\n", "needs its vocab.json"},
		"words.txt":     {"a\nb\n", "it has no [UNK]"},
		"few.tiktoken":  {"YQ== 0\n", "a file of 1 ranks is not known"},
		"bad.tiktoken":  {"YQ== 7\n", "line 1"},
		"bad.model":     {"\n\xff\xff", "not a SentencePiece model"},
		"empty.model":   {"", "it has no pieces"},
		"words.model":   {string(spFile(3, false, spPiece{"a", 0, spNormal})), "words or characters"},
		"symbols.model": {string(spFile(1, false, spPiece{"<unk>", 0, spUnknown}, spPiece{"(", 0, spUser})), `user-defined characters ("(")`},
		"clip.json":     {`{"a</w>":0,"a":1}`, "merges.txt"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "looked for tokenizer.json") {
		t.Errorf("an empty folder: %v", err)
	}
}

func FuzzSentencePiece(f *testing.F) {
	f.Add(spFile(2, true, spPiece{"<unk>", 0, spUnknown}, spPiece{"▁a", -1, spNormal}))
	f.Fuzz(func(t *testing.T, content []byte) {
		if tok, err := parseSentencePiece(content); err == nil {
			_, _ = Encode(tok, "a ▁b\n")
		}
	})
}

// A .model with a character map gives the ids of SentencePiece itself
// (testdata/make_sentencepiece.py), at every place where it may be cut.
func TestSentencePieceModels(t *testing.T) {
	var recorded struct {
		Texts  []string
		Models []struct {
			Name  string
			Model []byte
			IDs   [][]uint32
			Long  string // the digest of the ids of a text whose sum of scores is large
		}
	}
	if err := json.Unmarshal(fixture(t, "sentencepiece.json"), &recorded); err != nil {
		t.Fatal(err)
	}
	words := []string{"fine", " ", "  ", "(", ")", "a", "zebra", " lin", "e", "wide and ", "the caf", "  and", "b"}
	var long []byte
	for i, at := 0, 1; i < 120_000; i++ {
		at = (at*1103515245 + 12345) % (1 << 31)
		long = append(long, words[(at>>16)%len(words)]...)
	}
	for _, m := range recorded.Models {
		t.Run(m.Name, func(t *testing.T) {
			tok, err := parseSentencePiece(m.Model)
			if err != nil {
				t.Fatal(err)
			}
			checkIDs(t, tok, recorded.Texts, m.IDs)
			ids, err := tok.NewEncoder().Encode(nil, long, Document)
			if err != nil {
				t.Fatal(err)
			}
			var encoded []byte
			for _, id := range ids {
				encoded = binary.LittleEndian.AppendUint32(encoded, id)
			}
			if sum := sha256.Sum256(encoded); hex.EncodeToString(sum[:]) != m.Long {
				t.Errorf("other ids for a text of %d bytes", len(long))
			}
		})
	}
}

// writtenAndRead writes a tokenizer as a tokenizer.json and reads it.
func writtenAndRead(t *testing.T, tok Tokenizer) Tokenizer {
	t.Helper()
	var content bytes.Buffer
	if err := tok.WriteJSON(&content); err != nil {
		t.Fatal(err)
	}
	again, err := Parse(content.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// folderOf makes a folder of files by name.
func folderOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
