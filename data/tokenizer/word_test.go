package tokenizer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func tokensOf(t Tokenizer) (tokens []string) {
	for id := range t.Vocab() {
		tokens = append(tokens, t.Token(uint32(id)))
	}
	return tokens
}

func TestWordVocabulary(t *testing.T) {
	for _, c := range []struct {
		text string
		opts TrainOptions
		want string
	}{
		{"b a a\nb c\n", TrainOptions{}, "b a <eos> c <unk>"}, // ties by first appearance
		{"a a a\n", TrainOptions{}, "a <eos> <unk>"},
		{"a <unk> <unk>\n", TrainOptions{}, "<unk> a <eos>"},        // <unk> by its frequency
		{"a b c d a\n", TrainOptions{MinCount: 2}, "<unk> a <eos>"}, // words left out count as <unk>
		{"a b c d a\n", TrainOptions{Size: 4}, "a <unk> b <eos>"},
		{"A a Ä ä\n", TrainOptions{Lower: true}, "a ä <eos> <unk>"},
		{"a", TrainOptions{}, "a <eos> <unk>"}, // a last line without end is a line
		{"\n\n", TrainOptions{}, "<eos> <unk>"},
		{"a <eos> b\n", TrainOptions{}, "<eos> a b <unk>"},
	} {
		if got := strings.Join(tokensOf(learn(t, wordKind, c.opts, 1, c.text)), " "); got != c.want {
			t.Errorf("%q %+v: %s, want %s", c.text, c.opts, got, c.want)
		}
	}
}

func TestWordEncode(t *testing.T) {
	w := learn(t, wordKind, TrainOptions{}, 1, "the cat sat\n")
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
	w := learn(t, wordKind, TrainOptions{}, 1, text)
	ids, err := Encode(w, text)
	if err != nil {
		t.Fatal(err)
	}
	if got := Decode(w, ids); got != text {
		t.Errorf("Decode = %q, want %q", got, text)
	}
}

// Several counters of one text give the same vocabulary as a single one.
func TestWordCountersAddUp(t *testing.T) {
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("w%d w%d w%d x\n", i%7, i%31, i*i%101))
	}
	want := learn(t, wordKind, TrainOptions{}, 1, lines...)
	got := learn(t, wordKind, TrainOptions{}, 3, lines...)
	if diff := cmp.Diff(tokensOf(want), tokensOf(got)); diff != "" {
		t.Errorf("vocabulary (-one +several):\n%s", diff)
	}
}

func TestWordJSON(t *testing.T) {
	for _, lower := range []bool{false, true} {
		w := learn(t, wordKind, TrainOptions{Lower: lower}, 1, "a \"quoted\" <b> & \\ \u2028 é 日本\nlines\n")
		back := writtenAndRead(t, w)
		if diff := cmp.Diff(tokensOf(w), tokensOf(back)); diff != "" {
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
		w := learn(t, wordKind, TrainOptions{}, 1, text)
		e := w.NewEncoder()
		whole, err := e.Encode(nil, []byte(text), Document)
		if err != nil {
			t.Fatal(err)
		}
		cut := e.Cut([]byte(text), Starts)
		parts, _ := e.Encode(nil, []byte(text[:cut]), Starts)
		parts, _ = e.Encode(parts, []byte(text[cut:]), Ends)
		if diff := cmp.Diff(whole, parts); diff != "" {
			t.Errorf("cut at %d (-whole +parts):\n%s", cut, diff)
		}
	})
}
