package tokenizer

import "fmt"

// vocabulary holds the tokens of a model and those that were added to it.
type vocabulary struct {
	written   []string          // every token as tokenizer.json spells it, by id; "" is a gap
	byID      map[string]uint32 // the ids of written
	modelSize int               // how many entries the model has
	modelIDs  int               // ids below it may be the model's
	added     []addedToken      // special tokens, and tokens beside the model
	literal   map[uint32]bool   // ids of added: their text is what is written
	separator int64             // the id that stands between documents, or -1
}

// maxVocabulary is more ids than any tokenizer has; a file that names a larger one
// would take memory for nothing.
const maxVocabulary = 1 << 22

// separators are the tokens that stand between documents, the first of them
// that a tokenizer has.
var separators = []string{
	EndOfText, "<|end_of_text|>", "</s>", "[SEP]", "<eos>", "<|im_end|>", "<｜end▁of▁sentence｜>", "<|eot_id|>", "<|bos|>",
}

// newVocabulary joins the entries of a model. Of two entries with one name, which
// only Unigram files have, the last has it.
func newVocabulary(entries []vocabEntry) (vocabulary, error) {
	t := vocabulary{byID: make(map[string]uint32, len(entries)), literal: map[uint32]bool{}, separator: -1}
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
	return t, nil
}

// set names an id, beyond the others if need be.
func (t *vocabulary) set(id uint32, token string) {
	for int(id) >= len(t.written) {
		t.written = append(t.written, "")
	}
	if t.written[id] == "" {
		t.written[id] = token
	}
	t.byID[token] = id
}

// Vocab counts all ids up to the largest, with those of added tokens and gaps.
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
