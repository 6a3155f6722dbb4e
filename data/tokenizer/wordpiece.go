package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// wordPiece is BERT's model: a word becomes the longest token that it starts with,
// then the longest that the rest starts with, and so on, or the unknown token
// alone if at some place no token fits.
type wordPiece struct {
	longest int   // largest number of characters of a word; longer words are unknown
	unknown int64 // -1 if unk_token is not in the vocabulary
	missing error

	starts, continues *trie // tokens that a word starts and goes on with, numbered by their ids

	// bytes is not nil if a word is any text, and every byte a token (RWKV's vocabulary, rwkv.go).
	// Words are then texts, and tokens what they spell.
	bytes *greedyBytes
}

func parseWordPiece(part modelPart, overBytes bool) (model, *vocabulary, error) {
	read := struct {
		UnkToken string `json:"unk_token"`
		Prefix   string `json:"continuing_subword_prefix"`
		Longest  int    `json:"max_input_chars_per_word"`
	}{UnkToken: "[UNK]", Prefix: "##", Longest: 100}
	var entries vocabObject
	if err := part.read(&read, &entries, nil); err != nil {
		return nil, nil, err
	}
	if isNull(part.vocab) {
		return nil, nil, errors.New("model: WordPiece needs a vocab")
	}
	vocab, err := newVocabulary(entries)
	if err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	m := &wordPiece{longest: read.Longest}
	m.unknown, m.missing = unknownToken(&vocab, read.UnkToken)
	starts := make([]string, len(vocab.written))
	for token, id := range vocab.byID {
		starts[id] = token
	}
	if overBytes && read.Prefix == "" && read.Longest >= anyLength {
		if m.bytes = newGreedyBytes(starts); m.bytes != nil {
			return m, &vocab, nil
		}
	}
	m.starts = newTrie(starts)
	m.continues = m.starts
	if read.Prefix != "" {
		continues := make([]string, len(starts))
		for id, token := range starts {
			if rest, ok := strings.CutPrefix(token, read.Prefix); ok {
				continues[id] = rest
			}
		}
		m.continues = newTrie(continues)
	}
	return m, &vocab, nil
}

// unknownToken finds the id of unk_token. A vocabulary without it gives an error
// only for text that needs it.
func unknownToken(v *vocabulary, name string) (id int64, missing error) {
	if id, ok := v.byID[name]; ok {
		return int64(id), nil
	}
	return -1, fmt.Errorf("the text has a word without tokens, and the unk_token %q is not in the tokenizer's vocabulary", name)
}

// joins returns true for words, since a word's tokens depend on all of it.
func (m *wordPiece) joins(a, b rune) bool { return m.bytes == nil || m.bytes.joins(a, b) }

func (m *wordPiece) seamFrom() int {
	if m.bytes != nil {
		return longPiece
	}
	return math.MaxInt
}

func (m *wordPiece) takesBytes() bool { return m.bytes != nil }

type wordPieceEncoder struct {
	m     *wordPiece
	cache *pieceCache
}

func (m *wordPiece) newEncoder() modelEncoder {
	e := &wordPieceEncoder{m: m}
	e.cache = newPieceCache(e.word)
	return e
}

func (e *wordPieceEncoder) append(dst []uint32, text []byte, start, end int) ([]uint32, error) {
	if e.m.bytes != nil {
		return e.m.bytes.append(dst, text[start:end]), nil
	}
	return e.cache.append(dst, text, start, end)
}

func (e *wordPieceEncoder) word(dst []uint32, word []byte) ([]uint32, error) {
	m, from := e.m, len(dst)
	if len(word) > m.longest && utf8.RuneCount(word) > m.longest {
		return m.appendUnknown(dst)
	}
	for known := m.starts; len(word) > 0; known = m.continues {
		id, n := known.longest(word)
		if n == 0 {
			return m.appendUnknown(dst[:from])
		}
		dst, word = append(dst, uint32(id)), word[n:]
	}
	return dst, nil
}

func (m *wordPiece) appendUnknown(dst []uint32) ([]uint32, error) {
	if m.unknown < 0 {
		return dst, m.missing
	}
	return append(dst, uint32(m.unknown)), nil
}
