package tokenizer

import (
	"io"
	"unicode/utf8"
)

// Byte makes each byte one token: id b is the byte b, and 256 separates
// documents.
type Byte struct{}

const byteSeparator = 256

var byteKind = Kind{Name: "byte", About: "each byte is a token", Fixed: Byte{}}

func (Byte) Kind() string              { return "byte" }
func (Byte) Words() bool               { return false }
func (Byte) Vocab() int                { return byteSeparator + 1 }
func (Byte) Unknown() (uint32, bool)   { return 0, false }
func (Byte) Separator() (uint32, bool) { return byteSeparator, true }
func (t Byte) NewEncoder() Encoder     { return t }

func (Byte) Token(id uint32) string {
	switch {
	case id < byteSeparator:
		return string(byteChars[id])
	case id == byteSeparator:
		return EndOfText
	}
	return ""
}

func (Byte) ID(token string) (uint32, bool) {
	if token == EndOfText {
		return byteSeparator, true
	}
	text, ok := unspell(token)
	if !ok || len(text) != 1 {
		return 0, false
	}
	return uint32(text[0]), true
}

func (Byte) AppendText(dst []byte, _ int64, id uint32) []byte {
	if id == byteSeparator {
		return append(dst, EndOfText...)
	}
	return append(dst, byte(id))
}

// Encode makes the tokenizer its own encoder: encoding needs no state.
func (Byte) Encode(dst []uint32, text []byte, _ Part) ([]uint32, error) {
	for _, b := range text {
		dst = append(dst, uint32(b))
	}
	return dst, nil
}

// Cut returns a place after the last whole character.
func (Byte) Cut(text []byte, _ Part) int { return wholeRunes(text) }

// wholeRunes returns the length of text without an unfinished character at its
// end.
func wholeRunes(text []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(text); back++ {
		if at := len(text) - back; utf8.RuneStart(text[at]) {
			if utf8.FullRune(text[at:]) {
				return len(text)
			}
			return at
		}
	}
	return len(text)
}

// WriteJSON writes a byte-level BPE that never merges.
func (t Byte) WriteJSON(w io.Writer) error {
	return writeJSON(w, file{
		AddedTokens:  []addedToken{{ID: byteSeparator, Content: EndOfText, Special: true}},
		PreTokenizer: newByteLevel(false),
		Decoder:      newByteLevel(true),
		Model:        bpeModel{Type: "BPE", Vocab: orderedVocab{byteSeparator, t.Token}, Merges: [][2]string{}},
	})
}

// isByte reports whether a tokenizer was written by Byte.WriteJSON.
func isByte(t *Pipeline) bool {
	m, ok := t.model.(*bpe)
	same := ok && len(t.normalizers) == 0 && len(t.splits) == 0 && m.bytes != nil && len(m.merges.to) == 0 &&
		t.Vocab() == byteSeparator+1 && len(t.added) == 1
	for id := uint32(0); same && id <= byteSeparator; id++ {
		same = t.Token(id) == (Byte{}).Token(id)
	}
	return same
}
