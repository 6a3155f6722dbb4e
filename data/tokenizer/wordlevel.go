package tokenizer

import (
	"errors"
	"fmt"
	"math"

	"github.com/sugarme/tokenizer/model/wordlevel"
)

// wordLevel makes each piece one token. The look-up is sugarme/tokenizer's, the one
// part of it that serves here. Its Digits, Punctuation, Split, UnicodeScripts, Strip,
// Prepend, Replace by string and NFD give the right pieces too, but track every byte's
// origin: on texts of 1 to 10 kB they pass 0.4 to 7 MB/s, Replace 0.1 and less, where
// the parts here pass tens. They panic at text that is not UTF-8, and UnicodeScripts
// writes to the log. Its other parts give other ids than Hugging Face's.
type wordLevel struct {
	words   *wordlevel.WordLevel
	unknown int64
	missing error
}

func parseWordLevel(part modelPart, _ bool) (model, *vocabulary, error) {
	read := struct {
		UnkToken string `json:"unk_token"`
	}{UnkToken: UnknownToken}
	var entries vocabObject
	if err := part.read(&read, &entries, nil); err != nil {
		return nil, nil, err
	}
	if isNull(part.vocab) {
		return nil, nil, errors.New("model: WordLevel needs a vocab")
	}
	vocab, err := newVocabulary(entries)
	if err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	ids := make(map[string]int, len(vocab.byID))
	for token, id := range vocab.byID {
		ids[token] = int(id)
	}
	words := wordlevel.NewWordLevelBuilder()
	words.Vocab(ids)
	m := &wordLevel{words: words.Build()}
	m.unknown, m.missing = unknownToken(&vocab, read.UnkToken) // UnkToken of the builder would give it a new id
	return m, &vocab, nil
}

// joins returns true: a piece is one token.
func (m *wordLevel) joins(_, _ rune) bool { return true }

func (m *wordLevel) seamFrom() int { return math.MaxInt }

func (m *wordLevel) newEncoder() modelEncoder { return m }

func (m *wordLevel) append(dst []uint32, text []byte, start, end int) ([]uint32, error) {
	if id, ok := m.words.TokenToId(string(text[start:end])); ok {
		return append(dst, uint32(id)), nil
	}
	if m.unknown < 0 {
		return dst, m.missing
	}
	return append(dst, uint32(m.unknown)), nil
}
