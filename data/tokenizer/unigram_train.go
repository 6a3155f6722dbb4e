package tokenizer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

var unigramKind = Kind{
	Name: "unigram", About: "SentencePiece's probable parts of words (default 8000 ids)",
	MinVocab: 3, Flags: []string{"vocab-size", "special-token", "train-by"}, // <unk>, <|endoftext|> and a character
	NewTrainer: func(opts TrainOptions) (Trainer, error) {
		opts.Size = cmp.Or(opts.Size, 8000)
		words, err := newWordsTrainer(opts, unigramFile(opts))
		return &unigramTrainer{words}, err
	},
}

// unigramFile is the tokenizer.json of a Unigram tokenizer without its model. Line ends
// are pieces of their own; a word has the mark of the space before it.
func unigramFile(opts TrainOptions) file {
	metaspace := map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}
	return file{
		AddedTokens:  specialTokens([]string{UnknownToken, EndOfText}, opts.Special),
		PreTokenizer: map[string]any{"type": "Sequence", "pretokenizers": []any{newSplit("\n+"), metaspace}},
		Decoder:      metaspace,
	}
}

// The constants of the training are SentencePiece's, which Hugging Face shares.
const (
	longestUnigram  = 16        // characters of a token
	unigramSeeds    = 1_000_000 // tokens to start with
	unigramShrink   = 0.75      // of the tokens is kept in each round
	unigramSubSteps = 2         // steps of expectation and maximization in a round
	rareUnigram     = 0.5       // expected occurrences below which a token is dropped
)

// unigramTrainer learns a vocabulary as Hugging Face's UnigramTrainer does (Kudo 2018):
// it starts with the frequent substrings, estimates the probability of each by
// expectation and maximization over all segmentations, and drops those whose loss costs
// the text's likelihood least, until few enough are left. The library sums floating-point
// numbers in an order that differs from run to run; here the order is fixed.
type unigramTrainer struct{ wordsTrainer }

func (t *unigramTrainer) Train() (Tokenizer, error) {
	words, err := t.sortedWords()
	if err != nil {
		return nil, err
	}
	f := unigramFile(t.opts)
	entries, err := learnUnigram(words, t.opts.Size, f.AddedTokens)
	if err != nil {
		return nil, err
	}
	model := unigramModel{Type: "Unigram"}
	for _, special := range f.AddedTokens {
		model.Vocab = append(model.Vocab, unigramEntry{special.Content, 0})
	}
	model.Vocab = append(model.Vocab, entries...)
	f.Model = model
	return parseTrained(f)
}

// unigramModel is the model part of a Unigram tokenizer. Id 0 is the unknown token.
type unigramModel struct {
	Type         string      `json:"type"`
	UnkID        int         `json:"unk_id"`
	Vocab        unigramList `json:"vocab"`
	ByteFallback bool        `json:"byte_fallback"`
}

// MarshalJSON writes the scores with all their digits.
func (e unigramEntry) MarshalJSON() ([]byte, error) {
	score, err := json.Marshal(e.score)
	return slices.Concat([]byte{'['}, quote(e.token), []byte{','}, score, []byte{']'}), err
}

// unigramLearner holds the tokens that are left. Token 0 is unknown text.
type unigramLearner struct {
	words  []countedWord
	tokens []learnedToken
	trie   *pairTable
	ends   []int32 // by node: the token that ends there, or -1
	lowest float64 // the lowest score
	lattice
}

type learnedToken struct {
	text  string
	score float64
	node  uint32
}

// learnUnigram returns the tokens of a vocabulary of size entries that follow its
// special tokens, the best first. All characters of the words are among them.
func learnUnigram(words []countedWord, size int, special []addedToken) ([]unigramEntry, error) {
	l := &unigramLearner{words: words, trie: newPairTable(1 << 12), ends: []int32{-1}}
	chars := l.seed()
	if need := len(special) + len(chars); size < need {
		return nil, fmt.Errorf("a vocabulary of %d has no room for the text's %d characters: want at least %d", size, len(chars), need)
	}
	for desired := size * 11 / 10; ; l.prune(desired) {
		for range unigramSubSteps {
			l.maximize(l.expect())
		}
		if len(l.tokens) <= desired {
			break
		}
	}
	return l.final(chars, size-len(special), special), nil
}

