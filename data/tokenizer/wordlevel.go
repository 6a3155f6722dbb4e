package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// wordLevel makes each piece one token.
type wordLevel struct {
	words   *table
	ids     []uint32
	unknown int64
	missing error
}

func parseWordLevel(part json.RawMessage, _ bool) (model, *vocabulary, error) {
	read := struct {
		Vocab    *vocabObject `json:"vocab"`
		UnkToken string       `json:"unk_token"`
	}{UnkToken: UnknownToken}
	if err := readPart("model", part, &read); err != nil {
		return nil, nil, err
	}
	if read.Vocab == nil {
		return nil, nil, errors.New("model: WordLevel needs a vocab")
	}
	vocab, err := newVocabulary(*read.Vocab)
	if err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	m := &wordLevel{words: newTable(len(vocab.byID))}
	m.unknown, m.missing = unknownToken(&vocab, read.UnkToken)
	for token, id := range vocab.byID {
		m.words.add([]byte(token))
		m.ids = append(m.ids, id)
	}
	return m, &vocab, nil
}

// joins returns true: a piece is one token.
func (m *wordLevel) joins(_, _ rune) bool { return true }

func (m *wordLevel) seamFrom() int { return math.MaxInt }

func (m *wordLevel) newEncoder() modelEncoder { return m }

func (m *wordLevel) append(dst []uint32, text []byte, start, end int) ([]uint32, error) {
	if at, ok := m.words.findIn(text, start, end); ok {
		return append(dst, m.ids[at]), nil
	}
	if m.unknown < 0 {
		return dst, m.missing
	}
	return append(dst, uint32(m.unknown)), nil
}
