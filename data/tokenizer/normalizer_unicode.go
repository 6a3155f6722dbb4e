package tokenizer

import (
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// unicodeForm is one of Unicode's normalization forms: NFC, NFD, NFKC or NFKD.
// golang.org/x/text does the work. But it writes the stream-safe form, with U+034F
// after 30 marks in a row, and has decompositions and combining classes that Hugging
// Face's older tables lack. Text with either is normalized by the algorithm of
// Unicode's annex 15 below.
type unicodeForm struct{ compose, compatible bool }

func (f unicodeForm) form() norm.Form {
	switch {
	case f.compose && f.compatible:
		return norm.NFKC
	case f.compose:
		return norm.NFC
	case f.compatible:
		return norm.NFKD
	}
	return norm.NFD
}

// manyMarks is the least number of characters in a segment for which x/text may
// write U+034F. A character decomposes into at most four marks.
const manyMarks = 8

func (f unicodeForm) apply(buf, text []byte, _, _ bool) ([]byte, error) {
	form := f.form()
	if form.QuickSpan(text) == len(text) {
		return text, nil
	}
	run := 0 // start of the text that x/text will normalize
	for i := 0; i < len(text); {
		end, odd := f.segment(form, text, i)
		if odd {
			buf = form.Append(buf, text[run:i]...)
			buf = f.annex15(buf, text[i:end])
			run = end
		}
		i = end
	}
	return form.Append(buf, text[run:]...), nil
}

// segment returns the end of the segment that starts at i, and whether x/text
// normalizes it differently from Hugging Face. Segments normalize independently.
func (f unicodeForm) segment(form norm.Form, text []byte, i int) (end int, odd bool) {
	count := 0
	for end = i; end < len(text); count++ {
		r, n := rune(text[end]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(text[end:])
			if count > 0 && form.Properties(text[end:]).BoundaryBefore() {
				break
			}
			odd = odd || r >= 0x7fd && f.isOdd(r)
		} else if count > 0 {
			break
		}
		end += n
	}
	return end, odd || count > manyMarks
}

// isOdd reports whether older tables lack a character's decomposition, composition or
// combining class.
func (f unicodeForm) isOdd(r rune) bool {
	return r == 0x11930 || r == 0x11935 || r == 0x11938 || youngClasses.has(r) || f.compatible && youngCompatible.has(r)
}

func (f unicodeForm) annex15(dst, segment []byte) []byte {
	apart := norm.NFD
	if f.compatible {
		apart = norm.NFKD
	}
	var all []rune
	for i := 0; i < len(segment); {
		r, n := utf8.DecodeRune(segment[i:])
		if f.isOdd(r) {
			all = append(all, r)
		} else {
			all = append(all, []rune(apart.String(string(segment[i:i+n])))...)
		}
		i += n
	}
	class := func(r rune) uint8 {
		if youngClasses.has(r) {
			return 0
		}
		return norm.NFD.PropertiesString(string(r)).CCC()
	}
	for i := 0; i < len(all); {
		if class(all[i]) == 0 {
			i++
			continue
		}
		end := i + 1
		for end < len(all) && class(all[end]) != 0 {
			end++
		}
		slices.SortStableFunc(all[i:end], func(a, b rune) int { return int(class(a)) - int(class(b)) })
		i = end
	}
	if f.compose {
		all = f.composed(all, class)
	}
	for _, r := range all {
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

// composed joins each character with the last starter before it, unless one of the
// same or a higher class stands between.
func (f unicodeForm) composed(all []rune, class func(rune) uint8) []rune {
	kept := all[:0]
	starter, last := -1, uint8(0)
	for _, r := range all {
		c := class(r)
		if starter >= 0 && (last < c || len(kept) == starter+1) && !f.isOdd(r) && !f.isOdd(kept[starter]) {
			if joined := []rune(norm.NFC.String(string([]rune{kept[starter], r}))); len(joined) == 1 {
				kept[starter] = joined[0]
				continue
			}
		}
		if c == 0 {
			starter = len(kept)
		}
		last = c
		kept = append(kept, r)
	}
	return kept
}

func (f unicodeForm) separate(_, right []byte) bool {
	return len(right) > 0 && f.form().Properties(right).BoundaryBefore()
}
