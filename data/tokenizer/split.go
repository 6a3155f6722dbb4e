package tokenizer

import "unicode/utf8"

// splitter cuts text into the pieces within which byte-level BPE merges.
type splitter interface {
	// next returns where the piece ends that starts at i < len(text).
	next(text []byte, i int) int
	// cut is Encoder.Cut.
	cut(text []byte) int
}

// gpt2Pattern is what gpt2Splitter does, as a regular expression.
const gpt2Pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

// gpt2Splitter is the splitter of GPT-2 by hand: gpt2Pattern looks ahead,
// which Go's regexp does not, and a loop is many times faster.
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

// spaces ends a piece of white space, which is text[i:end], as \s+(?!\S)|\s+
// does: the last character before something else is left for what follows.
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

// cut finds the last place where a piece ends whatever stands around it:
// white space after anything else, or something other than a letter after a
// letter, or than a number after a number.
func (s gpt2Splitter) cut(text []byte) int {
	text = text[:wholeRunes(text)]
	after := uint8(classOther)
	for i, known := len(text), false; i > 0; known = true {
		r, n := utf8.DecodeLastRune(text[:i])
		class := s.all[r]
		switch {
		case !known || class == classSpace:
		case after == classSpace, class != classOther && class != after:
			return i
		}
		after = class
		i -= n
	}
	return 0
}

// knownSplitter returns the splitter that does what an expression says, or nil.
func knownSplitter(pattern string) splitter {
	switch pattern {
	case gpt2Pattern:
		return newGPT2Splitter()
	case cl100kPattern:
		return cl100kSplitter{classifier{classes()}, 3}
	case qwen2Pattern:
		return cl100kSplitter{classifier{classes()}, 1}
	}
	return nil
}

// Splits are the split expressions that are known by a name.
var Splits = []NamedSplit{
	{"gpt2", gpt2Pattern}, {"gpt4", cl100kPattern}, {"gpt4o", o200kPattern}, {"llama3", cl100kPattern}, {"qwen2", qwen2Pattern},
}

// NamedSplit is a split expression and its name.
type NamedSplit struct{ Name, Pattern string }

// splitPattern returns the expression that a name stands for, or the expression.
func splitPattern(name string) string {
	for _, s := range Splits {
		if s.Name == name {
			return s.Pattern
		}
	}
	return name
}

// CheckSplit tells whether a name or an expression can cut text.
func CheckSplit(name string) error {
	_, err := compileRegex(splitPattern(name))
	return err
}
