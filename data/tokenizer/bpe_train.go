package tokenizer

import (
	"bytes"
	"container/heap"
	"fmt"
	"slices"
	"unicode/utf8"
)

var bpeKind = Kind{
	Name: "bpe", About: "byte-level byte-pair encoding, as GPT-2 has it (default 8192 ids)",
	MinVocab: 257, Flags: []string{"vocab-size", "min-count", "split"}, // <|endoftext|> and 256 bytes
	NewTrainer: func(opts TrainOptions) (Trainer, error) {
		if opts.Size == 0 {
			opts.Size = 8192
		}
		if opts.MinCount == 0 {
			opts.MinCount = 2
		}
		if opts.Split == "" {
			opts.Split = "gpt2"
		}
		pattern := splitPattern(opts.Split)
		s, err := splitRegex(pattern, isolated, false)
		return &bpeTrainer{opts: opts, pattern: pattern, split: s}, err
	},
}

// bpeTrainer learns the same merges as Hugging Face's BpeTrainer from files of the
// same text, with the special token <|endoftext|> and the byte alphabet.
type bpeTrainer struct {
	opts     TrainOptions // MinCount: pairs seen less often are not merged
	pattern  string
	split    *split
	counters []*pieceCounter
}

func (t *bpeTrainer) NewCounter() Counter {
	c := &pieceCounter{split: t.split.newState(), pieces: newTable(1 << 12)}
	t.counters = append(t.counters, c)
	return c
}

// Cut returns a place after a line, or one within a line where a piece ends
// whatever follows.
func (t *bpeTrainer) Cut(text []byte) int {
	if n := bytes.LastIndexByte(text, '\n') + 1; n > 0 {
		return n
	}
	text = text[:wholeRunes(text)]
	for i := len(text) - 1; i > 0; i-- {
		if utf8.RuneStart(text[i]) && t.split.cuts(text[max(0, i-utf8.UTFMax):i], text[i:]) {
			return i
		}
	}
	return 0
}

// pieceCounter counts the pieces of a training text for one goroutine.
type pieceCounter struct {
	split   preState
	in, out pieces
	pieces  *table
	counts  []int64
	err     error
}

// Add counts pieces. Here no piece spans two lines, although pieces do when text
// is encoded: Hugging Face's trainer reads files by lines, and the merges must be
// the same.
func (c *pieceCounter) Add(text []byte, _ int64) {
	for len(text) > 0 {
		line := text
		if end := bytes.IndexByte(text, '\n'); end >= 0 {
			line = text[:end+1]
		}
		text = text[len(line):]
		c.in.text, c.in.spans = line, append(c.in.spans[:0], span{0, len(line)})
		if err := c.split.apply(&c.in, &c.out, false, false); err != nil {
			c.err = err
			return
		}
		for _, p := range c.out.spans {
			c.addIn(line, p.start, p.end, 1)
		}
	}
}

func (c *pieceCounter) addIn(text []byte, start, end int, n int64) {
	id, fresh := c.pieces.addIn(text, start, end)
	if fresh {
		c.counts = append(c.counts, 0)
	}
	c.counts[id] += n
}

func (t *bpeTrainer) Train() (Tokenizer, error) {
	if t.opts.Size < bpeKind.MinVocab {
		return nil, fmt.Errorf("a vocabulary of %d has no room for the 256 bytes and %s: want at least 257", t.opts.Size, EndOfText)
	}
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
	m := newMergeLearner(all)
	m.learn(t.opts)
	var split any = newByteLevel(true)
	if t.pattern != gpt2Pattern {
		split = map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Split", "pattern": map[string]any{"Regex": t.pattern}, "behavior": "Isolated", "invert": false}, newByteLevel(false),
		}}
	}
	var content bytes.Buffer
	if err := writeJSON(&content, file{
		AddedTokens:   []addedToken{{ID: 0, Content: EndOfText, Special: true}},
		PreTokenizer:  split,
		PostProcessor: newByteLevel(true),
		Decoder:       newByteLevel(true),
		Model: bpeModel{
			Type:   "BPE",
			Vocab:  orderedVocab{len(m.vocabulary), func(id uint32) string { return m.vocabulary[id] }},
			Merges: m.merges,
		},
	}); err != nil {
		return nil, err
	}
	return Parse(content.Bytes())
}

// mergeLearner learns merges from counted words. A word is a run of symbols in one
// large slice. It shrinks in place as symbols are merged.
type mergeLearner struct {
	vocabulary []string
	ids        map[string]uint32
	merges     [][2]string

	symbols []uint32
	starts  []uint32 // start of each word in symbols, and the end of the last
	lengths []uint32
	counts  []int64

	pairs     *pairTable // pair -> index into the slices below
	pairCount []int64
	fresh     [][]uint32    // by pair: words in which the current merge made it
	came      []queuedMerge // pairs with fresh words that are not queued yet
	queue     mergeQueue
}

