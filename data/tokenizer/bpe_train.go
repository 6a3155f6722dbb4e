package tokenizer

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"strings"
)

var bpeKind = Kind{
	Name: "bpe", About: "byte-level byte-pair encoding, as GPT-2 has it (default 8192 ids)",
	MinVocab: 257, Flags: []string{"vocab-size", "min-count", "split", "special-token", "train-by"}, // <|endoftext|> and 256 bytes
	NewTrainer: func(opts TrainOptions) (Trainer, error) {
		if opts.Size == 0 {
			opts.Size = 8192
		}
		if opts.MinCount == 0 {
			opts.MinCount = 2
		}
		pattern := splitPattern(cmp.Or(opts.Split, "gpt2"))
		words, err := newWordsTrainer(opts, file{PreTokenizer: newSplit(pattern)})
		return &bpeTrainer{words, pattern}, err
	},
}

// bpeTrainer learns the same merges as Hugging Face's BpeTrainer from the same text,
// with <|endoftext|> as the first special token and the byte alphabet. MinCount is its
// min_frequency, the count below which a pair is not merged.
type bpeTrainer struct {
	wordsTrainer
	pattern string
}

func (t *bpeTrainer) Train() (Tokenizer, error) {
	special := specialTokens([]string{EndOfText}, t.opts.Special)
	if need := 256 + len(special); t.opts.Size < need {
		return nil, fmt.Errorf("a vocabulary of %d has no room for the 256 bytes and %s: want at least %d", t.opts.Size, EndOfText, need)
	}
	words, err := t.words()
	if err != nil {
		return nil, err
	}
	m := newMergeLearner(special, "")
	m.addBytes(words)
	m.learn(t.opts)
	var split any = newByteLevel(true)
	if t.pattern != gpt2Pattern {
		split = map[string]any{"type": "Sequence", "pretokenizers": []any{newSplit(t.pattern), newByteLevel(false)}}
	}
	return parseTrained(file{
		AddedTokens:   special,
		PreTokenizer:  split,
		PostProcessor: newByteLevel(true),
		Decoder:       newByteLevel(true),
		Model:         bpeModel{Type: "BPE", Vocab: orderedTokens(m.vocabulary), Merges: m.merges},
	})
}

// mergeLearner learns merges from counted words. A word is a run of symbols in one
// large slice. It shrinks in place as symbols are merged.
type mergeLearner struct {
	vocabulary []string
	ids        map[string]uint32
	merges     [][2]string
	prefix     string // starts the tokens that continue a word; a merge drops it (WordPiece)

	symbols []uint32
	starts  []uint32 // start of each word in symbols
	lengths []uint32
	counts  []int64

	pairs     *pairTable // pair -> index into the slices below
	pairCount []int64
	fresh     [][]uint32    // by pair: words in which the current merge made it
	came      []queuedMerge // pairs with fresh words that are not queued yet
	queue     mergeQueue
}

func newMergeLearner(special []addedToken, prefix string) *mergeLearner {
	// A text may give no merge; the file's list is then empty, not null.
	t := &mergeLearner{ids: map[string]uint32{}, prefix: prefix, pairs: newPairTable(1 << 12), merges: [][2]string{}}
	for _, token := range special {
		t.id(token.Content)
	}
	return t
}

// addBytes adds words whose symbols are their bytes.
func (t *mergeLearner) addBytes(words *pieceCounter) {
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
	for id, n := range words.counts {
		for _, b := range words.pieces.bytes(uint32(id)) {
			t.symbols = append(t.symbols, byID[b])
		}
		t.endWord(n)
	}
}

// endWord makes the symbols since the last word a word.
func (t *mergeLearner) endWord(count int64) {
	start := uint32(0)
	if last := len(t.starts) - 1; last >= 0 {
		start = t.starts[last] + t.lengths[last]
	}
	t.starts = append(t.starts, start)
	t.lengths = append(t.lengths, uint32(len(t.symbols))-start)
	t.counts = append(t.counts, count)
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
		to := t.id(left + strings.TrimPrefix(right, t.prefix))
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
