package tokenizer

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

// partCases are tokenizers of Hugging Face with the ids that they gave
// (testdata/make_parts.py).
func partCases(t testing.TB) (texts []string, tokenizers []struct {
	Name      string
	Tokenizer json.RawMessage
	IDs       [][]uint32
	Special   [][]uint32 // with special tokens in the text; nil: the same ids
}) {
	t.Helper()
	read := struct {
		Texts      []string
		Tokenizers any
	}{Tokenizers: &tokenizers}
	if err := json.Unmarshal(fixture(t, "parts.json"), &read); err != nil {
		t.Fatal(err)
	}
	return read.Texts, tokenizers
}

// Every part, alone and with others, gives the ids that Hugging Face gives, whole and
// in parts cut where Cut says.
func TestParts(t *testing.T) {
	texts, tokenizers := partCases(t)
	for _, c := range tokenizers {
		t.Run(c.Name, func(t *testing.T) {
			tok, err := Parse(c.Tokenizer)
			if err != nil {
				t.Fatal(err)
			}
			checkIDs(t, tok, texts, c.IDs)
			if c.Special == nil {
				return
			}
			if err := SpecialInText(tok); err != nil {
				t.Fatal(err)
			}
			checkIDs(t, tok, texts, c.Special)
		})
	}
}

func checkIDs(t *testing.T, tok Tokenizer, texts []string, want [][]uint32) {
	t.Helper()
	e := tok.NewEncoder()
	for i, text := range texts {
		got, err := e.Encode(nil, []byte(text), Document)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if !slices.Equal(got, want[i]) {
			t.Errorf("%q: %v, want %v", text, got, want[i])
		}
		if e, ok := e.(*pipelineEncoder); ok {
			checkEveryCut(t, e, text, want[i])
		}
	}
}

// checkEveryCut encodes a text in two parts, cut at every place that may be one.
func checkEveryCut(t *testing.T, e *pipelineEncoder, text string, want []uint32) {
	t.Helper()
	for i := 1; i < len(text); i++ {
		if text[i]&0xc0 == 0x80 || e.cutsAt([]byte(text), i) != cutPiece {
			continue
		}
		got, err := e.Encode(nil, []byte(text[:i]), Starts)
		if err == nil {
			got, err = e.Encode(got, []byte(text[i:]), Ends)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q cut at %d: %v %v, want %v", text, i, got, err, want)
			return
		}
	}
}

