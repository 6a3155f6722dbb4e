package tokenizer

// Byte-level tokens are written with one printable character for each byte. A
// byte that is a printable Latin-1 character is written as itself; the other
// bytes are written as U+0100 and up, in their order.
var (
	byteChars [256]rune
	charBytes [0x144]int16 // byte of each character, or -1
)

func init() {
	for i := range charBytes {
		charBytes[i] = -1
	}
	next := rune(0x100)
	for b := range 256 {
		c := rune(b)
		if !('!' <= c && c <= '~' || 0xa1 <= c && c <= 0xac || 0xae <= c && c <= 0xff) {
			c = next
			next++
		}
		byteChars[b] = c
		charBytes[c] = int16(b)
	}
}

// unspell returns the bytes of a byte-level token; ok is false if a character
// of it is not in the byte-level alphabet.
func unspell(token string) (text []byte, ok bool) {
	text = make([]byte, 0, len(token))
	for _, c := range token {
		if int(c) >= len(charBytes) || charBytes[c] < 0 {
			return nil, false
		}
		text = append(text, byte(charBytes[c]))
	}
	return text, true
}
