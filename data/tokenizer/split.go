package tokenizer

import "unicode/utf8"

// splitter cuts text into pieces. Byte-level BPE merges only within a piece.
type splitter interface {
	// next returns the end of the piece that starts at i < len(text).
	next(text []byte, i int) int
	// leads are the bytes that belong to a piece with the letters after them. To each
	// splitter a lead and ASCII letters, or the letters alone, are a piece if no other
	// letter follows. A cased splitter cuts before a capital after a small letter, and may
	// cut after an apostrophe that follows.
	leads() *[256]bool
	cased() bool
	// goesOn reports whether a piece from start, which contains the place at and more than
	// two characters after it, ends at at if the text does, and otherwise where a piece from
	// at ends.
	goesOn(text []byte, start, at int) bool
}

// gpt2Pattern is GPT-2's split expression, which gpt2Splitter implements.
const gpt2Pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

// gpt2Splitter is a hand-written loop for gpt2Pattern. Go's regexp has no
// look-ahead, and the loop is many times faster.
type gpt2Splitter struct{ classifier }

func newGPT2Splitter() gpt2Splitter { return gpt2Splitter{classifier{classes()}} }

func (s gpt2Splitter) next(text []byte, i int) int {
	first, n := s.at(text[i:])
	switch {
	case text[i] == '\'':
		if n := contraction(text[i+1:]); n > 0 {
			return i + 1 + n
		}
	case text[i] == ' ' && i+1 < len(text):
		if class, n := s.at(text[i+1:]); class != classSpace {
			return s.run(text, i+1+n, class)
		}
	}
	if first != classSpace {
		return s.run(text, i+n, first)
	}
	return spaces(text, i, s.run(text, i+n, classSpace))
}

// spaces returns the end of a piece that starts the white space text[i:end], as
// \s+(?!\S)|\s+ does: if other text follows, the last space character belongs to
// it.
func spaces(text []byte, i, end int) int {
	if end == len(text) {
		return end
	}
	_, n := utf8.DecodeLastRune(text[i:end])
	if end-n > i {
		return end - n
	}
	return end
}

// contraction returns the length of s, t, re, ve, m, ll or d at the start of
// text, which follows an apostrophe, or 0.
func contraction(text []byte) int {
	if len(text) == 0 {
		return 0
	}
	switch text[0] {
	case 's', 't', 'm', 'd':
		return 1
	case 'r', 'v':
		if len(text) > 1 && text[1] == 'e' {
			return 2
		}
	case 'l':
		if len(text) > 1 && text[1] == 'l' {
			return 2
		}
	}
	return 0
}

func (s gpt2Splitter) goesOn(text []byte, start, at int) bool {
	a, _ := utf8.DecodeLastRune(text[start:at])
	b, _ := utf8.DecodeRune(text[at:])
	return start < at && s.all[a] == s.all[b] && b != '\''
}

// knownSplitter returns the hand-written splitter for an expression, or nil.
func knownSplitter(pattern string) splitter {
	switch pattern {
	case gpt2Pattern:
		return newGPT2Splitter()
	case cl100kPattern:
		return cl100kSplitter{classifier{classes()}, 3}
	case qwen2Pattern:
		return cl100kSplitter{classifier{classes()}, 1}
	case o200kPattern:
		return casedSplitter{classifier{casedClasses()}, 3, true}
	case tekkenPattern:
		return casedSplitter{classifier{casedClasses()}, 1, false}
	}
	return nil
}

// Splits are the split expressions that are selected by name.
var Splits = []NamedSplit{
	{"gpt2", gpt2Pattern}, {"gpt4", cl100kPattern}, {"gpt4o", o200kPattern}, {"llama3", cl100kPattern}, {"qwen2", qwen2Pattern},
}

// NamedSplit is a split expression and its name.
type NamedSplit struct{ Name, Pattern string }

// splitPattern returns the expression called name, or name itself, which is then
// an expression.
func splitPattern(name string) string {
	for _, s := range Splits {
		if s.Name == name {
			return s.Pattern
		}
	}
	return name
}

// CheckSplit returns an error unless name is in Splits or is a valid expression.
func CheckSplit(name string) error {
	_, err := compileRegex(splitPattern(name))
	return err
}
