package tokenizer

import (
	"bytes"
	"unicode/utf8"
)

// Split expressions of GPT-4, Llama 3 and Qwen 2. They differ in the number of
// digits in a piece.
const (
	cl100kPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// cl100kSplitter is a hand-written loop for cl100kPattern, and with digits 1
// for qwen2Pattern.
type cl100kSplitter struct {
	classifier
	digits int // the longest run of numbers in one piece
}

func (s cl100kSplitter) next(text []byte, i int) int {
	first, n := s.at(text[i:])
	if text[i] == '\'' {
		if n := foldedContraction(text[i+1:]); n > 0 {
			return i + 1 + n
		}
	}
	switch {
	case first == classLetter:
		return s.run(text, i+n, classLetter)
	case first == classNumber:
		return s.numbers(text, i, s.digits)
	}
	// One character other than a line end belongs to the letters after it.
	if i+n < len(text) && text[i] != '\r' && text[i] != '\n' {
		if class, size := s.at(text[i+n:]); class == classLetter {
			return s.run(text, i+n+size, classLetter)
		}
	}
	start, class := i, first
	if text[i] == ' ' && i+1 < len(text) {
		start = i + 1
		class, _ = s.at(text[start:])
	}
	if class == classOther {
		end := s.run(text, start, classOther)
		for end < len(text) && (text[end] == '\r' || text[end] == '\n') {
			end++
		}
		return end
	}
	return s.space(text, i)
}

// numbers returns the end of at most so many numbers that start at i.
func (c classifier) numbers(text []byte, i, most int) int {
	for count := 0; count < most && i < len(text); count++ {
		class, n := c.at(text[i:])
		if class != classNumber {
			break
		}
		i += n
	}
	return i
}

// space returns the end of a piece that starts with white space: after the last
// line end of the run, or else where \s+(?!\S)|\s+ ends.
func (c classifier) space(text []byte, i int) int {
	end := c.run(text, i, classSpace)
	for last := end; last > i; last-- {
		if text[last-1] == '\r' || text[last-1] == '\n' {
			return last
		}
	}
	return spaces(text, i, end)
}

// foldedContraction is contraction without regard to case. Case folding turns
// U+017F, the long s, into s.
func foldedContraction(text []byte) int {
	const longS = "\u017f"
	if len(text) >= len(longS) && string(text[:len(longS)]) == longS {
		return len(longS)
	}
	var lower [2]byte
	n := copy(lower[:], text)
	for i, b := range lower[:n] {
		if 'A' <= b && b <= 'Z' {
			lower[i] = b + 'a' - 'A'
		}
	}
	return contraction(lower[:n])
}

func (s cl100kSplitter) goesOn(text []byte, start, at int) bool {
	a, _ := utf8.DecodeLastRune(text[start:at])
	b, _ := utf8.DecodeRune(text[at:])
	if start == at || s.all[a] != s.all[b] {
		return false
	}
	switch s.all[b] {
	case classLetter:
		return true
	case classOther:
		return b != '\''
	case classSpace:
		return s.spaceGoesOn(text, start, at)
	}
	return false // numbers are counted
}

// spaceGoesOn is goesOn for white space on both sides. Line ends after other characters
// belong to their piece, and white space before a line end to the line end's.
func (c classifier) spaceGoesOn(text []byte, start, at int) bool {
	first, n := c.at(text[start:])
	second, _ := c.at(text[start+n:])
	before, _ := utf8.DecodeLastRune(text[:start])
	return first == classSpace && second == classSpace && (start == 0 || c.all[before] != classSpace) &&
		(text[at-1] == '\n' || text[at-1] == '\r' || !bytes.ContainsAny(text[start:at], "\r\n"))
}
