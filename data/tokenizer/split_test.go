package tokenizer

import (
	"slices"
	"strings"
	"testing"
)

// slowGPT2 is gpt2Pattern word for word: it tries the alternatives in their
// order at every place.
func slowGPT2(text string) (pieces []string) {
	c := classifier{classes()}
	class := func(r rune) uint8 { return c.all[r] }
	all := []rune(text)
	for i := 0; i < len(all); {
		n := 0
		for _, word := range []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
			if n == 0 && strings.HasPrefix(string(all[i:]), word) {
				n = len(word)
			}
		}
		for _, want := range []uint8{classLetter, classNumber, classOther} {
			if n > 0 {
				break
			}
			j := i
			if all[j] == ' ' {
				j++
			}
			from := j
			for j < len(all) && class(all[j]) == want {
				j++
			}
			if j > from {
				n = j - i
			}
		}
		if n == 0 {
			j := i
			for j < len(all) && class(all[j]) == classSpace {
				j++
			}
			if n = j - i; j < len(all) && n > 1 {
				n-- // \s+(?!\S) gives one character back
			}
		}
		pieces = append(pieces, string(all[i:i+n]))
		i += n
	}
	return pieces
}

func splitAll(s splitter, text string) (pieces []string) {
	for i := 0; i < len(text); {
		end := s.next([]byte(text), i)
		pieces = append(pieces, text[i:end])
		i = end
	}
	return pieces
}

func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		"it's  'S 'll ''re don't", " \n\n x\u00a0 y", "a1 1a !a a!  ", "fooBar's A日B本 \u0301A\u0301 ABcD'LL日a'sA !\u0301/\n/!", "A日B ǅa !A 'sB\u02b0A/",
		"\u3000\u3000日本 １２", "'", "' s", "  's", "\t\r\n\v",
	} {
		f.Add(seed)
	}
	s, matchers := newGPT2Splitter(), map[string]*regexMatcher{}
	for _, pattern := range []string{gpt2Pattern, cl100kPattern, qwen2Pattern, o200kPattern, tekkenPattern} {
		re, err := compileRegex(pattern)
		if err != nil {
			f.Fatal(err)
		}
		matchers[pattern] = newRegexMatcher(re)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "?")
		whole := splitAll(s, text)
		if want := slowGPT2(text); !slices.Equal(whole, want) {
			t.Fatalf("%q: %q, want %q", text, whole, want)
		}
		for pattern, matcher := range matchers {
			var want []string
			matcher.matches([]byte(text), func(start, end int) { want = append(want, text[start:end]) })
			if got := splitAll(knownSplitter(pattern), text); matcher.err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s: %q: %q, want %q %v", pattern, text, got, want, matcher.err)
			}
		}
	})
}

// The pieces are from Hugging Face's Split with cl100kPattern.
func TestCL100K(t *testing.T) {
	s := knownSplitter(cl100kPattern)
	for text, want := range map[string][]string{
		"it'S I'LL 'Re'\u017f x'\u017f\u017f 'k": {"it", "'S", " I", "'LL", " '", "Re", "'\u017f", " x", "'\u017f", "\u017f", " '", "k"},
		"a1234567 12\u0661\u0662":                {"a", "123", "456", "7", " ", "12\u0661", "\u0662"},
		"!!\r\n\n x":                             {"!!\r\n\n", " x"},
		"  \n \n  y  z":                          {"  \n \n", " ", " y", " ", " z"},
		" \t\n":                                  {" \t\n"},
		"...a _b \u00a0c\u3000d":                 {"...", "a", " _", "b", " ", "\u00a0c", "\u3000d"},
		"x  \r y\n":                              {"x", "  \r", " y", "\n"},
		"a'":                                     {"a", "'"},
		"1 2\n\n3":                               {"1", " ", "2", "\n\n", "3"},
	} {
		if got := splitAll(s, text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// The heap and the scan over all pairs merge alike.
func FuzzMerge(f *testing.F) {
	f.Add("rooms 1000")
	f.Add(strings.Repeat("koala", 12))
	e := trainFixture(f, 1).NewEncoder().(*pipelineEncoder).model.(*bpeEncoder)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) == 0 || len(text) > shortPiece {
			return
		}
		short, err := e.merge(nil, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := e.start([]byte(text)); err != nil {
			t.Fatal(err)
		}
		var long longMerger
		if got := long.merge(e.m.merges, nil, e.symbols); !slices.Equal(short, got) {
			t.Fatalf("%q: %v, with the heap %v", text, short, got)
		}
	})
}
