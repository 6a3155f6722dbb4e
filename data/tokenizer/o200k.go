package tokenizer

import (
	"bytes"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Split expressions of GPT-4o and of Mistral's Tekken. A word is one of capitals and small
// letters in this order.
const (
	o200kPattern  = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	tekkenPattern = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// Classes that take the place of classLetter, and a part of classOther.
const (
	classCapital  = classSpace + 1 + iota // Lu, Lt
	classSmall                            // Ll
	classCaseless                         // Lm, Lo: of capitals and of small letters
	classMark                             // M: caseless in a word, and another character elsewhere
)

var casedClasses = sync.OnceValue(func() *[unicode.MaxRune + 1]uint8 {
	all := *classes()
	for name, class := range map[string]uint8{
		"Lu": classCapital, "Lt": classCapital, "Ll": classSmall, "Lm": classCaseless, "Lo": classCaseless, "M": classMark,
	} {
		for _, r := range category(name).ranges {
			for c := r.lo; c <= r.hi; c++ {
				all[c] = class
			}
		}
	}
	return &all
})

// casedSplitter is a hand-written loop for o200kPattern, and with one digit and without
// contractions for tekkenPattern.
type casedSplitter struct {
	classifier
	digits       int  // the longest run of numbers in one piece
	contractions bool // belong to the word before them
}

func (s casedSplitter) next(text []byte, i int) int {
	first, n := s.at(text[i:])
	lead := first == classMark || (first == classOther || first == classSpace) && text[i] != '\r' && text[i] != '\n'
	if lead {
		if end := s.word(text, i+n); end > 0 {
			return s.contracted(text, end)
		}
	}
	switch first {
	case classCapital, classSmall, classCaseless, classMark:
		end := s.word(text, i)
		if end == 0 {
			end = s.run(text, i, classCapital)
		}
		return s.contracted(text, end)
	case classNumber:
		return s.numbers(text, i, s.digits)
	}
	if lead {
		if end := s.run(text, i+n, classCapital); end > i+n {
			return s.contracted(text, end)
		}
	}
	start := i
	if text[i] == ' ' {
		start++
	}
	end := start
	for end < len(text) {
		class, n := s.at(text[end:])
		if class != classOther && class != classMark {
			break
		}
		end += n
	}
	if end == start {
		return s.space(text, i)
	}
	for end < len(text) && (text[end] == '\r' || text[end] == '\n' || text[end] == '/') {
		end++
	}
	return end
}

// word returns the end of capitals and then at least one small letter, 0 if there are
// none. Caseless letters are both: if no small letter follows the capitals, the last
// caseless one among them ends the word.
func (s casedSplitter) word(text []byte, i int) int {
	end := 0
	for i < len(text) {
		class, n := s.at(text[i:])
		i += n
		switch class {
		case classCapital:
			continue
		case classCaseless, classMark:
			end = i
			continue
		case classSmall:
			end = i
			for end < len(text) {
				class, n := s.at(text[end:])
				if class != classSmall && class != classCaseless && class != classMark {
					break
				}
				end += n
			}
		}
		break
	}
	return end
}

// contracted returns the end of a word with the contraction after it.
func (s casedSplitter) contracted(text []byte, end int) int {
	if s.contractions && end < len(text) && text[end] == '\'' {
		if n := foldedContraction(text[end+1:]); n > 0 {
			return end + 1 + n
		}
	}
	return end
}

// leads are ASCII characters that are no letters, numbers or line ends.
func (s casedSplitter) leads() *[256]bool {
	var is [256]bool
	for b := range 0x80 {
		is[b] = (s.all[b] == classOther || s.all[b] == classSpace) && b != '\r' && b != '\n'
	}
	return &is
}

func (casedSplitter) cased() bool { return true }

func (s casedSplitter) goesOn(text []byte, start, at int) bool {
	a, _ := utf8.DecodeLastRune(text[start:at])
	b, size := utf8.DecodeRune(text[at:])
	class := s.all[b]
	if start == at || s.all[a] != class {
		return false
	}
	switch class {
	case classSmall:
		return true
	case classCapital, classCaseless:
		// The word is still in its capitals, which a small letter would have ended.
		for i := start; i < at; {
			c, n := s.at(text[i:])
			lead := i == start && (c == classOther || c == classSpace)
			if i += n; !lead && (c == classSmall || class == classCapital && c != classCapital) {
				return false
			}
		}
		return true
	case classOther:
		next, _ := s.at(text[at+size:]) // a word may start with one such character
		return next == classOther && !bytes.ContainsAny(text[start:at], "\r\n")
	case classSpace:
		return s.spaceGoesOn(text, start, at)
	}
	return false
}
