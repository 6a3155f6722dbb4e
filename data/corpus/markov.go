package corpus

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math"
	"math/rand/v2"
	"sort"

	"github.com/koala-lm/koala-lm/data"
)

// Markov is text from a source of known entropy. Each word depends only on the
// word before it, with probabilities drawn from the seed. The line end is one of
// the words. So the loss of a model of word-level tokens cannot fall below
// Entropy, in nats a token, and a good model comes close.
type Markov struct {
	next     [][]uint16  // the words that may follow each word; word 0 is the line end
	shares   [][]float64 // their cumulative probabilities
	seed     uint64
	tokens   int64
	progress func(int64)
}

// Parameters of the source.
const (
	markovWords     = 1000
	markovFollowers = 12  // successors of each word, with probabilities proportional to 1, 1/2, 1/3, ...
	markovStarts    = 100 // words that may start a line
	markovLineEnd   = 0.05
	markovTokens    = 1_000_000 // default length of the text
)

// NewMarkov draws a source from the seed. Its text has at least the given number
// of tokens (0 is a million) and ends with a whole line.
func NewMarkov(seed uint64, tokens int64) *Markov {
	if tokens == 0 {
		tokens = markovTokens
	}
	m := &Markov{seed: seed, tokens: tokens, next: make([][]uint16, markovWords), shares: make([][]float64, markovWords)}
	random := rand.New(rand.NewPCG(seed, 0x6d61726b6f76))
	words := make([]uint16, markovWords-1)
	for i := range words {
		words[i] = uint16(i + 1)
	}
	for w := range m.next {
		followers, left := markovFollowers, 1-markovLineEnd
		if w == 0 {
			followers, left = markovStarts, 1 // no empty lines
		}
		random.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
		total := 0.0
		for i := range followers {
			total += 1 / float64(i+1)
		}
		sum := 0.0
		for i, word := range words[:followers] {
			sum += left / float64(i+1) / total
			m.next[w] = append(m.next[w], word)
			m.shares[w] = append(m.shares[w], sum)
		}
		if w != 0 {
			m.next[w] = append(m.next[w], 0)
			m.shares[w] = append(m.shares[w], 1)
		}
	}
	return m
}

// Entropy is the entropy rate of the source in nats a token: the entropy of the
// next word, averaged over the stationary distribution of words.
func (m *Markov) Entropy() float64 {
	entropy := 0.0
	for w, p := range m.stationary() {
		m.each(w, func(_ uint16, share float64) { entropy -= p * share * math.Log(share) })
	}
	return entropy
}

// stationary is the distribution of words in a long text.
func (m *Markov) stationary() []float64 {
	now := make([]float64, markovWords)
	now[0] = 1
	for range 2000 {
		then := make([]float64, markovWords)
		change := 0.0
		for w, p := range now {
			m.each(w, func(next uint16, share float64) { then[next] += p * share })
		}
		for w := range now {
			// Average with the previous distribution: a periodic chain
			// alternates, its average converges.
			then[w] = (then[w] + now[w]) / 2
			change += math.Abs(then[w] - now[w])
		}
		if now = then; change < 1e-15 {
			break
		}
	}
	return now
}

func (m *Markov) each(w int, f func(next uint16, share float64)) {
	before := 0.0
	for i, next := range m.next[w] {
		f(next, m.shares[w][i]-before)
		before = m.shares[w][i]
	}
}

// Size is the mean size of such a text.
func (m *Markov) Size() int64 {
	perToken := 0.0
	for w, p := range m.stationary() {
		m.each(w, func(next uint16, share float64) { perToken += p * share * float64(len(markovText(uint16(w), next))) })
	}
	return int64(perToken * float64(m.tokens))
}

// Read generates the text as one document.
func (m *Markov) Read(ctx context.Context, sink Sink) (data.SourceInfo, error) {
	info := data.SourceInfo{Path: "markov"}
	if err := sink.Begin("corpus markov"); err != nil {
		return info, err
	}
	sum := sha256.New()
	counted := &countingWriter{w: io.MultiWriter(sink, sum), ctx: ctx, progress: m.progress}
	out := bufio.NewWriterSize(counted, 1<<16)
	random := rand.New(rand.NewPCG(m.seed, 0x74657874))
	word := uint16(0)
	for n := int64(0); n < m.tokens || word != 0; n++ {
		shares := m.shares[word]
		before := word
		word = m.next[word][min(sort.SearchFloat64s(shares, random.Float64()), len(shares)-1)]
		if _, err := out.WriteString(markovText(before, word)); err != nil { // an interruption too
			return info, err
		}
	}
	if err := out.Flush(); err != nil {
		return info, err
	}
	info.Bytes, info.SHA256 = counted.n, hex.EncodeToString(sum.Sum(nil))
	return info, sink.End()
}

// markovText is what a word adds to a text after the word before.
func markovText(before, word uint16) string {
	switch {
	case word == 0:
		return "\n"
	case before == 0:
		return markovWord(word)
	}
	return " " + markovWord(word)
}

// markovWord returns a pronounceable word: a syllable for each digit of its
// number in base 70.
func markovWord(word uint16) string {
	const consonants, vowels = "bdfgklmnprstvz", "aeiou"
	var text []byte
	for n := int(word); n > 0; n /= 70 {
		digit := n % 70
		text = append(text, consonants[digit/5], vowels[digit%5])
	}
	return string(text)
}

type countingWriter struct {
	w        io.Writer
	ctx      context.Context
	n        int64
	progress func(int64)
}

func (c *countingWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	if c.progress != nil {
		c.progress(int64(n))
	}
	return n, err
}
