package tokenizer

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"
)

// precompiled is SentencePiece's table of replacements: a double-array trie
// (Darts) of the keys, and the replacements, each with a 0 at its end. As in
// Hugging Face's tokenizers, a grapheme of less than six bytes is replaced as a
// whole by the replacement of its shortest prefix in the table; otherwise each
// character is replaced alone.
//
// SentencePiece itself replaces the longest key at each place. Hugging Face has no
// name for that: a converted .model has the field longest_match, which it ignores.
type precompiled struct {
	trie    []uint32
	text    []byte
	longest bool
}

func parsePrecompiled(part json.RawMessage) ([]normalizer, error) {
	var read struct {
		Map     string `json:"precompiled_charsmap"`
		Longest bool   `json:"longest_match"`
	}
	if err := readPart("normalizer", part, &read); err != nil {
		return nil, err
	}
	content, err := base64.StdEncoding.DecodeString(read.Map)
	if err != nil {
		return nil, fmt.Errorf("normalizer: precompiled_charsmap: %w", err)
	}
	p, err := newPrecompiled(content)
	if err != nil || p == nil {
		return nil, err
	}
	p.longest = read.Longest
	return []normalizer{p}, nil
}

// newPrecompiled reads the size of the trie, the trie and the replacements; nil is
// an empty table.
func newPrecompiled(content []byte) (*precompiled, error) {
	if len(content) == 0 {
		return nil, nil
	}
	wrong := errors.New("normalizer: precompiled_charsmap is cut short")
	if len(content) < 4 {
		return nil, wrong
	}
	size := binary.LittleEndian.Uint32(content)
	if content = content[4:]; uint64(size) > uint64(len(content)) || size%4 != 0 || size == 0 {
		return nil, wrong
	}
	p := &precompiled{trie: make([]uint32, size/4), text: content[size:]}
	for i := range p.trie {
		p.trie[i] = binary.LittleEndian.Uint32(content[4*i:])
	}
	if !utf8.Valid(p.text) {
		return nil, errors.New("normalizer: precompiled_charsmap: a replacement is not UTF-8")
	}
	return p, nil
}

// walk calls found with the length and the replacement of each key that starts text,
// the shortest first, until it returns false. open reports whether a longer key may
// start with the whole text.
func (p *precompiled) walk(text []byte, found func(n int, to []byte) bool) (open bool) {
	offset := func(unit uint32) uint32 { return unit >> 10 << (unit & (1 << 9) >> 6) }
	unit := p.trie[0]
	node := offset(unit)
	for i, c := range text {
		if c == 0 {
			return false
		}
		node ^= uint32(c)
		if int(node) >= len(p.trie) {
			return false
		}
		if unit = p.trie[node]; unit&(1<<31|0xff) != uint32(c) {
			return false
		}
		node ^= offset(unit)
		if unit>>8&1 == 0 {
			continue
		}
		if int(node) >= len(p.trie) {
			return false
		}
		at := int(p.trie[node] & (1<<31 - 1))
		if at > len(p.text) {
			return false
		}
		if to, _, _ := bytes.Cut(p.text[at:], []byte{0}); !found(i+1, to) {
			return false
		}
	}
	return true
}

// transform returns the replacement of key's shortest prefix in the table.
func (p *precompiled) transform(key []byte) (to []byte, ok bool) {
	p.walk(key, func(_ int, replacement []byte) bool {
		to, ok = replacement, true
		return false
	})
	return to, ok
}

// appendLongest replaces the longest key at each place.
func (p *precompiled) appendLongest(buf, text []byte) []byte {
	buf = slices.Grow(buf, len(text))
	for len(text) > 0 {
		_, size := utf8.DecodeRune(text)
		to := text[:size]
		p.walk(text, func(n int, replacement []byte) bool {
			size, to = n, replacement
			return true
		})
		buf, text = append(buf, to...), text[size:]
	}
	return buf
}

func (p *precompiled) apply(buf, text []byte, _, _ bool) ([]byte, error) {
	if p.longest {
		return p.appendLongest(buf, text), nil
	}
	for g := graphemes.FromBytes(text); g.Next(); {
		grapheme := g.Value()
		if len(grapheme) < 6 {
			if to, ok := p.transform(grapheme); ok {
				buf = append(buf, to...)
				continue
			}
		}
		for i := 0; i < len(grapheme); {
			_, n := utf8.DecodeRune(grapheme[i:])
			if to, ok := p.transform(grapheme[i : i+n]); ok {
				buf = append(buf, to...)
			} else {
				buf = append(buf, grapheme[i:i+n]...)
			}
			i += n
		}
	}
	return buf, nil
}

// separate returns true only before ASCII and line ends, and between ideographs; with
// longest matches, where no key starts on the left and continues on the right.
func (p *precompiled) separate(left, right []byte) bool {
	if p.longest {
		for i := range left {
			if utf8.RuneStart(left[i]) && p.walk(left[i:], func(int, []byte) bool { return true }) && p.continues(left[i:], right) {
				return false
			}
		}
		return true
	}
	a, _ := utf8.DecodeLastRune(left)
	b, _ := utf8.DecodeRune(right)
	han := func(r rune) bool { return 0x3400 <= r && r <= 0x9fff }
	if b == '\n' { // a line end starts a grapheme, except in \r\n
		return a != '\r'
	}
	return (a < 0x300 || han(a) || 0x3000 <= a && a <= 0x3029) && (b < utf8.RuneSelf || han(b))
}

// continues reports whether a key that starts with left may go on into right.
func (p *precompiled) continues(left, right []byte) bool {
	return len(right) == 0 || p.walk(append(bytes.Clone(left), right[0]), func(int, []byte) bool { return true })
}
