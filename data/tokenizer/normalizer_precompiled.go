package tokenizer

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"
)

// precompiled is SentencePiece's table of replacements: a double-array trie
// (Darts) of the keys, and the replacements, each with a 0 at its end. As in
// Hugging Face's tokenizers, a grapheme of less than six bytes is replaced as a
// whole by the replacement of its shortest prefix in the table; otherwise each
// character is replaced alone.
type precompiled struct {
	trie []uint32
	text []byte
}

func parsePrecompiled(part json.RawMessage) ([]normalizer, error) {
	var read struct {
		Map string `json:"precompiled_charsmap"`
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

// transform returns the replacement of key's shortest prefix in the table.
func (p *precompiled) transform(key []byte) (to []byte, ok bool) {
	offset := func(unit uint32) uint32 { return unit >> 10 << (unit & (1 << 9) >> 6) }
	unit := p.trie[0]
	node := offset(unit)
	for _, c := range key {
		if c == 0 {
			break
		}
		node ^= uint32(c)
		if int(node) >= len(p.trie) {
			return nil, false
		}
		if unit = p.trie[node]; unit&(1<<31|0xff) != uint32(c) {
			return nil, false
		}
		node ^= offset(unit)
		if unit>>8&1 == 1 {
			if int(node) >= len(p.trie) {
				return nil, false
			}
			at := int(p.trie[node] & (1<<31 - 1))
			if at > len(p.text) {
				return nil, false
			}
			to, _, _ = bytes.Cut(p.text[at:], []byte{0})
			return to, true
		}
	}
	return nil, false
}

func (p *precompiled) apply(buf, text []byte, _, _ bool) ([]byte, error) {
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

// separate returns true only before ASCII and line ends, and between ideographs.
func (p *precompiled) separate(left, right []byte) bool {
	a, _ := utf8.DecodeLastRune(left)
	b, _ := utf8.DecodeRune(right)
	han := func(r rune) bool { return 0x3400 <= r && r <= 0x9fff }
	if b == '\n' { // a line end starts a grapheme, except in \r\n
		return a != '\r'
	}
	return (a < 0x300 || han(a) || 0x3000 <= a && a <= 0x3029) && (b < utf8.RuneSelf || han(b))
}