func newMergeLearner(words *pieceCounter) *mergeLearner {
	t := &mergeLearner{
		vocabulary: []string{EndOfText}, ids: map[string]uint32{EndOfText: 0},
		counts: words.counts, pairs: newPairTable(1 << 12),
	}
	alphabet := byteChars
	slices.Sort(alphabet[:])
	for _, c := range alphabet {
		t.id(string(c))
	}
	var byID [256]uint32
	for b, c := range byteChars {
		byID[b] = t.ids[string(c)]
	}
	t.symbols = make([]uint32, 0, len(words.pieces.arena))
	for id := range words.counts {
		t.starts = append(t.starts, uint32(len(t.symbols)))
		for _, b := range words.pieces.bytes(uint32(id)) {
			t.symbols = append(t.symbols, byID[b])
		}
		t.lengths = append(t.lengths, uint32(len(t.symbols))-t.starts[id])
	}
	return t
}

// id returns the id of a token, and adds the token if it is new.
func (t *mergeLearner) id(token string) uint32 {
	id, ok := t.ids[token]
	if !ok {
		id = uint32(len(t.vocabulary))
		t.ids[token] = id
		t.vocabulary = append(t.vocabulary, token)
	}
	return id
}

func (t *mergeLearner) word(i uint32) []uint32 {
	return t.symbols[t.starts[i] : t.starts[i]+t.lengths[i]]
}

func (t *mergeLearner) learn(opts TrainOptions) {
	for i := range t.counts {
		word := t.word(uint32(i))
		for j := 1; j < len(word); j++ {
			t.change(pair{word[j-1], word[j]}, t.counts[i], uint32(i), true)
		}
	}
	t.enqueue()
	for len(t.vocabulary) < opts.Size && len(t.queue) > 0 {
		best := &t.queue[0]
		// A pair whose count has fallen since it was queued is queued again with
		// its current count.
		if now := t.pairCount[best.index]; best.count != now {
			best.count = now
			heap.Fix(&t.queue, 0)
			continue
		}
		if best.count < 1 || best.count < int64(opts.MinCount) {
			break
		}
		m := heap.Pop(&t.queue).(queuedMerge)
		left, right := t.vocabulary[m.pair.left], t.vocabulary[m.pair.right]
		to := t.id(left + right)
		t.merges = append(t.merges, [2]string{left, right})
		for _, word := range m.words {
			t.merge(word, m.pair, to)
		}
		t.enqueue()
	}
}

// change counts a pair that appeared in or disappeared from a word.
func (t *mergeLearner) change(p pair, n int64, word uint32, came bool) {
	index, ok := t.pairs.get(p)
	if !ok {
		index = uint32(len(t.pairCount))
		t.pairs.put(p, index)
		t.pairCount = append(t.pairCount, 0)
		t.fresh = append(t.fresh, nil)
	}
	t.pairCount[index] += n
	if !came {
		return
	}
	words := t.fresh[index]
	if len(words) == 0 {
		t.came = append(t.came, queuedMerge{pair: p, index: index})
	} else if words[len(words)-1] == word {
		return
	}
	t.fresh[index] = append(words, word)
}

// enqueue queues the pairs that appeared in words since the last call.
func (t *mergeLearner) enqueue() {
	for _, m := range t.came {
		m.count, m.words = t.pairCount[m.index], t.fresh[m.index]
		t.fresh[m.index] = nil
		if m.count > 0 {
			heap.Push(&t.queue, m)
		}
	}
	t.came = t.came[:0]
}

// merge merges a pair everywhere in a word, from left to right.
func (t *mergeLearner) merge(i uint32, p pair, to uint32) {
	word, n := t.word(i), t.counts[i]
	kept := 0
	for j := 0; j < len(word); j++ {
		if word[j] != p.left || j+1 == len(word) || word[j+1] != p.right {
			word[kept] = word[j]
			kept++
			continue
		}
		if kept > 0 {
			before := word[kept-1]
			t.change(pair{before, p.left}, -n, i, false)
			t.change(pair{before, to}, n, i, true)
		}
		if j+2 < len(word) {
			after := word[j+2]
			t.change(pair{p.right, after}, -n, i, false)
			t.change(pair{to, after}, n, i, true)
		}
		word[kept] = to
		kept++
		j++
	}
	t.lengths[i] = uint32(kept)
}

// queuedMerge is a candidate pair with the words that contained it when it was
// queued. A pair that appears again is queued again.
type queuedMerge struct {
	pair  pair
	index uint32
	count int64
	words []uint32
}

// mergeQueue is a heap: the most frequent pair first, then the lowest ids.
type mergeQueue []queuedMerge

func (q mergeQueue) Len() int      { return len(q) }
func (q mergeQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q mergeQueue) Less(i, j int) bool {
	if q[i].count != q[j].count {
		return q[i].count > q[j].count
	}
	return q[i].pair.key() < q[j].pair.key()
}
func (q *mergeQueue) Push(x any) { *q = append(*q, x.(queuedMerge)) }
func (q *mergeQueue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}
