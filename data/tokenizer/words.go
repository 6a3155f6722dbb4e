package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// Classes of bytes for the word splitter. Only four lead bytes can start a
// white-space character outside ASCII.
const (
	wordByte = iota
	spaceByte
	lineByte
	maybeByte
)

var byteClass = func() (class [256]uint8) {
	for _, b := range []byte("\t\v\f\r ") {
		class[b] = spaceByte
	}
	class['\n'] = lineByte
	for _, b := range []byte{0xc2, 0xe1, 0xe2, 0xe3} {
		class[b] = maybeByte
	}
	return class
}()

// wideSpace returns the length of the white-space character that text starts
// with, which is not ASCII, or 0.
func wideSpace(text []byte) int {
	if r, n := utf8.DecodeRune(text); n > 1 && unicode.IsSpace(r) {
		return n
	}
	return 0
}

// nextWord finds the next word or line end at or after i. A word is
// text[start:end]; at a line end start == end and text[end] is the '\n'. At
// the end of the text start is len(text).
func nextWord(text []byte, i int) (start, end int) {
	for i < len(text) {
		switch byteClass[text[i]] {
		case spaceByte:
			i++
			continue
		case lineByte:
			return i, i
		case maybeByte:
			if n := wideSpace(text[i:]); n > 0 {
				i += n
				continue
			}
		}
		start = i
		for i++; i < len(text); i++ {
			if c := byteClass[text[i]]; c != wordByte && (c != maybeByte || wideSpace(text[i:]) > 0) {
				break
			}
		}
		return start, i
	}
	return len(text), len(text)
}

// CountWords returns how many words and how many lines a document has; a last
// line that no '\n' ends counts if there is anything on it, as Encode of a
// Word tokenizer has it.
func CountWords(text []byte) (words, lines int) {
	// Without a branch for each word: where words end cannot be foreseen.
	after := uint8(1) // whether white space comes before
	for i := 0; i < len(text); i++ {
		class := byteClass[text[i]]
		if class == maybeByte {
			if n := wideSpace(text[i:]); n > 0 {
				i, after = i+n-1, 1
				continue
			}
			class = wordByte
		}
		space := (class | class>>1) & 1 // spaceByte is 1, lineByte 2
		words += int(after &^ space)
		lines += int(class >> 1)
		after = space
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		lines++
	}
	return words, lines
}