// Between two segmentations with nearly equal scores the last bit decides. Scores are
// parsed as Hugging Face parses them, which is not to the nearest float64. The ids
// are from tokenizers 0.23.3.
func TestUnigramTie(t *testing.T) {
	tok, err := Parse([]byte(`{"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["\u2581a",-4.322179188817241],
		["0",-6.927336568596626],["00",-7.9324694599521095],["\u00c9",-11.117257816842631]]},
		"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"always"}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Encode(tok, "a\n0000000")
	if want := []uint32{1, 0, 3, 2, 3, 3}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// A token may be longer than 255 bytes.
func TestUnigramLongTokens(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	tok, err := Parse([]byte(`{"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["a",-1],["` + long(254) + `",-2],["` + long(255) + `",-2],["` + long(300) + `",-2]]}}`))
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int][]uint32{254: {2}, 255: {3}, 256: {3, 1}, 300: {4}, 555: {4, 3}, 855: {4, 4, 3}} {
		got, err := Encode(tok, long(n))
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%d letters: %v, %v, want %v in some order", n, got, err, want)
		}
	}
}

// The pieces are from tokenizers 0.23.3 (Oniguruma, Split isolated).
func TestRegex(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          []string
	}{
		{`a{1,2}+`, "aaaab", []string{"aaaa", "b"}}, // a repeat of a repeat: + after {} is not possessive
		{`a{2}?`, "aaaab", []string{"aa", "aa", "b"}},
		{`a{1,2}?`, "aaaab", []string{"a", "a", "a", "a", "b"}},
		{`a{,2}`, "aaaab", []string{"aa", "aa", "b"}},
		{`a++ab?`, "aaab", []string{"aaab"}},
		{`^b`, "ab\nb", []string{"ab\n", "b"}},
		{`a$`, "a\naa", []string{"a", "\na", "a"}},
		{`.+`, "ab\ncd", []string{"ab", "\n", "cd"}},
		{`(?m).+`, "ab\ncd", []string{"ab\ncd"}},
		{`(?i:'s)`, "'\u017f", []string{"'\u017f"}},
		{`(?i:k)`, "\u212a", []string{"\u212a"}},
		{`[[:punct:]]+`, "a$+<=>^`|~!b", []string{"a", "$+<=>^`|~!", "b"}},
		{`[a-z&&[^b]]+`, "abc", []string{"a", "b", "c"}},
		{`\h+`, "0aFg", []string{"0aF", "g"}},
		{`\R`, "a\r\nb\n", []string{"a", "\r\n", "b", "\n"}},
		{`\x{41}\u0042`, "AB", []string{"AB"}},
		{`\p{^L}`, "a1", []string{"a", "1"}},
		{`\pL`, "aLpL", []string{"aL", "pL"}},
		{`[]a]`, "a]b", []string{"a", "]", "b"}},
		{`(?<=a)b`, "abb", []string{"a", "b", "b"}},
		{`(?<!a)b`, "abb", []string{"ab", "b"}},
		{`(?<=a|bc)d`, "aab bcd aaab", []string{"aab bc", "d", " aaab"}},
		{`(?<=a{1,3})b`, "aab bcd", []string{"aa", "b", " bcd"}},
		{`(?<!a{2}|x)b`, "aabb b", []string{"aab", "b", " ", "b"}},
		{`(?<=a+)b`, "aab bcd", []string{"aa", "b", " bcd"}},
		{`(?<=a*)b`, "aab bcd", []string{"aa", "b", " ", "b", "cd"}},
		{`(?<=a+c)b`, "aacb cb bacb", []string{"aac", "b", " cb bac", "b"}},
		{`(?<!\d+)a`, "1a a12a", []string{"1a ", "a", "12a"}},
		{`(?<=(?:ab)+c?)d`, "ababcd abd cd", []string{"ababc", "d", " ab", "d", " cd"}},
		{`(?<=a+|b*c)d`, "aad cd bcd d", []string{"aa", "d", " c", "d", " bc", "d", " d"}},
		{`(?<=a+?)b`, "aab b", []string{"aa", "b", " b"}},
		{`(?>a|ab)c`, "abc ac", []string{"abc ", "ac"}},
		{`(?x) a b # c`, "ab", []string{"ab"}},
		{`x*`, "axb", []string{"a", "x", "b"}},
		{`(?:a|b)+?c`, "abc", []string{"abc"}},
		{`a{x`, "a{x", []string{"a{x"}},
		{`(a*)*b`, "aab", []string{"aab"}},
	} {
		t.Run(c.pattern, func(t *testing.T) {
			s, err := splitRegex(c.pattern, isolated, false)
			if err != nil {
				t.Fatal(err)
			}
			var in, out pieces
			in.text, in.spans = []byte(c.text), []span{{0, len(c.text)}}
			if err := s.newState().apply(&in, &out, false, true); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range out.spans {
				got = append(got, c.text[p.start:p.end])
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q: %q, want %q", c.text, got, c.want)
			}
		})
	}
}

