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

	starts, continues *table // the bytes of tokens -> index of the ids below
	startIDs, contIDs []uint32
	longestToken      int
}

func parseWordPiece(part modelPart, _ bool) (model, *vocabulary, error) {
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
	m := &wordPiece{longest: read.Longest, starts: newTable(len(vocab.byID)), continues: newTable(len(vocab.byID))}
	m.unknown, m.missing = unknownToken(&vocab, read.UnkToken)
	for token, id := range vocab.byID {
		m.starts.add([]byte(token))
		m.startIDs = append(m.startIDs, id)
		if rest, ok := strings.CutPrefix(token, read.Prefix); ok && rest != "" {
			m.continues.add([]byte(rest))
			m.contIDs = append(m.contIDs, id)
		}
		m.longestToken = max(m.longestToken, len(token))
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

// joins returns true: a word's tokens depend on all of the word.
func (m *wordPiece) joins(_, _ rune) bool { return true }

func (m *wordPiece) seamFrom() int { return math.MaxInt }

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
	return e.cache.append(dst, text, start, end)
}

func (e *wordPieceEncoder) word(dst []uint32, word []byte) ([]uint32, error) {
	m, from := e.m, len(dst)
	if utf8.RuneCount(word) > m.longest {
		return m.appendUnknown(dst)
	}
	known, ids := m.starts, m.startIDs
	for start := 0; start < len(word); known, ids = m.continues, m.contIDs {
		end := min(len(word), start+m.longestToken)
		for ; end > start; end-- {
			if at, ok := known.find(word[start:end]); ok {
				dst = append(dst, ids[at])
				break
			}
		}
		if end == start {
			return m.appendUnknown(dst[:from])
		}
		start = end
	}
	return dst, nil
}

func (m *wordPiece) appendUnknown(dst []uint32) ([]uint32, error) {
	if m.unknown < 0 {
		return dst, m.missing
	}
	return append(dst, uint32(m.unknown)), nil
}
