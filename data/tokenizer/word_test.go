package tokenizer

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// learnWords makes a word tokenizer of texts, each a document.
func learnWords(t testing.TB, opts WordOptions, texts ...string) *Word {
	t.Helper()
	c, at := NewWordCounter(opts.Lower), uint64(0)
	for _, text := range texts {
		c.Add([]byte(text), at)
		at += 2 * uint64(len(text))
	}
	w, err := NewWordFrom([]*WordCounter{c}, opts)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func vocabulary(t Tokenizer) (tokens []string) {
	for id := range t.Vocab() {
		tokens = append(tokens, t.Token(uint32(id)))
	}
	return tokens
}

func TestWordVocabulary(t *testing.T) {
	for _, c := range []struct {
		text string
		opts WordOptions
		want string
	}{
		{"b a a\nb c\n", WordOptions{}, "b a <eos> c <unk>"}, // ties by first appearance
		{"a a a\n", WordOptions{}, "a <eos> <unk>"},
		{"a <unk> <unk>\n", WordOptions{}, "<unk> a <eos>"},        // <unk> by its frequency
		{"a b c d a\n", WordOptions{MinCount: 2}, "<unk> a <eos>"}, // what is left out counts for it
		{"a b c d a\n", WordOptions{Size: 4}, "a <unk> b <eos>"},
		{"A a Ä ä\n", WordOptions{Lower: true}, "a ä <eos> <unk>"},
		{"a", WordOptions{}, "a <eos> <unk>"}, // a last line without end is a line
		{"\n\n", WordOptions{}, "<eos> <unk>"},
		{"a <eos> b\n", WordOptions{}, "<eos> a b <unk>"},
	} {
		if got := strings.Join(vocabulary(learnWords(t, c.opts, c.text)), " "); got != c.want {
			t.Errorf("%q %+v: %s, want %s", c.text, c.opts, got, c.want)
		}
	}
}

func TestWordEncode(t *testing.T) {
	w := learnWords(t, WordOptions{}, "the cat sat\n")
	for _, c := range []struct{ text, want string }{
		{"the cat\n", "the cat <eos>"},
		{"the cat", "the cat <eos>"},
		{"", ""},
		{"\n", "<eos>"},
		{" \n\n the", "<eos> <eos> the <eos>"},
		{"the\u00a0cat\u2003sat\u3000the\u0085cat\u2028sat\r\n", "the cat sat the cat sat <eos>"},
		{"the dog <unk>\n", "the <unk> <unk> <eos>"},
		{"the\u200bcat \ufeffthe\n", "<unk> <unk> <eos>"}, // no white space in Unicode's sense
		{"\xe2\x80 \xc2the\n", "<unk> <unk> <eos>"},
	} {
		ids, err := Encode(w, c.text)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, id := range ids {
			got = append(got, w.Token(id))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: %v, want %s", c.text, got, c.want)
		}
	}
}

func TestWordDecode(t *testing.T) {
	text := "the cat sat\n\non the mat\n"
	w := learnWords(t, WordOptions{}, text)
	ids, err := Encode(w, text)
	if err != nil {
		t.Fatal(err)
	}
	if got := Decode(w, ids); got != text {
		t.Errorf("Decode = %q, want %q", got, text)
	}
}

// Counters that shared a text agree with one that saw it all.
func TestWordCountersAddUp(t *testing.T) {
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("w%d w%d w%d x\n", i%7, i%31, i*i%101))
	}
	one := NewWordCounter(false)
	several := []*WordCounter{NewWordCounter(false), NewWordCounter(false), NewWordCounter(false)}
	at := uint64(0)
	for i, line := range lines {
		one.Add([]byte(line), at)
		several[(i*i+i/3)%3].Add([]byte(line), at)
		at += uint64(len(line))
	}
	want, err := NewWordFrom([]*WordCounter{one}, WordOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := NewWordFrom(several, WordOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(vocabulary(want), vocabulary(got)); diff != "" {
		t.Errorf("vocabulary (-one +several):\n%s", diff)
	}
}

func TestWordJSON(t *testing.T) {
	for _, lower := range []bool{false, true} {
		w := learnWords(t, WordOptions{Lower: lower}, "a \"quoted\" <b> & \\ \u2028 é 日本\nlines\n")
		var content bytes.Buffer
		if err := w.WriteJSON(&content); err != nil {
			t.Fatal(err)
		}
		back, err := Parse(content.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(vocabulary(w), vocabulary(back)); diff != "" {
			t.Errorf("vocabulary (-written +read):\n%s", diff)
		}
		if back.(*Word).lower != lower {
			t.Errorf("lower is %v, want %v", !lower, lower)
		}
	}
}

// The splitter agrees with strings.Fields, and Cut never changes the ids.
func FuzzWord(f *testing.F) {
	f.Add("the cat\nsat on\u2003the mat")
	f.Add("\xe2\x80\n\xc2\x85x")
	f.Fuzz(func(t *testing.T, text string) {
		words, lines := CountWords([]byte(text))
		if want := len(strings.Fields(text)); words != want {
			t.Errorf("%d words, strings.Fields finds %d", words, want)
		}
		wantLines := strings.Count(text, "\n")
		if text != "" && !strings.HasSuffix(text, "\n") {
			wantLines++
		}
		if lines != wantLines {
			t.Errorf("%d lines, want %d", lines, wantLines)
		}
		w := learnWords(t, WordOptions{}, text)
		e := w.NewEncoder()
		whole, err := e.Encode(nil, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		cut := e.Cut([]byte(text))
		parts, _ := e.Encode(nil, []byte(text[:cut]))
		parts, _ = e.Encode(parts, []byte(text[cut:]))
		if diff := cmp.Diff(whole, parts); diff != "" {
			t.Errorf("cut at %d (-whole +parts):\n%s", cut, diff)
		}
	})
}