// A look-behind tries no more of the text than it can match: over this text it would not
// end if it went back to the start.
func TestRegexLookBehindIsBounded(t *testing.T) {
	text := []byte(strings.Repeat("e", 4_000_000) + "cddf")
	for pattern, want := range map[string]int{`(?<=(?:ab|c)d{1,2})[a-z]`: 4_000_002, `(?<=e+c)[a-z]`: 4_000_001, `(?<!e+)[a-df]`: 4_000_001} {
		re, err := compileRegex(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if start, _, ok := newRegexMatcher(re).find(text, 0); !ok || start != want {
			t.Errorf("%s is found at %d (%v), want %d", pattern, start, ok, want)
		}
	}
}

// Marks that Hugging Face's tables do not know keep their places and come between others;
// characters that only look like Hangul are not composed, and no mark is put in to break a
// long run of marks. The results are from tokenizers 0.23.3.
func TestNormalizationOfNewMarks(t *testing.T) {
	for _, c := range []struct {
		form       unicodeForm
		text, want string
	}{
		{unicodeForm{compose: true}, "a\u0898\u0316", "a\u0898\u0316"},
		{unicodeForm{compose: true}, "e\u0899\u0301", "e\u0899\u0301"},
		{unicodeForm{compose: true, compatible: true}, "\u00e1\u089c\u0345\u0301", "\u00e1\u089c\u0301\u0345"},
		{unicodeForm{}, "\u00e9\u07fd\u0316", "e\u0301\u07fd\u0316"},
		{unicodeForm{compose: true}, "e\uffc3\u0341\u0349", "e\uffc3\u0349\u0301"},
		{unicodeForm{compose: true}, "a" + strings.Repeat("\u0301", 32), "\u00e1" + strings.Repeat("\u0301", 31)},
		{unicodeForm{compatible: true}, "\ufb01\u1abf\u0316\u0301", "fi\u1abf\u0316\u0301"},
	} {
		got, err := c.form.apply(nil, []byte(c.text), true, true)
		if err != nil || string(got) != c.want {
			t.Errorf("%v of %+q: %+q, %v, want %+q", c.form, c.text, got, err, c.want)
		}
	}
}

// A chain of replacements that would make a text longer than memory ends with an error,
// and usual ones do not.
func TestReplacementsGrow(t *testing.T) {
	text := []byte(strings.Repeat("a", 1<<16))
	re, err := compileRegex("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []normalizer{replaceString{[]byte("a"), []byte("aaaaaaaaaa")}, replaceString{[]byte("aa"), []byte("aaaaaaaaaaaaaaaaaaaa")},
		replaceRegex{re, []byte("aaaaaaaaaa")}} {
		grown, steps := text, 0
		for err = error(nil); err == nil && steps < 9; steps++ {
			grown, err = step.apply(nil, grown, true, true)
		}
		if !errors.Is(err, errGrown) || steps < 3 {
			t.Errorf("%T: error %v after %d steps", step, err, steps)
		}
	}
}

// An expression that tries a text in exponentially many ways ends with an error.
func TestRegexSteps(t *testing.T) {
	re, err := compileRegex(`(?:a|a)*b`)
	if err != nil {
		t.Fatal(err)
	}
	m := newRegexMatcher(re)
	if _, _, ok := m.find([]byte(strings.Repeat("a", 64)), 0); ok || m.err == nil {
		t.Errorf("found %v, error %v", ok, m.err)
	}
}

// An expression whose work grows with the square of the text ends with an error, and a
// line of one character that needs a pass at each place does not.
func TestRegexWork(t *testing.T) {
	text := []byte(strings.Repeat("a", 1<<18))
	for pattern, ends := range map[string]bool{`(?!a*b)a`: true, `(?=a+)a*b`: true, `(?:a{1000}){1000}`: true, `a+`: false, `\s+(?!\S)|a`: false, `(?i:a)a?|b+`: false} {
		re, err := compileRegex(pattern)
		if err != nil {
			t.Fatal(err)
		}
		m, found := newRegexMatcher(re), 0
		m.matches(text, func(_, _ int) { found++ })
		if errors.Is(m.err, errRegexSteps) != ends || !ends && found == 0 {
			t.Errorf("%s: %d matches, error %v", pattern, found, m.err)
		}
	}
}

// A chain of replacements that each stay within bounds ends too.
func TestNormalizersGrow(t *testing.T) {
	double := `{"type":"Replace","pattern":{"String":"a"},"content":"aa"}`
	tok, err := Parse([]byte(`{"normalizer":{"type":"Sequence","normalizers":[` + strings.TrimSuffix(strings.Repeat(double+",", 30), ",") + `]},` +
		`"model":{"type":"WordLevel","vocab":{"a":0,"[UNK]":1},"unk_token":"[UNK]"}}`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = tok.NewEncoder().Encode(nil, []byte(strings.Repeat("a", 1000)), Document)
	if !errors.Is(err, errGrown) {
		t.Errorf("error is %v", err)
	}
}

// No expression causes a panic, and cuts never change its matches.
func FuzzRegex(f *testing.F) {
	for _, seed := range []string{gpt2Pattern, cl100kPattern, `(?<=a)[^\S\n]+(?=\n)|\bx*+`, `[[:alpha:]&&[^a-c]]{2,}?|\R`} {
		f.Add(seed, "it's a\u00e9 12\n\n  x")
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		s, err := splitRegex(pattern, isolated, false)
		if err != nil || len(text) > 200 {
			return
		}
		text = strings.ToValidUTF8(text, "?")
		split := func(text string) (got []string, err error) {
			var in, out pieces
			in.text, in.spans = []byte(text), []span{{0, len(text)}}
			err = s.newState().apply(&in, &out, false, true)
			for _, p := range out.spans {
				got = append(got, text[p.start:p.end])
			}
			return got, err
		}
		whole, err := split(text)
		if err != nil {
			return
		}
		for i := range text {
			if i == 0 || !s.cuts([]byte(text[:i]), []byte(text[i:])) {
				continue
			}
			left, _ := split(text[:i])
			right, _ := split(text[i:])
			if parts := append(left, right...); !slices.Equal(parts, whole) {
				t.Fatalf("%q cut at %d: %q, want %q", text, i, parts, whole)
			}
		}
	})
}
