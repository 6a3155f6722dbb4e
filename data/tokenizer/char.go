package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Char makes each character (Unicode code point) one token. Its ids are <unk>,
// <|endoftext|>, and the characters in the order of their code points.
type Char struct {
	tokens []string
	ids    []uint32 // by character; noChar for a character without an id
}

const (
	charUnknown   = 0
	charSeparator = 1
	noChar        = charUnknown
)

// newChar makes a tokenizer of characters, whose ids follow the two special
// ids.
func newChar(chars []rune) (*Char, error) {
	t := &Char{tokens: []string{UnknownToken, EndOfText}, ids: make([]uint32, unicode.MaxRune+1)}
	for _, c := range chars {
		if t.ids[c] != noChar {
			return nil, fmt.Errorf("vocab: %q is there twice", c)
		}
		t.ids[c] = uint32(len(t.tokens))
		t.tokens = append(t.tokens, string(c))
	}
	return t, nil
}

func (t *Char) Kind() string              { return "char" }
func (t *Char) Words() bool               { return false }
func (t *Char) Vocab() int                { return len(t.tokens) }
func (t *Char) Unknown() (uint32, bool)   { return charUnknown, true }
func (t *Char) Separator() (uint32, bool) { return charSeparator, true }
func (t *Char) NewEncoder() Encoder       { return t }

func (t *Char) Token(id uint32) string {
	if int(id) >= len(t.tokens) {
		return ""
	}
	return t.tokens[id]
}

func (t *Char) ID(token string) (uint32, bool) {
	if id := slices.Index(t.tokens[:2], token); id >= 0 {
		return uint32(id), true
	}
	c, n := utf8.DecodeRuneInString(token)
	if n != len(token) || n == 0 || t.ids[c] == noChar {
		return 0, false
	}
	return t.ids[c], true
}

func (t *Char) AppendText(dst []byte, _ int64, id uint32) []byte {
	return append(dst, t.Token(id)...)
}

// Encode makes the tokenizer its own encoder: encoding needs no state.
func (t *Char) Encode(dst []uint32, text []byte, _ Part) ([]uint32, error) {
	for i := 0; i < len(text); {
		if b := text[i]; b < utf8.RuneSelf {
			dst = append(dst, t.ids[b])
			i++
			continue
		}
		c, n := utf8.DecodeRune(text[i:])
		dst = append(dst, t.ids[c])
		i += n
	}
	return dst, nil
}

// Cut may be after any character.
func (t *Char) Cut(text []byte, _ Part) int { return wholeRunes(text) }

// charPattern matches one character, line ends among them.
const charPattern = `[\s\S]`

// WriteJSON writes a WordLevel model whose words are single characters.
func (t *Char) WriteJSON(w io.Writer) error {
	return writeJSON(w, file{
		AddedTokens: []addedToken{
			{ID: charUnknown, Content: UnknownToken, Special: true},
			{ID: charSeparator, Content: EndOfText, Special: true},
		},
		PreTokenizer: map[string]any{
			"type": "Split", "pattern": map[string]any{"Regex": charPattern}, "behavior": "Isolated", "invert": false,
		},
		Decoder: map[string]any{"type": "Fuse"},
		Model:   wordLevelModel{Type: "WordLevel", Vocab: orderedVocab{t.Vocab(), t.Token}, UnkToken: UnknownToken},
	})
}

// parseChar makes a Char tokenizer from a vocabulary in WriteJSON's format.
func parseChar(vocabulary []string) (Tokenizer, error) {
	if len(vocabulary) < 2 || vocabulary[charUnknown] != UnknownToken || vocabulary[charSeparator] != EndOfText {
		return nil, fmt.Errorf("vocab: a vocabulary of characters starts with %s and %s", UnknownToken, EndOfText)
	}
	var chars []rune
	for _, token := range vocabulary[2:] {
		c, n := utf8.DecodeRuneInString(token)
		if n != len(token) || n == 0 {
			return nil, fmt.Errorf("vocab: %q is not one character", token)
		}
		chars = append(chars, c)
	}
	return newChar(chars)
}

// splitsChars reports whether a pre_tokenizer cuts text into characters.
func splitsChars(part json.RawMessage) bool {
	var split struct {
		Type    string `json:"type"`
		Pattern struct {
			Regex string `json:"Regex"`
		} `json:"pattern"`
	}
	return json.Unmarshal(part, &split) == nil && split.Type == "Split" && split.Pattern.Regex == charPattern
}

var charKind = Kind{
	Name: "char", About: "each character is a token", MinVocab: 3, Flags: []string{"vocab-size", "min-count"},
	NewTrainer: func(opts TrainOptions) (Trainer, error) { return &charTrainer{opts: opts}, nil },
}

// charTrainer makes a tokenizer of the characters that occur often enough in
// the text, or of the most frequent ones if there are more characters than ids.
type charTrainer struct {
	opts     TrainOptions
	counters []*charCounter
}

func (t *charTrainer) NewCounter() Counter {
	c := &charCounter{make([]int64, unicode.MaxRune+1)}
	t.counters = append(t.counters, c)
	return c
}

// Cut may be after any character.
func (t *charTrainer) Cut(text []byte, _ Part) int { return wholeRunes(text) }

type charCounter struct{ counts []int64 }

func (c *charCounter) Add(text []byte, _ int64, _ Part) {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		c.counts[r]++
		i += n
	}
}

func (t *charTrainer) Train() (Tokenizer, error) {
	size := t.opts.Size
	if size != 0 && size < charKind.MinVocab {
		return nil, errors.New("a vocabulary of characters needs at least 3 ids: <unk>, <|endoftext|> and a character")
	}
	counts := make([]int64, unicode.MaxRune+1)
	for _, c := range t.counters {
		for r, n := range c.counts {
			counts[r] += n
		}
	}
	var chars []rune
	for r, n := range counts {
		if n > 0 && n >= int64(t.opts.MinCount) {
			chars = append(chars, rune(r))
		}
	}
	if size > 0 && len(chars) > size-2 {
		slices.SortStableFunc(chars, func(a, b rune) int { return int(counts[b] - counts[a]) })
		chars = chars[:size-2]
		slices.Sort(chars)
	}
	return newChar(chars)
}