// final returns size of the best tokens, with all characters among them, and without
// those that are spelled as special tokens.
func (l *unigramLearner) final(chars []string, size int, special []addedToken) (entries []unigramEntry) {
	left := make(map[string]float64, len(l.tokens))
	for _, token := range l.tokens[1:] {
		left[token.text] = token.score
	}
	taken := map[string]bool{}
	for _, token := range special {
		taken[token.Content] = true
	}
	missing := 0.0
	for _, c := range chars {
		score, ok := left[c]
		if !ok {
			score = l.lowest + missing
			missing += 0.0001
		}
		taken[c] = true
		entries = append(entries, unigramEntry{c, score})
	}
	for _, token := range l.tokens[1:] {
		if len(entries) == size {
			break
		}
		if !taken[token.text] {
			entries = append(entries, unigramEntry{token.text, token.score})
		}
	}
	slices.SortStableFunc(entries, func(a, b unigramEntry) int { return cmp.Compare(b.score, a.score) })
	return entries
}

// seed takes all characters, and the most frequent substrings by frequency times length.
// It returns the characters.
func (l *unigramLearner) seed() (chars []string) {
	counts := map[rune]int64{}
	for _, w := range l.words {
		for _, r := range string(w.text) {
			counts[r] += w.count
		}
	}
	for _, r := range sortedRunes(counts) {
		chars = append(chars, string(r))
	}
	delete(counts, wordEnd)
	l.tokens = []learnedToken{{text: "<UNK>", score: math.NaN()}}
	sum := 0.0
	take := func(text string, score float64) {
		l.tokens = append(l.tokens, learnedToken{text, score, l.insert(text)})
		sum += score
	}
	type scored struct {
		text  string
		score int64
	}
	order := func(a, b scored) int { return cmp.Or(cmp.Compare(b.score, a.score), strings.Compare(b.text, a.text)) }
	var list []scored
	for r, n := range counts {
		list = append(list, scored{string(r), n})
	}
	slices.SortFunc(list, order)
	for _, s := range list {
		take(s.text, float64(s.score))
	}
	list = list[:0]
	repeated(l.words, func(text []rune, times int) {
		list = append(list, scored{string(text), int64(times * len(text))})
	})
	slices.SortFunc(list, order)
	for _, s := range list {
		if len(l.tokens) > unigramSeeds {
			break
		}
		take(s.text, float64(s.score))
	}
	for i := range l.tokens {
		l.tokens[i].score = math.Log(l.tokens[i].score) - math.Log(sum)
	}
	l.rebuild()
	return chars
}

// wordEnd ends a word in the text of all words. In a word it is in no token but its own.
const wordEnd = 0

// repeated calls f for each substring of 2 to longestUnigram characters that occurs
// several times and is followed by different characters, counting each word once: the
// inner nodes of the suffix tree of all words.
func repeated(words []countedWord, f func(text []rune, times int)) {
	var text []rune
	for _, w := range words {
		text = append(append(text, []rune(string(w.text))...), wordEnd)
	}
	const deep = longestUnigram + 1
	suffixes := make([]uint32, len(text))
	for i := range suffixes {
		suffixes[i] = uint32(i)
	}
	at := func(i uint32) []rune { return text[i:min(len(text), int(i)+deep)] }
	slices.SortFunc(suffixes, func(a, b uint32) int { return slices.Compare(at(a), at(b)) })
	// open are the nodes on the path to the current suffix: their depths, and the first
	// suffix below each.
	type node struct{ depth, first int }
	open := []node{{0, 0}}
	for i := 1; i <= len(suffixes); i++ {
		common := 0
		if i < len(suffixes) {
			a, b := at(suffixes[i-1]), at(suffixes[i])
			for common < len(a) && common < len(b) && a[common] == b[common] {
				common++
			}
		}
		first := i - 1
		for open[len(open)-1].depth > common {
			n := open[len(open)-1]
			open = open[:len(open)-1]
			first = n.first
			if found := text[suffixes[first]:][:n.depth]; n.depth > 1 && n.depth < deep && !slices.Contains(found, wordEnd) {
				f(found, i-first)
			}
		}
		if open[len(open)-1].depth < common {
			open = append(open, node{common, first})
		}
	}
}

