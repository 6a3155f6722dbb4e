package tokenizer

import (
	"errors"
	"fmt"
)

// BPE is byte-level byte-pair encoding, as GPT-2 has it: text is cut into
// pieces, each starts as its bytes, and the pair of neighbours that was
// learned first is merged until no pair is left that was learned.
type BPE struct {
	written  []string          // every token as tokenizer.json spells it, by id
	byID     map[string]uint32 // the ids of written
	bytes    [256]uint32       // the id of each byte
	merges   []merge           // by rank
	ranks    *pairTable        // pair -> rank
	splitter splitter
	whole    bool // a piece that is a token needs no merging (ignore_merges)

	model     int             // ids below it are in the model's vocabulary
	added     []addedToken    // special tokens, and tokens beside the model
	literal   map[uint32]bool // ids of added: their text is what is written
	matcher   *matcher        // finds those of added that are tokens in text; nil if none are
	separator int64           // the id of <|endoftext|>, or -1
	parts     parts
}

// merge is one learned merge.
type merge struct {
	pair
	to uint32
}

// parts are the parts of tokenizer.json that are written as they were read.
type parts struct{ preTokenizer, postProcessor, decoder any }

// newBPE checks and joins a vocabulary, spelled as tokenizer.json has it, and
// its merges in the order of their ranks. special are ids of the vocabulary
// that no bytes make.
func newBPE(vocabulary []string, merges [][2]string, special map[uint32]bool) (*BPE, error) {
	t := &BPE{
		written: vocabulary, byID: make(map[string]uint32, len(vocabulary)),
		ranks: newPairTable(len(merges)), splitter: newGPT2Splitter(),
		model: len(vocabulary), literal: map[uint32]bool{}, separator: -1,
	}
	var single [256]bool
	for i, token := range vocabulary {
		id := uint32(i)
		if _, twice := t.byID[token]; twice {
			return nil, fmt.Errorf("vocab: %q is there twice", token)
		}
		t.byID[token] = id
		if special[id] {
			continue
		}
		text, ok := unspell(token)
		if !ok {
			return nil, fmt.Errorf("vocab: %q is not spelled in the byte-level alphabet", token)
		}
		if len(text) == 1 {
			t.bytes[text[0]], single[text[0]] = id, true
		}
	}
	for b := range 256 {
		if !single[b] && inUTF8(byte(b)) {
			return nil, fmt.Errorf("vocab: the byte 0x%02x (%q) is missing: not a byte-level vocabulary", b, byteChars[b])
		}
	}
	for rank, m := range merges {
		left, okLeft := t.byID[m[0]]
		right, okRight := t.byID[m[1]]
		to, ok := t.byID[m[0]+m[1]]
		if !okLeft || !okRight || !ok {
			return nil, fmt.Errorf("merges: merge %d (%q, %q) has a part or a result that is not in the vocabulary", rank, m[0], m[1])
		}
		p := pair{left, right}
		t.merges = append(t.merges, merge{p, to})
		t.ranks.put(p, uint32(rank)) // the last of two alike counts, as elsewhere
	}
	return t, nil
}

// inUTF8 tells whether a byte can be part of UTF-8.
func inUTF8(b byte) bool { return b != 0xc0 && b != 0xc1 && b < 0xf5 }

func (t *BPE) Kind() string            { return "bpe" }
func (t *BPE) Unknown() (uint32, bool) { return 0, false }

// Vocab counts the tokens beside the model too.
func (t *BPE) Vocab() int { return len(t.written) }

func (t *BPE) Token(id uint32) string {
	if int(id) >= len(t.written) {
		return ""
	}
	return t.written[id]
}

func (t *BPE) ID(token string) (uint32, bool) {
	id, ok := t.byID[token]
	return id, ok
}

func (t *BPE) Separator() (uint32, bool) { return uint32(max(0, t.separator)), t.separator >= 0 }

// AppendText writes the bytes of a token, and special tokens as they are.
func (t *BPE) AppendText(dst []byte, _ int64, id uint32) []byte {
	token := t.Token(id)
	if t.literal[id] {
		return append(dst, token...)
	}
	for _, c := range token {
		dst = append(dst, byte(charBytes[c]))
	}
	return dst
}

// addTokens adds the tokens of added_tokens; those that the model does not
// have follow it.
func (t *BPE) addTokens(added []addedToken) error {
	for _, a := range added {
		if a.Content == "" {
			return fmt.Errorf("added_tokens: token %d is empty", a.ID)
		}
		if id, ok := t.byID[a.Content]; ok {
			if id != a.ID {
				return fmt.Errorf("added_tokens: %q has the id %d, but %d in the vocabulary", a.Content, a.ID, id)
			}
		} else {
			if int(a.ID) != len(t.written) {
				return fmt.Errorf("added_tokens: %q has the id %d, want %d, the next one", a.Content, a.ID, len(t.written))
			}
			t.byID[a.Content] = a.ID
			t.written = append(t.written, a.Content)
		}
		if a.Content == EndOfText {
			t.separator = int64(a.ID)
		}
		t.added = append(t.added, a)
		t.literal[a.ID] = true
	}
	return t.matchAdded(false)
}

// matchAdded decides which added tokens are found in text: those that are not
// special always, as other tools have it, and special ones if asked.
func (t *BPE) matchAdded(special bool) error {
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

// errNoSpecial is what tokenizers without special tokens answer.
var errNoSpecial = errors.New("this tokenizer has no special tokens to find in text")

// SpecialInText makes special tokens that are written out in text those tokens.
func SpecialInText(t Tokenizer) error {
	if b, ok := t.(*BPE); ok {
		return b.matchAdded(true)
	}
	return errNoSpecial
}
