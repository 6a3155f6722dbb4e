package tokenizer

import "unicode/utf8"

// Split expressions of GPT-4, Llama 3 and Qwen 2. They differ in the number of
// digits in a piece.
const (
	cl100kPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	// o200kPattern is GPT-4o's split expression.
	o200kPattern = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
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
		for count := 1; count < s.digits && i+n < len(text); count++ {
			class, size := s.at(text[i+n:])
			if class != classNumber {
				break
			}
			n += size
		}
		return i + n
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

// space returns the end of a piece that starts with white space: after the last
// line end of the run, or else where \s+(?!\S)|\s+ ends.
func (s cl100kSplitter) space(text []byte, i int) int {
	end := s.run(text, i, classSpace)
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

// cut finds the last place where white space that is no line end follows a
// letter or a number. After other characters line ends belong to their piece,
// and numbers are counted, so only letters end safely before anything else.
func (s cl100kSplitter) cut(text []byte) int {
	text = text[:wholeRunes(text)]
	after, known := rune(0), false
	for i := len(text); i > 0; known = true {
		r, n := utf8.DecodeLastRune(text[:i])
		if class := s.all[r]; known && class != classSpace && s.all[after] == classSpace &&
			(class != classOther || after != '\r' && after != '\n') {
			return i
		}
		after = r
		i -= n
	}
	return 0
}