// insert returns the node of a text in the trie.
func (l *unigramLearner) insert(text string) uint32 {
	node := uint32(0)
	for i := range len(text) {
		edge := pair{node, uint32(text[i])}
		next, ok := l.trie.get(edge)
		if !ok {
			next = uint32(len(l.ends))
			l.ends = append(l.ends, -1)
			l.trie.put(edge, next)
		}
		node = next
	}
	return node
}

// rebuild follows a change of the tokens.
func (l *unigramLearner) rebuild() {
	for i := range l.ends {
		l.ends[i] = -1
	}
	l.lowest = math.Inf(1)
	for i, token := range l.tokens[1:] {
		l.ends[token.node] = int32(i + 1)
		l.lowest = min(l.lowest, token.score)
	}
}

// lattice is all segmentations of a text: its arcs are tokens.
type lattice struct {
	arcs  []arc // by start, then by length
	size  int
	alpha []float64 // by place: log of the sum over all ways to it
	beta  []float64 // and from it to the end
	best  []int     // by place: the last arc of the best way to it
}

type arc struct {
	start, end int
	token      int32
	score      float64
}

func (l *unigramLearner) open(text []byte) {
	l.arcs, l.size = l.arcs[:0], len(text)
	for start := 0; start < len(text); {
		_, size := utf8.DecodeRune(text[start:])
		single, node := false, uint32(0)
		for end := start; end < len(text); end++ {
			next, ok := l.trie.get(pair{node, uint32(text[end])})
			if !ok {
				break
			}
			node = next
			if token := l.ends[node]; token >= 0 {
				l.arcs = append(l.arcs, arc{start, end + 1, token, l.tokens[token].score})
				single = single || end+1-start == size
			}
		}
		if !single {
			l.arcs = append(l.arcs, arc{start, start + size, 0, l.lowest - unknownPenalty})
		}
		start += size
	}
}

// marginals adds to expected how often each token occurs in a text that occurs n times.
func (l *lattice) marginals(n float64, expected []float64) {
	l.alpha, l.beta = l.alpha[:0], l.beta[:0]
	for range l.size + 1 {
		l.alpha, l.beta = append(l.alpha, math.NaN()), append(l.beta, math.NaN())
	}
	l.alpha[0], l.beta[l.size] = 0, 0
	for _, a := range l.arcs {
		l.alpha[a.end] = logSumExp(l.alpha[a.end], a.score+l.alpha[a.start])
	}
	for i := len(l.arcs); i > 0; { // the arcs of a start in their order
		start, first := l.arcs[i-1].start, i-1
		for first > 0 && l.arcs[first-1].start == start {
			first--
		}
		for _, a := range l.arcs[first:i] {
			l.beta[start] = logSumExp(l.beta[start], a.score+l.beta[a.end])
		}
		i = first
	}
	z := l.alpha[l.size]
	for _, a := range l.arcs {
		expected[a.token] += n * math.Exp(l.alpha[a.start]+a.score+l.beta[a.end]-z)
	}
}

// logSumExp returns log(exp(x) + exp(y)); an x that is not a number counts as nothing.
func logSumExp(x, y float64) float64 {
	if math.IsNaN(x) {
		return y
	}
	low, high := min(x, y), max(x, y)
	if high > low+50 {
		return high
	}
	return high + math.Log(math.Exp(low-high)+1)
}

