package tokenizer

import (
	"bytes"
	"fmt"
	"io"
)

// Word is the word-level tokenizer of WikiText and word_language_model: words
// are what white space separates, <eos> ends every line, empty ones too, and
// a word that is not in the vocabulary becomes <unk>.
type Word struct {
	words    *table
	unk, eos uint32
	lower    bool
}

// NewWord makes a word tokenizer from its vocabulary, in the order of the
// ids. The vocabulary must hold <unk> and <eos>.
func NewWord(vocabulary []string, lower bool) (*Word, error) {
	t := &Word{words: newTable(len(vocabulary)), lower: lower}
	for _, word := range vocabulary {
		if _, fresh := t.words.add([]byte(word)); !fresh {
			return nil, fmt.Errorf("%q is in the vocabulary twice", word)
		}
	}
	var ok bool
	if t.unk, ok = t.ID(UnknownToken); !ok {
		return nil, fmt.Errorf("%s is not in the vocabulary", UnknownToken)
	}
	if t.eos, ok = t.ID(EndOfLine); !ok {
		return nil, fmt.Errorf("%s is not in the vocabulary", EndOfLine)
	}
	return t, nil
}

func (t *Word) Kind() string              { return "word" }
func (t *Word) Vocab() int                { return t.words.len() }
func (t *Word) Unknown() (uint32, bool)   { return t.unk, true }
func (t *Word) Separator() (uint32, bool) { return 0, false }

func (t *Word) Token(id uint32) string {
	if int(id) >= t.words.len() {
		return ""
	}
	return string(t.words.bytes(id))
}

func (t *Word) ID(token string) (uint32, bool) { return t.words.find([]byte(token)) }

// AppendText writes <eos> as a line end and a space before a word that does
// not start a line.
func (t *Word) AppendText(dst []byte, prev int64, id uint32) []byte {
	if id == t.eos {
		return append(dst, '\n')
	}
	if prev >= 0 && prev != int64(t.eos) {
		dst = append(dst, ' ')
	}
	return append(dst, t.Token(id)...)
}

func (t *Word) NewEncoder() Encoder { return &wordEncoder{t: t} }

type wordEncoder struct {
	t       *Word
	lowered []byte
}

func (e *wordEncoder) Cut(text []byte) int { return bytes.LastIndexByte(text, '\n') + 1 }

func (e *wordEncoder) Encode(dst []uint32, text []byte) ([]uint32, error) {
	t := e.t
	if t.lower {
		e.lowered = appendLower(e.lowered[:0], text)
		text = e.lowered
	}
	for i := 0; ; {
		start, end := nextWord(text, i)
		if start == len(text) {
			break
		}
		if start == end {
			dst = append(dst, t.eos)
			i = end + 1
			continue
		}
		id, ok := t.words.findIn(text, start, end)
		if !ok {
			id = t.unk
		}
		dst = append(dst, id)
		i = end
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		dst = append(dst, t.eos)
	}
	return dst, nil
}

// WriteJSON writes a WordLevel model. Splitting at white space after turning
// each '\n' into <eos> makes other tools give the same ids, for text whose
// last line is ended.
func (t *Word) WriteJSON(w io.Writer) error {
	eos := map[string]any{"type": "Replace", "pattern": map[string]any{"String": "\n"}, "content": " " + EndOfLine + " "}
	normalizer := eos
	if t.lower {
		normalizer = map[string]any{"type": "Sequence", "normalizers": []any{map[string]any{"type": "Lowercase"}, eos}}
	}
	return writeJSON(w, file{
		AddedTokens:  []addedToken{},
		Normalizer:   normalizer,
		PreTokenizer: map[string]any{"type": "WhitespaceSplit"},
		Model: wordLevel{
			Type:     "WordLevel",
			Vocab:    orderedVocab{t.Vocab(), t.Token},
			UnkToken: UnknownToken,
		},
	})
}
