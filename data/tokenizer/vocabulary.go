package tokenizer

import "fmt"

// vocabulary holds the tokens of a model and the added tokens.
type vocabulary struct {
	written   []string          // every token as tokenizer.json spells it, by id; "" is a gap
	byID      map[string]uint32 // the ids of written
	modelSize int               // number of the model's entries
	modelIDs  int               // upper bound of the model's ids
	unique    bool              // no two of the model's entries have one spelling
	added     []addedToken      // special tokens and other added tokens
	beyond    map[string]uint32 // the ids of those that the model does not have
	literal   map[uint32]bool   // ids of added tokens, whose text is their spelling
	separator int64             // the id between documents, or -1
}

// maxVocabulary is more ids than any tokenizer has; a file with a larger id would
// waste memory.
const maxVocabulary = 1 << idBits

// separators are possible tokens between documents. A tokenizer uses the first one
// that it has.
var separators = []string{
	EndOfText, "<|end_of_text|>", "</s>", "[SEP]", "<eos>", "<|im_end|>", "<｜end▁of▁sentence｜>", "<|eot_id|>", "<|bos|>", rwkvEnd,
}

// newVocabulary makes a vocabulary from a model's entries. If two entries have one
// spelling, as in some Unigram files, look-ups return the last one.
func newVocabulary(entries []vocabEntry) (vocabulary, error) {
	t := vocabulary{byID: make(map[string]uint32, len(entries)), literal: map[uint32]bool{}, beyond: map[string]uint32{}, separator: -1}
	largest := -1
	for _, e := range entries {
		largest = max(largest, int(e.id))
	}
	if largest >= maxVocabulary {
		return t, fmt.Errorf("vocab: there is an id of %d, want less than %d", largest, maxVocabulary)
	}
	t.written = make([]string, largest+1)
	for _, e := range entries {
		t.written[e.id] = e.token
		t.byID[e.token] = e.id
	}
	t.modelIDs = len(t.written)
	t.modelSize = len(t.byID)
	t.unique = t.modelSize == len(entries)
	return t, nil
}

// set sets the token of an id, and extends the vocabulary if needed.
func (t *vocabulary) set(id uint32, token string) {
	for int(id) >= len(t.written) {
		t.written = append(t.written, "")
	}
	if t.written[id] == "" {
		t.written[id] = token
	}
	t.byID[token] = id
}

// Vocab returns the number of ids up to the largest, including added tokens and
// gaps.
func (t *vocabulary) Vocab() int { return len(t.written) }

func (t *vocabulary) Token(id uint32) string {
	if int(id) >= len(t.written) {
		return ""
	}
	return t.written[id]
}

func (t *vocabulary) ID(token string) (uint32, bool) {
	id, ok := t.byID[token]
	return id, ok
}

func (t *vocabulary) Separator() (uint32, bool) {
	return uint32(max(0, t.separator)), t.separator >= 0
}