// viterbi returns the tokens of the best way through the lattice, from its end, without
// the arc that skip names.
func (l *lattice) viterbi(path []int32, skip int) []int32 {
	l.alpha, l.best = l.alpha[:0], l.best[:0]
	for range l.size + 1 {
		l.alpha, l.best = append(l.alpha, math.NaN()), append(l.best, -1)
	}
	l.alpha[0] = 0
	for i, a := range l.arcs {
		if i == skip || math.IsNaN(l.alpha[a.start]) {
			continue
		}
		if score := l.alpha[a.start] + a.score; l.best[a.end] < 0 || score > l.alpha[a.end] {
			l.alpha[a.end], l.best[a.end] = score, i
		}
	}
	if l.best[l.size] < 0 {
		return path
	}
	for at := l.size; at > 0; at = l.arcs[l.best[at]].start {
		path = append(path, l.arcs[l.best[at]].token)
	}
	return path
}

// expect returns how often each token is expected in the text.
func (l *unigramLearner) expect() []float64 {
	expected := make([]float64, len(l.tokens))
	for _, w := range l.words {
		l.open(w.text)
		l.marginals(float64(w.count), expected)
	}
	return expected
}

// maximize sets the scores from the expected counts and drops rare tokens. With digamma
// for log this is the variational estimate, which favours few tokens.
func (l *unigramLearner) maximize(expected []float64) {
	kept, sum := l.tokens[:1], 0.0
	for i := 1; i < len(l.tokens); i++ {
		if expected[i] < rareUnigram {
			continue
		}
		token := l.tokens[i]
		token.score = expected[i]
		sum += expected[i]
		kept = append(kept, token)
	}
	for i := range kept[1:] {
		kept[i+1].score = digamma(kept[i+1].score) - digamma(sum)
	}
	l.tokens = kept
	l.rebuild()
}

// digamma is the derivative of the log of the gamma function: a recurrence up to 7 and
// the asymptotic series from there.
func digamma(x float64) float64 {
	result := 0.0
	for ; x < 7; x++ {
		result -= 1 / x
	}
	x -= 0.5
	xx := 1 / x
	xx2 := xx * xx
	xx4 := xx2 * xx2
	return result + math.Log(x) + (1.0/24)*xx2 - 7.0/960*xx4 + (31.0/8064)*xx4*xx2 - (127.0/30720)*xx4*xx4
}

// prune drops tokens whose loss costs the likelihood least: where one is missing, its
// text is written with the next best tokens.
func (l *unigramLearner) prune(desired int) {
	n := len(l.tokens)
	always, instead := make([]bool, n), make([][]int32, n)
	for id := 1; id < n; id++ {
		text := []byte(l.tokens[id].text)
		l.open(text)
		if len(l.viterbi(nil, -1)) > 1 {
			continue // the token is never used
		}
		always[id] = true
		whole := slices.IndexFunc(l.arcs, func(a arc) bool { return a.start == 0 && a.end == len(text) })
		instead[id] = l.viterbi(nil, whole)
	}
	used, all := make([]float64, n), 0.0
	var path []int32
	for _, w := range l.words {
		l.open(w.text)
		path = l.viterbi(path[:0], -1)
		for _, id := range path {
			used[id] += float64(w.count)
		}
		all += float64(w.count)
	}
	sum := 0.0
	for _, u := range used {
		sum += u
	}
	type candidate struct {
		id   int
		loss float64
	}
	var candidates []candidate
	kept := []learnedToken{l.tokens[0]}
	for id := 1; id < n; id++ {
		switch {
		case used[id] == 0 && !always[id]:
		case len(instead[id]) == 0:
			kept = append(kept, l.tokens[id])
		case used[id] > 0:
			more := math.Log(sum + used[id]*float64(len(instead[id])-1))
			without := 0.0
			for _, other := range slices.Backward(instead[id]) {
				without += math.Log(used[other]+used[id]) - more
			}
			candidates = append(candidates, candidate{id, used[id] / all * (math.Log(used[id]) - math.Log(sum) - without)})
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(b.loss, a.loss) })
	size := max(desired, int(float64(n)*unigramShrink))
	for _, c := range candidates {
		if len(kept) == size {
			break
		}
		kept = append(kept, l.tokens[c.id])
	}
	l.tokens = kept
	l.rebuild()
}
