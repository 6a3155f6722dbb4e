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
			dst = utf8.AppendRune(dst, lowerRune(r))
		}
		i += n
	}
	return dst
}

// lowerRune knows the capitals of Unicode 16 and 17 too, as Rust does and Go's
// tables may not yet.
func lowerRune(r rune) rune {
	switch {
	case r < 0x1c89:
	case r == 0x1c89, r == 0xa7cc, r == 0xa7ce, r == 0xa7d2, r == 0xa7d4, r == 0xa7da:
		return r + 1
	case r == 0xa7cb:
		return 0x264
	case r == 0xa7dc:
		return 0x19b
	case 0x10d50 <= r && r <= 0x10d65:
		return r + 0x20
	case 0x16ea0 <= r && r <= 0x16eb8:
		return r + 0x1b
	}
	return unicode.ToLower(r)
}
