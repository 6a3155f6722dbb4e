package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/unicode/norm"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// learn trains a kind on texts, each a document, with several counters.
func learn(t testing.TB, kind Kind, opts TrainOptions, counters int, texts ...string) Tokenizer {
	t.Helper()
	trainer, err := kind.NewTrainer(opts)
	if err != nil {
		t.Fatal(err)
	}
	all, at := make([]Counter, counters), int64(0)
	for i := range all {
		all[i] = trainer.NewCounter()
	}
	for i, text := range texts {
		all[(i*i+i/3)%counters].Add([]byte(text), at, Document)
		at += int64(len(text))
	}
	tok, err := trainer.Train()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func trainFixture(t testing.TB, counters int) *Pipeline {
	t.Helper()
	lines := strings.SplitAfter(string(fixture(t, "text.txt")), "\n")
	return learn(t, bpeKind, TrainOptions{Size: 700}, counters, lines...).(*Pipeline)
}

// Training gives the merges and ids that Hugging Face's BpeTrainer gives.
func TestTrainBPE(t *testing.T) {
	theirs, err := Parse(fixture(t, "bpe.json"))
	if err != nil {
		t.Fatal(err)
	}
	merges := func(t Tokenizer) *mergeTable { return t.(*Pipeline).model.(*bpe).merges }
	for _, counters := range []int{1, 3} {
		t.Run(fmt.Sprint(counters), func(t *testing.T) {
			ours := trainFixture(t, counters)
			if diff := cmp.Diff(tokensOf(theirs), tokensOf(ours)); diff != "" {
				t.Errorf("vocabulary (-theirs +ours):\n%s", diff)
			}
			if !slices.Equal(merges(theirs).to, merges(ours).to) {
				t.Error("merges differ")
			}
		})
	}
}

// Merges are learned in the pieces that a split expression cuts, and text is cut by it.
func TestTrainSplit(t *testing.T) {
	for _, split := range []string{"gpt2", "llama3", `\d|\D+`} {
		t.Run(split, func(t *testing.T) {
			tok := learn(t, bpeKind, TrainOptions{Size: 300, Split: split}, 2, strings.Repeat("12 12 ab\n", 20))
			_, digits := tok.ID("12")
			_, across := tok.ID("Ġab")
			if want := split != `\d|\D+`; digits != want || !across {
				t.Errorf("12 is a token: %v, want %v; Ġab: %v", digits, want, across)
			}
			const text = "12 ab 3\n"
			ids, err := Encode(tok, text)
			if err != nil || Decode(tok, ids) != text {
				t.Errorf("%q, %v", Decode(tok, ids), err)
			}
		})
	}
	if err := CheckSplit("(a"); err == nil {
		t.Error("an expression that does not end is no error")
	}
}

// Encoding gives the ids that Hugging Face gives.
func TestEncode(t *testing.T) {
	var cases []struct {
		Text string
		IDs  map[string][]uint32
	}
	if err := json.Unmarshal(fixture(t, "cases.json"), &cases); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"bpe", "wordpiece", "unigram"} {
		t.Run(kind, func(t *testing.T) {
			tok, err := Parse(fixture(t, kind+".json"))
			if err != nil {
				t.Fatal(err)
			}
			if tok.Kind() != kind {
				t.Errorf("%s.json is read as %s", kind, tok.Kind())
			}
			e := tok.NewEncoder()
			for _, c := range cases {
				for range 2 { // the second time from the cache
					got, err := e.Encode(nil, []byte(c.Text), Document)
					if err != nil {
						t.Fatal(err)
					}
					if want := c.IDs[kind]; !slices.Equal(got, want) {
						t.Errorf("%s: %q: %v, want %v", kind, c.Text, got, want)
					}
				}
				if got := Decode(tok, c.IDs["bpe"]); kind == "bpe" && got != c.Text {
					t.Errorf("decoded %q, want %q", got, c.Text)
				}
				if cut := e.Cut([]byte(c.Text), Starts); cut > 0 {
					parts, _ := e.Encode(nil, []byte(c.Text[:cut]), Starts)
					parts, _ = e.Encode(parts, []byte(c.Text[cut:]), Ends)
					if !slices.Equal(parts, c.IDs[kind]) {
						t.Errorf("%s: %q cut at %d: %v, want %v", kind, c.Text, cut, parts, c.IDs[kind])
					}
				}
			}
		})
	}
}

