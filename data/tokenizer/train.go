package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// wordsTrainer counts the pieces into which normalizers and pre-tokenizers cut a
// training text. The trainers of BPE, WordPiece and Unigram learn from these counts.
type wordsTrainer struct {
	opts     TrainOptions
	steps    *Pipeline // its model counts
	encoder  Encoder   // finds cuts
	counters []*pieceCounter
}

// newWordsTrainer makes a trainer from the normalizer and pre-tokenizer of a
// tokenizer.json.
func newWordsTrainer(opts TrainOptions, f file) (wordsTrainer, error) {
	normalizer, errN := json.Marshal(f.Normalizer)
	splits, errS := json.Marshal(f.PreTokenizer)
	if errN != nil || errS != nil {
		return wordsTrainer{}, fmt.Errorf("%v, %v", errN, errS)
	}
	t := &Pipeline{vocabulary: &vocabulary{}, model: countingModel{}}
	var err error
	if t.normalizers, err = parseNormalizer(normalizer); err != nil {
		return wordsTrainer{}, err
	}
	if t.splits, err = parsePreTokenizer(splits); err != nil {
		return wordsTrainer{}, err
	}
	t.plan()
	return wordsTrainer{opts: opts, steps: t, encoder: t.NewEncoder()}, nil
}

func (t *wordsTrainer) NewCounter() Counter {
	c := &pieceCounter{pieces: newTable(1 << 12), whole: t.opts.Documents, steps: t.steps.NewEncoder().(*pipelineEncoder)}
	c.steps.model = c
	t.counters = append(t.counters, c)
	return c
}

// Cut returns a place after a line, if lines are counted, or one within a line where a
// piece ends whatever follows.
func (t *wordsTrainer) Cut(text []byte, part Part) int {
	if n := bytes.LastIndexByte(text, '\n') + 1; n > 0 && !t.opts.Documents {
		return n
	}
	return t.encoder.Cut(text, part)
}

// words returns the counts of all counters. The order of the pieces depends on how
// the text was divided among the counters.
func (t *wordsTrainer) words() (*pieceCounter, error) {
	if len(t.counters) == 0 {
		t.NewCounter()
	}
	for _, c := range t.counters {
		if c.err != nil {
			return nil, c.err
		}
	}
	all := t.counters[0]
	for _, c := range t.counters[1:] {
		for id, n := range c.counts {
			piece := c.pieces.bytes(uint32(id))
			all.addIn(piece, 0, len(piece), n)
		}
	}
	return all, nil
}

// countedWord is a piece and its number of occurrences.
type countedWord struct {
	text  []byte
	count int64
}

// sortedWords returns the counted pieces in the order of their bytes.
func (t *wordsTrainer) sortedWords() ([]countedWord, error) {
	all, err := t.words()
	if err != nil {
		return nil, err
	}
	words := make([]countedWord, len(all.counts))
	for id, n := range all.counts {
		words[id] = countedWord{all.pieces.bytes(uint32(id)), n}
	}
	slices.SortFunc(words, func(a, b countedWord) int { return bytes.Compare(a.text, b.text) })
	return words, nil
}

// pieceCounter counts the pieces of a training text for one goroutine.
type pieceCounter struct {
	steps  *pipelineEncoder
	whole  bool // documents are read whole
	pieces *table
	counts []int64
	err    error
}

// Add counts the pieces of a text. Unless documents are read whole, no piece spans two
// lines: Hugging Face's trainers read files by lines, and the result must be the same.
func (c *pieceCounter) Add(text []byte, _ int64, part Part) {
	if c.whole {
		c.count(text, part)
		return
	}
	for len(text) > 0 {
		line := text
		if end := bytes.IndexByte(text, '\n'); end >= 0 {
			line = text[:end+1]
		}
		text = text[len(line):]
		c.count(line, Document)
	}
}

func (c *pieceCounter) count(text []byte, part Part) {
	if _, err := c.steps.Encode(nil, text, part); err != nil && c.err == nil {
		c.err = err
	}
}

// append makes the counter the model of its steps.
func (c *pieceCounter) append(dst []uint32, text []byte, start, end int) ([]uint32, error) {
	c.addIn(text, start, end, 1)
	return dst, nil
}

func (c *pieceCounter) addIn(text []byte, start, end int, n int64) {
	id, fresh := c.pieces.addIn(text, start, end)
	if fresh {
		c.counts = append(c.counts, 0)
	}
	c.counts[id] += n
}

// countingModel is the model of a trainer's pipeline, whose encoders count.
type countingModel struct{}

func (countingModel) joins(_, _ rune) bool     { return true }
func (countingModel) seamFrom() int            { return math.MaxInt }
func (countingModel) newEncoder() modelEncoder { return nil }

// specialTokens returns the added tokens with the first ids.
func specialTokens(lists ...[]string) (tokens []addedToken) {
	for _, token := range slices.Concat(lists...) {
		if !slices.ContainsFunc(tokens, func(a addedToken) bool { return a.Content == token }) {
			tokens = append(tokens, addedToken{ID: uint32(len(tokens)), Content: token, Special: true})
		}
	}
	return tokens
}

// parseTrained writes a trained tokenizer as tokenizer.json and reads it.
func parseTrained(f file) (Tokenizer, error) {
	var content bytes.Buffer
	if err := writeJSON(&content, f); err != nil {
		return nil, err
	}
	return Parse(content.Bytes())
}
