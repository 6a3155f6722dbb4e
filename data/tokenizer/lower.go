package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// appendLower appends text in lower case, character by character as Unicode's
// full mapping has it: one character alone, U+0130, becomes two.
func appendLower(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		b := text[i]
		if b < utf8.RuneSelf {
			if 'A' <= b && b <= 'Z' {
				b += 'a' - 'A'
			}
			dst = append(dst, b)
			i++
			continue
		}
		r, n := utf8.DecodeRune(text[i:])
		switch {
		case r == 'İ':
			dst = append(dst, "i\u0307"...)
		case r == utf8.RuneError && n == 1:
			dst = append(dst, b)
		default:
			dst = utf8.AppendRune(dst, unicode.ToLower(r))
		}
		i += n
	}
	return dst
}
