package tokenizer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The ids are those of AutoTokenizer.from_pretrained(folder).encode(text,
// add_special_tokens=False) in transformers 5.23.
func TestFolders(t *testing.T) {
	const file = `{"version":"1.0","added_tokens":[{"id":5,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":false}],
		"normalizer":{"type":"Lowercase"},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
		"model":{"type":"BPE","vocab":{"a":0,"b":1,"Ġ":2,"ab":3,"x":4},"merges":[]}}`
	padded := strings.Replace(file, `"added_tokens"`, `"padding":{"strategy":"BatchLongest","direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"<p>"},"added_tokens"`, 1)
	for name, c := range map[string]struct {
		files map[string]string
		text  string
		want  []uint32
	}{
		"in transformers' order": {map[string]string{"tokenizer.json": file, "tokenizer_config.json": `{"image_token":"<i>","extra_special_tokens":["<e>"],"mask_token":"<m>",
			"pad_token":{"__type":"AddedToken","content":"<p>","lstrip":true,"rstrip":false,"single_word":false,"normalized":false},"bos_token":"<s>","eos_token":"ab"}`},
			"<s>a <p><m><i><e>ab", []uint32{5, 0, 6, 7, 8, 9, 3}},
		"named twice": {map[string]string{"tokenizer.json": file, "tokenizer_config.json": `{
			"cls_token":{"__type":"AddedToken","content":"<p>","lstrip":false,"rstrip":true,"single_word":false,"normalized":true},"unk_token":"<p>"}`},
			"a <P> <p> b", []uint32{0, 2, 6, 6, 1}},
		"older files": {map[string]string{"tokenizer.json": file, "tokenizer_config.json": `{"pad_token":"<p>","bos_token":"<q>"}`, "added_tokens.json": `{"<A>":9,"<e>":8}`,
			"special_tokens_map.json": `{"pad_token":{"content":"<r>","lstrip":false,"rstrip":true,"single_word":false,"normalized":false},"additional_special_tokens":["<e>"]}`},
			"<p><r> <e><q><a><A>", []uint32{9, 6, 8, 7, 7}},
		"older files unused": {map[string]string{"tokenizer.json": file, "tokenizer_config.json": `{"added_tokens_decoder":{},"pad_token":"<p>"}`,
			"special_tokens_map.json": `{"bos_token":"<r>"}`, "added_tokens.json": `{"<y>":9}`}, "<p><r>a<y>", []uint32{6, 0}},
		"names in an object": {map[string]string{"tokenizer.json": file, "tokenizer_config.json": `{"extra_special_tokens":{"z":"<z>","y":"<y>"},"x_token":"<x>","additional_special_tokens":null}`},
			"<x><y><z>", []uint32{6, 8, 7}},
		"older list": {map[string]string{"tokenizer.json": file, "tokenizer_config.json": `{"extra_special_tokens":[],"additional_special_tokens":["<e>",
			{"__type":"AddedToken","content":"<f>","lstrip":false,"rstrip":true,"single_word":false,"normalized":false}]}`}, "<f> <e>", []uint32{7, 6}},
		"gaps": {map[string]string{"tokenizer.json": strings.Replace(file, `"x":4`, `"x":7`, 1), "tokenizer_config.json": `{"pad_token":"<p>","additional_special_tokens":["<{>"]}`},
			"<p>a<{><s>", []uint32{6, 0, 7, 5}},
		"gaps with a special token": {map[string]string{"tokenizer.json": strings.Replace(file, `"x":4`, `"x":4,"<s>":9`, 1), "tokenizer_config.json": `{"pad_token":"<p>","additional_special_tokens":["<{>"]}`},
			"<p>a<{><s>", []uint32{10, 0, 11, 9}},
		"padding":       {map[string]string{"tokenizer.json": padded, "tokenizer_config.json": `{"eos_token":"<e>"}`}, "<p><e>", []uint32{7, 6}},
		"no padding":    {map[string]string{"tokenizer.json": padded, "tokenizer_config.json": `{"eos_token":"<e>","pad_token":null}`}, "<p><e>", []uint32{6}},
		"a class's own": {map[string]string{"tokenizer.json": strings.Replace(file, `{"type":"Lowercase"}`, "null", 1), "tokenizer_config.json": `{"tokenizer_class":"GPT2TokenizerFast","pad_token":"<p>"}`}, "a<|endoftext|><p>", []uint32{0, 6, 7}},
		"BERT's own": {map[string]string{"vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n<\n>\n",
			"tokenizer_config.json": `{"tokenizer_class":"BertTokenizer","pad_token":"<p>","additional_special_tokens":["<e>"]}`}, "ab[PAD][MASK]<p><e>", []uint32{5, 6, 1, 1, 1, 4, 9, 10}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folderOf(t, c.files)
			tok, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, tok := range []Tokenizer{tok, writtenAndRead(t, tok)} {
				if err := SpecialInText(tok); err != nil {
					t.Fatal(err)
				}
				if got, err := Encode(tok, c.text); err != nil || !slices.Equal(got, c.want) {
					t.Errorf("%q: %v, %v, want %v", c.text, got, err, c.want)
				}
			}
		})
	}
	// A token that the folder names is special, whatever its file says.
	dir := folderOf(t, map[string]string{"tokenizer.json": file, "tokenizer_config.json": `{"eos_token":"<s>"}`})
	tok, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Encode(tok, "a<s>"); err != nil || !slices.Equal(got, []uint32{0}) {
		t.Errorf("a<s>: %v, %v, want <s> as text, which this vocabulary does not have", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), []byte(`{"eos_token":5}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "tokenizer_config.json: ") {
		t.Errorf("a number for a token: %v", err)
	}
}
