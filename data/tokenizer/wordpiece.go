package tokenizer

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// WordPiece is the tokenizer of BERT: text is cleaned and cut at white space
// and punctuation, and each word into the longest tokens that it starts with.
type WordPiece struct {
	tokens
	normalizer  bertNormalizer
	punctuation bool   // words end at punctuation too, which is a word each character
	prefix      string // of tokens that go on with a word
	longest     int    // characters of a word; longer ones are unknown
	unknown     uint32

	starts, continues *table // the bytes of tokens -> index of the ids below
	startIDs, contIDs []uint32
	longestToken      int
	content           []byte // the file
}

func parseWordPiece(raw rawFile, content []byte) (Tokenizer, error) {
	model := struct {
		UnkToken string `json:"unk_token"`
		Prefix   string `json:"continuing_subword_prefix"`
		Longest  int    `json:"max_input_chars_per_word"`
		Vocab    vocab  `json:"vocab"`
	}{UnkToken: "[UNK]", Prefix: "##", Longest: 100}
	if err := readPart("model", raw.Model, &model); err != nil {
		return nil, err
	}
	t := &WordPiece{
		tokens: newTokens(model.Vocab), prefix: model.Prefix, longest: model.Longest, content: bytes.Clone(content),
		starts: newTable(len(model.Vocab)), continues: newTable(len(model.Vocab)),
	}
	var err error
	var ok bool
	if t.unknown, ok = t.ID(model.UnkToken); !ok {
		return nil, fmt.Errorf("model: unk_token %q is not in the vocabulary", model.UnkToken)
	}
	if t.normalizer, err = parseBertNormalizer(raw.Normalizer); err != nil {
		return nil, err
	}
	switch kind := typeOf(raw.PreTokenizer); kind {
	case "BertPreTokenizer":
		t.punctuation = true
	case "WhitespaceSplit":
	default:
		return nil, fmt.Errorf("WordPiece with pre_tokenizer %q is not supported, only with BertPreTokenizer or WhitespaceSplit", kind)
	}
	if t.prefix == "" {
		return nil, fmt.Errorf("model: WordPiece without continuing_subword_prefix is not supported")
	}
	for id, token := range model.Vocab {
		t.starts.add([]byte(token))
		t.startIDs = append(t.startIDs, uint32(id))
		if rest, ok := strings.CutPrefix(token, t.prefix); ok && rest != "" {
			if _, fresh := t.continues.add([]byte(rest)); fresh {
				t.contIDs = append(t.contIDs, uint32(id))
			}
		}
		t.longestToken = max(t.longestToken, len(token))
	}
	if err := t.addTokens(raw.AddedTokens); err != nil {
		return nil, err
	}
	return t, checkNormalized(t.added, t.normalizer.none())
}

// checkNormalized refuses added tokens that are sought in normalized text.
func checkNormalized(added []addedToken, none bool) error {
	for _, a := range added {
		if a.Normalized && !a.Special && !none {
			return fmt.Errorf("added_tokens: %q is sought in normalized text, which is not supported", a.Content)
		}
	}
	return nil
}

func (t *WordPiece) Kind() string            { return "wordpiece" }
func (t *WordPiece) Unknown() (uint32, bool) { return t.unknown, true }

// AppendText writes a space before each token that starts a word.
func (t *WordPiece) AppendText(dst []byte, prev int64, id uint32) []byte {
	token := t.Token(id)
	if rest, ok := strings.CutPrefix(token, t.prefix); ok && prev >= 0 {
		return append(dst, rest...)
	}
	if prev >= 0 {
		dst = append(dst, ' ')
	}
	return append(dst, token...)
}

// WriteJSON writes the file as it was read.
func (t *WordPiece) WriteJSON(w io.Writer) error {
	_, err := w.Write(t.content)
	return err
}

type wordPieceEncoder struct {
	t              *WordPiece
	cache          *pieceCache
	clean, scratch []byte
}

func (t *WordPiece) NewEncoder() Encoder {
	e := &wordPieceEncoder{t: t}
	e.cache = newPieceCache(e.word)
	return e
}

// Cut is before white space, at which words end in any case.
func (e *wordPieceEncoder) Cut(text []byte) int {
	return e.t.cutAround(text, func(text []byte) int { return max(0, bytes.LastIndexAny(text, " \n")) })
}

func (e *wordPieceEncoder) Encode(dst []uint32, text []byte) ([]uint32, error) {
	return e.t.encodeAround(dst, text, e.encode), nil
}

// encode encodes text without added tokens in it.
func (e *wordPieceEncoder) encode(dst []uint32, text []byte) []uint32 {
	e.clean = e.t.normalizer.append(e.clean[:0], text, &e.scratch)
	start := 0
	for i := 0; i < len(e.clean); {
		r, size := rune(e.clean[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(e.clean[i:])
		}
		space := unicode.IsSpace(r)
		if space || e.t.punctuation && oldPunctuation(r) {
			if start < i {
				dst = e.cache.append(dst, e.clean, start, i)
			}
			if !space {
				dst = e.cache.append(dst, e.clean, i, i+size)
			}
			start = i + size
		}
		i += size
	}
	if start < len(e.clean) {
		dst = e.cache.append(dst, e.clean, start, len(e.clean))
	}
	return dst
}

// word appends the ids of a word: always the longest token that fits, and the
// unknown token alone if there is a place where none does.
func (e *wordPieceEncoder) word(dst []uint32, word []byte) []uint32 {
	t, from := e.t, len(dst)
	if utf8.RuneCount(word) > t.longest {
		return append(dst, t.unknown)
	}
	known, ids := t.starts, t.startIDs
	for start := 0; start < len(word); known, ids = t.continues, t.contIDs {
		end := min(len(word), start+t.longestToken)
		for ; end > start; end-- {
			if at, ok := known.find(word[start:end]); ok {
				dst = append(dst, ids[at])
				break
			}
		}
		if end == start {
			return append(dst[:from], t.unknown)
		}
		start = end
	}
	return dst
}