func TestDecodeWords(t *testing.T) {
	for kind, want := range map[string]string{"wordpiece": "the koala ' s tree", "unigram": "the koala's tree"} {
		tok, err := Parse(fixture(t, kind+".json"))
		if err != nil {
			t.Fatal(err)
		}
		ids, err := Encode(tok, "the koala's tree")
		if err != nil {
			t.Fatal(err)
		}
		if got := Decode(tok, ids); got != want {
			t.Errorf("%s: decoded %q, want %q", kind, got, want)
		}
	}
}

func TestBPEJSON(t *testing.T) {
	ours := trainFixture(t, 1)
	var content bytes.Buffer
	if err := ours.WriteJSON(&content); err != nil {
		t.Fatal(err)
	}
	back, err := Parse(content.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := back.WriteJSON(&again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(content.String(), again.String()); diff != "" {
		t.Errorf("read and written again (-first +second):\n%s", diff)
	}
	var layout map[string]any
	if err := json.Unmarshal(content.Bytes(), &layout); err != nil {
		t.Fatal(err)
	}
	var theirs map[string]any
	if err := json.Unmarshal(fixture(t, "bpe.json"), &theirs); err != nil {
		t.Fatal(err)
	}
	// tokenizers writes true for this default, which has no effect here.
	for _, part := range []string{"decoder", "post_processor"} {
		theirs[part].(map[string]any)["add_prefix_space"] = false
	}
	if diff := cmp.Diff(theirs, layout); diff != "" {
		t.Errorf("layout (-theirs +ours):\n%s", diff)
	}
}

// Text is composed before it is cut, however it is divided into parts.
func TestNFC(t *testing.T) {
	content := strings.Replace(string(fixture(t, "bpe.json")), `"normalizer": null`, `"normalizer": {"type":"NFC"}`, 1)
	b, err := Parse([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	const text = "e\u0301a\u0300 \u0301x y\u0327\u0301  e\u0301\n\u0301 q"
	const composed = "\u00e9\u00e0 \u0301x y\u0327\u0301  \u00e9\n\u0301 q"
	whole, err := Encode(b, text)
	if err != nil {
		t.Fatal(err)
	}
	if got := Decode(b, whole); got != norm.NFC.String(composed) {
		t.Errorf("decoded %q", got)
	}
	for n := range len(text) {
		e := b.NewEncoder()
		cut := e.Cut([]byte(text[:n]), Starts)
		parts, _ := e.Encode(nil, []byte(text[:cut]), Starts)
		parts, _ = e.Encode(parts, []byte(text[cut:]), Ends)
		if !slices.Equal(parts, whole) {
			t.Errorf("cut at %d of %d: %v, want %v", cut, n, parts, whole)
		}
	}
}

// Special tokens that are spelled out are text, unless SpecialInText was called.
func TestSpecialInText(t *testing.T) {
	b := trainFixture(t, 1)
	const text = "a<|endoftext|>b <|endoftext|><|end"
	plain, err := Encode(b, text)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(plain, 0) || Decode(b, plain) != text {
		t.Errorf("as text: %v", plain)
	}
	if err := SpecialInText(b); err != nil {
		t.Fatal(err)
	}
	special, err := Encode(b, text)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(slices.DeleteFunc(slices.Clone(special), func(id uint32) bool { return id != 0 })); n != 2 {
		t.Errorf("%d special tokens in %v, want 2", n, special)
	}
	if got := Decode(b, special); got != text {
		t.Errorf("decoded %q, want %q", got, text)
	}
	for n := range len(text) { // no cut through a special token
		e := b.NewEncoder()
		cut := e.Cut([]byte(text[:n]), Starts)
		parts, _ := e.Encode(nil, []byte(text[:cut]), Starts)
		parts, _ = e.Encode(parts, []byte(text[cut:]), Ends)
		if !slices.Equal(parts, special) {
			t.Errorf("cut at %d of %d: %v, want %v", cut, n, parts, special)
		}
	}
}

func TestStream(t *testing.T) {
	b := trainFixture(t, 1)
	text := "koala 日本語 \U0001F468\u200D\U0001F469 é"
	ids, err := Encode(b, text)
	if err != nil {
		t.Fatal(err)
	}
	s := NewStream(b, -1)
	var got strings.Builder
	for _, id := range ids {
		part := s.Next(id)
		if strings.ToValidUTF8(part, "?") != part {
			t.Errorf("a part is %q", part)
		}
		got.WriteString(part)
	}
	if got.String()+s.Rest() != text {
		t.Errorf("streamed %q, want %q", got.String(), text)
	}
}

func TestByteAndChar(t *testing.T) {
	const train = "koala\nblätter 日本\x00"
	char := learn(t, charKind, TrainOptions{}, 1, train).(*Char)
	for _, tok := range []Tokenizer{Byte{}, char} {
		text := "koala\nbätter\x00 日"
		ids, err := Encode(tok, text)
		if err != nil {
			t.Fatal(err)
		}
		if got := Decode(tok, ids); got != text {
			t.Errorf("%s: decoded %q, want %q", tok.Kind(), got, text)
		}
		var content bytes.Buffer
		if err := tok.WriteJSON(&content); err != nil {
			t.Fatal(err)
		}
		back, err := Parse(content.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", tok.Kind(), err)
		}
		if back.Kind() != tok.Kind() {
			t.Errorf("%s is read back as %s", tok.Kind(), back.Kind())
		}
		again, err := Encode(back, text)
		if err != nil || !slices.Equal(ids, again) {
			t.Errorf("%s: %v, read back %v, %v", tok.Kind(), ids, again, err)
		}
	}
	ids, _ := Encode(char, "qk")
	if want := char.ids['k']; !slices.Equal(ids, []uint32{charUnknown, want}) {
		t.Errorf("qk is %v, want [0 %d]", ids, want)
	}
	small := learn(t, charKind, TrainOptions{Size: 4}, 1, train)
	if got := strings.Join(tokensOf(small), " "); got != "<unk> <|endoftext|> a l" || small.Vocab() != 4 {
		t.Errorf("a vocabulary of 4 is %s", got)
	}
}

// An invalid tokenizer.json gives an error, never a panic.
func TestParseRefuses(t *testing.T) {
	good := string(fixture(t, "bpe.json"))
	replaced := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("bpe.json has no %s", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	for name, c := range map[string]struct{ content, want string }{
		"nothing":        {``, "unexpected end"},
		"null":           {`null`, "no model"},
		"object":         {`{}`, "no model"},
		"list":           {`[]`, "the whole is array, want object"},
		"cut":            {good[:len(good)/2], "line "},
		"model":          {`{"model":null}`, "no model"},
		"type":           {`{"model":{"type":"Rules"}}`, `"Rules"`},
		"no vocabulary":  {`{"model":{}}`, "no vocab"},
		"unknown type":   {`{"model":{"type":"BPE","vocab":{},"merges":[],"unk_token":7},"pre_tokenizer":{"type":"ByteLevel"}}`, "model.unk_token is number, want string"},
		"vocab type":     {`{"model":{"type":"BPE","vocab":[1],"merges":[]},"pre_tokenizer":{"type":"ByteLevel"}}`, "vocab"},
		"id type":        {`{"model":{"type":"BPE","vocab":{"a":"b"},"merges":[]},"pre_tokenizer":{"type":"ByteLevel"}}`, "not a number"},
		"fraction":       {`{"model":{"type":"BPE","vocab":{"a":0.5},"merges":[]},"pre_tokenizer":{"type":"ByteLevel"}}`, "0.5"},
		"negative id":    {`{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]},"pre_tokenizer":{"type":"ByteLevel"}}`, "-1"},
		"large id":       {`{"model":{"type":"WordLevel","vocab":{"a":0,"b":99999999},"unk_token":"a"}}`, "99999999"},
		"huge id":        {`{"model":{"type":"WordLevel","vocab":{"a":99999999999999999999},"unk_token":"<unk>"}}`, "99999"},
		"no unknown":     {`{"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"<unk>"},"pre_tokenizer":{"type":"WhitespaceSplit"},"normalizer":{"type":"Replace","pattern":{"String":"\n"},"content":" <eos> "}}`, "<unk>"},
		"normalizer":     {replaced(`"normalizer": null`, `"normalizer": {"type":"NFQ"}`), "NFQ"},
		"pre-tokenizer":  {replaced(`"pre_tokenizer": {`, `"pre_tokenizer": {"type":"Rules"}, "x": {`), "Rules"},
		"no type":        {replaced(`"normalizer": null`, `"normalizer": {}`), "normalizer has no type"},
		"expression":     {replaced(`"normalizer": null`, `"normalizer": {"type":"Replace","pattern":{"Regex":"(a"},"content":""}`), "a group does not end"},
		"back reference": {replaced(`"normalizer": null`, `"normalizer": {"type":"Replace","pattern":{"Regex":"(a)\\1"},"content":""}`), `\1 is not supported`},
		"look-behind":    {replaced(`"normalizer": null`, `"normalizer": {"type":"Replace","pattern":{"Regex":"(?<=ca*)b"},"content":""}`), "a look-behind of more than 255 characters is not supported"},
		"not behind":     {replaced(`"normalizer": null`, `"normalizer": {"type":"Replace","pattern":{"Regex":"(?<!(ab|c){128})b"},"content":""}`), "a look-behind of more than 255 characters is not supported"},
		"charsmap":       {replaced(`"normalizer": null`, `"normalizer": {"type":"Precompiled","precompiled_charsmap":"AAA"}`), "precompiled_charsmap"},
		"dropout":        {replaced(`"dropout": null`, `"dropout": 0.1`), "dropout"},
		"merge":          {replaced(`"merges": [`, `"merges": [["zz","zz"],`), "merge 0"},
		"merge of three": {replaced(`"merges": [`, `"merges": [["a","b","c"],`), "merge 0"},
		"old merge":      {replaced(`"merges": [`, `"merges": ["a b c",`), "merge 0"},
		"unigram unk":    {strings.Replace(string(fixture(t, "unigram.json")), `"unk_id": 0`, `"unk_id": 9999`, 1), "9999"},
		"unigram vocab":  {`{"model":{"type":"Unigram","unk_id":0,"vocab":[["a"]]}}`, `vocab: ["a"`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(c.content)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, tok := range []Tokenizer{Byte{}, learn(f, wordKind, TrainOptions{Lower: true}, 1, "a b\nc")} {
		var content bytes.Buffer
		if err := tok.WriteJSON(&content); err != nil {
			f.Fatal(err)
		}
		f.Add(content.Bytes())
	}
	f.Add([]byte(`{"model":{"type":"WordPiece","vocab":{"[UNK]":0,"ko":1,"##ala":2}},"normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"}}`))
	f.Add([]byte(`{"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["\u2581ko",-1],["ala",-2.5]]},"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"always"}}`))
	f.Add([]byte(`{"model":{"type":"WordLevel","vocab":{"<unk>":0,"<|endoftext|>":1,"a":2},"unk_token":"<unk>"},"pre_tokenizer":{"type":"Split","pattern":{"Regex":"[\\s\\S]"}}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		tok, err := Parse(content)
		if err != nil {
			return
		}
		ids, err := Encode(tok, "the koala's 12 leaves \u2003日本\n\x00<|endoftext|>")
		if err != nil {
			return // a character has no token, and there is no unknown one
		}
		for _, id := range ids {
			if int(id) >= tok.Vocab() {
				t.Fatalf("id %d in a vocabulary of %d", id, tok.Vocab())
			}
		}
		Decode(tok, ids)
		if err := tok.WriteJSON(new(bytes.Buffer)); err != nil {
			t.Fatal(err)
		}
	})
}
