package corpus

import "strings"

// Punctuation that is separated from the words it touches. Inside a word it
// stays: http.Request is one word.
const (
	opening = "([{\"'`<"
	closing = ")]}\"'`>,.;:!?"
)

// setApart puts a space between words and punctuation, as WikiText does, so
// that a word at the end of a sentence is the same token as elsewhere.
func setApart(text []byte) []byte {
	apart := make([]byte, 0, len(text)+len(text)/8)
	for line := range strings.Lines(string(text)) {
		for i, word := range strings.Fields(line) {
			if i > 0 {
				apart = append(apart, ' ')
			}
			apart = appendApart(apart, word)
		}
		apart = append(apart, '\n')
	}
	return apart
}

func appendApart(dst []byte, word string) []byte {
	for len(word) > 1 && strings.IndexByte(opening, word[0]) >= 0 {
		dst = append(dst, word[0], ' ')
		word = word[1:]
	}
	end := len(word)
	for end > 1 && strings.IndexByte(closing, word[end-1]) >= 0 {
		end--
	}
	tail := word[end:]
	word = word[:end]
	if stem, ok := strings.CutSuffix(word, "'s"); ok && stem != "" {
		dst = append(dst, stem...)
		dst = append(dst, " 's"...)
	} else {
		dst = append(dst, word...)
	}
	for i := range len(tail) {
		dst = append(dst, ' ', tail[i])
	}
	return dst
}
