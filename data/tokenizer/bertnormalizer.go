package tokenizer

import (
	"encoding/json"
	"fmt"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// bertNormalizer is BERT's way to clean a text before it is cut into words.
type bertNormalizer struct {
	CleanText          bool  `json:"clean_text"`
	HandleChineseChars bool  `json:"handle_chinese_chars"`
	StripAccents       *bool `json:"strip_accents"` // null: if Lowercase
	Lowercase          bool  `json:"lowercase"`
}

func parseBertNormalizer(part json.RawMessage) (bertNormalizer, error) {
	switch kind := typeOf(part); kind {
	case "":
		return bertNormalizer{}, nil
	case "Lowercase":
		no := false
		return bertNormalizer{Lowercase: true, StripAccents: &no}, nil
	case "BertNormalizer":
		n := bertNormalizer{CleanText: true, HandleChineseChars: true, Lowercase: true}
		if err := readPart("normalizer", part, &n); err != nil {
			return n, err
		}
		return n, nil
	default:
		return bertNormalizer{}, fmt.Errorf("WordPiece with normalizer %q is not supported, only with BertNormalizer or Lowercase", kind)
	}
}

// none tells whether text is left as it is.
func (n bertNormalizer) none() bool {
	return !n.CleanText && !n.HandleChineseChars && !n.stripAccents() && !n.Lowercase
}

func (n bertNormalizer) stripAccents() bool {
	if n.StripAccents == nil {
		return n.Lowercase
	}
	return *n.StripAccents
}

// append appends the cleaned text to dst, using scratch.
func (n bertNormalizer) append(dst, text []byte, scratch *[]byte) []byte {
	clean := (*scratch)[:0]
	for i := 0; i < len(text); {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(text[i:])
		}
		i += size
		if n.CleanText {
			switch {
			case r == '\t' || r == '\n' || r == '\r':
				r = ' '
			case r == 0 || r == utf8.RuneError || oldControl(r):
				continue
			case unicode.IsSpace(r):
				r = ' '
			}
		}
		if n.HandleChineseChars && r >= 0x3400 && unicode.Is(chinese, r) {
			clean = append(clean, ' ')
			clean = utf8.AppendRune(clean, r)
			clean = append(clean, ' ')
			continue
		}
		clean = utf8.AppendRune(clean, r)
	}
	*scratch = clean
	if n.stripAccents() {
		clean = withoutMarks(clean)
	}
	if n.Lowercase {
		return appendLower(dst, clean)
	}
	return append(dst, clean...)
}

// withoutMarks takes characters apart and leaves their marks out.
func withoutMarks(text []byte) []byte {
	if ascii(text) {
		return text
	}
	apart := norm.NFD.Bytes(text)
	kept := apart[:0]
	for i := 0; i < len(apart); {
		r, size := utf8.DecodeRune(apart[i:])
		if !oldMark(r) {
			kept = append(kept, apart[i:i+size]...)
		}
		i += size
	}
	return kept
}

func ascii(text []byte) bool {
	for _, b := range text {
		if b >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
