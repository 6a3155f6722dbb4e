package tokenizer

import (
	"errors"
	"fmt"
)

// tokens is what the tokenizers of other tools share: a vocabulary, and tokens
// that are added to it or special in it.
type tokens struct {
	written []string          // every token as tokenizer.json spells it, by id
	byID    map[string]uint32 // the ids of written

	model     int             // ids below it are in the model's vocabulary
	added     []addedToken    // special tokens, and tokens beside the model
	literal   map[uint32]bool // ids of added: their text is what is written
	matcher   *matcher        // finds those of added that are tokens in text; nil if none are
	separator int64           // the id that stands between documents, or -1
}

// separators are the tokens that stand between documents, the first of them
// that a tokenizer has.
var separators = []string{EndOfText, "<|end_of_text|>", "</s>", "[SEP]"}

// newTokens joins a vocabulary. Of two tokens that are spelled alike, which
// only Unigram files have, the last has the name.
func newTokens(written []string) tokens {
	t := tokens{
		written: written, byID: make(map[string]uint32, len(written)),
		model: len(written), literal: map[uint32]bool{}, separator: -1,
	}
	for id, token := range written {
		t.byID[token] = uint32(id)
	}
	return t
}

// Vocab counts the tokens beside the model too.
func (t *tokens) Vocab() int { return len(t.written) }

func (t *tokens) Token(id uint32) string {
	if int(id) >= len(t.written) {
		return ""
	}
	return t.written[id]
}

func (t *tokens) ID(token string) (uint32, bool) {
	id, ok := t.byID[token]
	return id, ok
}

func (t *tokens) Separator() (uint32, bool) { return uint32(max(0, t.separator)), t.separator >= 0 }

// addTokens adds the tokens of added_tokens; those that the model does not
// have follow it.
func (t *tokens) addTokens(added []addedToken) error {
	for _, a := range added {
		if a.Content == "" {
			return fmt.Errorf("added_tokens: token %d is empty", a.ID)
		}
		if id, ok := t.byID[a.Content]; ok {
			if id != a.ID {
				return fmt.Errorf("added_tokens: %q has the id %d, but %d in the vocabulary", a.Content, a.ID, id)
			}
		} else {
			if int64(a.ID) != int64(len(t.written)) {
				return fmt.Errorf("added_tokens: %q has the id %d, want %d, the next one", a.Content, a.ID, len(t.written))
			}
			t.byID[a.Content] = a.ID
			t.written = append(t.written, a.Content)
		}
		t.added = append(t.added, a)
		t.literal[a.ID] = true
	}
	for _, name := range separators {
		if id, ok := t.byID[name]; ok && t.literal[id] {
			t.separator = int64(id)
			break
		}
	}
	return t.matchAdded(false)
}

// matchAdded decides which added tokens are found in text: those that are not
// special always, as other tools have it, and special ones if asked.
func (t *tokens) matchAdded(special bool) error {
	var plain, normalized []addedToken
	for _, a := range t.added {
		if a.Special && !special {
			continue
		}
		if a.SingleWord || a.Lstrip || a.Rstrip {
			return fmt.Errorf("added_tokens: %q with single_word, lstrip or rstrip is not supported", a.Content)
		}
		if a.Normalized {
			normalized = append(normalized, a)
		} else {
			plain = append(plain, a)
		}
	}
	t.matcher = newMatcher(plain, normalized)
	return nil
}

// SpecialInText makes special tokens that are written out in text those tokens.
func SpecialInText(t Tokenizer) error {
	if t, ok := t.(interface{ matchAdded(special bool) error }); ok {
		return t.matchAdded(true)
	}
	return errors.New("this tokenizer has no special tokens to find in text")
}

// encodeAround encodes text, with added tokens found in it, by encoding what
// is between them.
func (t *tokens) encodeAround(dst []uint32, text []byte, encode func(dst []uint32, text []byte) []uint32) []uint32 {
	if t.matcher == nil {
		return encode(dst, text)
	}
	t.matcher.split(text,
		func(plain []byte) { dst = encode(dst, plain) },
		func(id uint32) { dst = append(dst, id) })
	return dst
}

// cutAround is Encoder.Cut: it finds cuts with cut until one goes through no
// added token.
func (t *tokens) cutAround(text []byte, cut func([]byte) int) int {
	for {
		n := cut(text)
		if n == 0 || t.matcher == nil || !t.matcher.crosses(text, n) {
			return n
		}
		text = text[:n]
	}
}
