package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// unigram is the model of SentencePiece (Kudo 2018): of all segmentations of a
// piece into tokens it takes the one with the highest sum of scores (Viterbi).
type unigram struct {
	vocab        *vocabulary
	scores       []float64
	unknown      int64 // -1 if there is none
	unknownScore float64
	single       bool         // sums are float32, as SentencePiece's own
	fallback     *[256]uint32 // ids of bytes, for characters that no token has
	trie         *pairTable   // (node, byte) -> node
	ends         []int64      // by node: the id of the token that ends there, or -1
	singles      *pairTable   // characters that are tokens
	neighbours   *neighbours
}

// unknownPenalty is the difference between the worst token's score and an unknown
// character's.
const unknownPenalty = 10

// neverScore is the score of entries that text never becomes: control symbols and bytes
// of a .model, which SentencePiece does not look for.
const neverScore = -1e6

func parseUnigram(part modelPart, _ bool) (model, *vocabulary, error) {
	var read struct {
		UnkID        *int64 `json:"unk_id"`
		ByteFallback *bool  `json:"byte_fallback"`
		Single       bool   `json:"single_precision"` // of a converted .model; Hugging Face ignores it
	}
	var list unigramList
	if err := part.read(&read, &list, nil); err != nil {
		return nil, nil, err
	}
	if isNull(part.vocab) {
		return nil, nil, errors.New("model: Unigram needs a vocab")
	}
	entries := make([]vocabEntry, len(list))
	for i, e := range list {
		entries[i] = vocabEntry{e.token, uint32(i)}
	}
	vocab, err := newVocabulary(entries)
	if err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	vocab.modelSize = len(entries) // two entries may be spelled alike
	m := &unigram{vocab: &vocab, unknown: -1, single: read.Single, trie: newPairTable(len(entries)), ends: []int64{-1}, singles: newPairTable(1 << 10)}
	if read.UnkID != nil {
		if m.unknown = *read.UnkID; m.unknown < 0 || m.unknown >= int64(len(entries)) {
			return nil, nil, fmt.Errorf("model: unk_id is %d, the vocabulary has %d entries", m.unknown, len(entries))
		}
	}
	if read.ByteFallback != nil && *read.ByteFallback {
		m.fallback = byteTokens(&vocab)
	}
	lowest := math.Inf(1)
	for _, e := range list {
		if m.single {
			e.score = float64(float32(e.score))
		}
		if !m.single || e.score != neverScore {
			lowest = min(lowest, e.score)
		}
		m.scores = append(m.scores, e.score)
	}
	m.unknownScore = lowest - unknownPenalty
	for id, e := range entries {
		m.insert(e.token, int64(id))
		if r, n := utf8.DecodeRuneInString(e.token); n == len(e.token) && n > 0 {
			m.singles.put(pair{uint32(r), 0}, uint32(id))
		}
	}
	m.neighbours = &neighbours{tokens: vocab.written}
	return m, &vocab, nil
}

func (m *unigram) insert(token string, id int64) {
	node := uint32(0)
	for i := range len(token) {
		edge := pair{node, uint32(token[i])}
		next, ok := m.trie.get(edge)
		if !ok {
			next = uint32(len(m.ends))
			m.ends = append(m.ends, -1)
			m.trie.put(edge, next)
		}
		node = next
	}
	if node != 0 {
		m.ends[node] = id
	}
}

// joins is also true for two unknown characters, which become one token.
func (m *unigram) joins(a, b rune) bool {
	_, okA := m.singles.get(pair{uint32(a), 0})
	_, okB := m.singles.get(pair{uint32(b), 0})
	return !okA || !okB || m.neighbours.has(a, b)
}

// seamFrom is large: scores are summed from the start of a piece, and between
// segmentations with equal scores the rounding of the sum decides.
func (m *unigram) seamFrom() int { return 4 << 20 }

type unigramEncoder struct {
	m     *unigram
	cache *pieceCache
	best  []node
	path  []node
	sum   float64 // of the scores since the start of the text, if m.single
}

// node is the best segmentation of the text up to a place.
type node struct {
	score float64
	start int // start of its last token; -1 if there is no segmentation yet
	id    int64
}

func (m *unigram) newEncoder() modelEncoder {
	e := &unigramEncoder{m: m}
	e.cache = newPieceCache(e.piece)
	return e
}

// SentencePiece segments a whole text at once: its sums, and the rounding of each, go on
// from piece to piece and over user-defined symbols between them.

func (e *unigramEncoder) startText() { e.sum = 0 }

func (e *unigramEncoder) passToken(id uint32) {
	if e.m.single && int(id) < len(e.m.scores) {
		e.sum = float64(float32(e.sum + e.m.scores[id]))
	}
}

func (e *unigramEncoder) append(dst []uint32, text []byte, start, end int) ([]uint32, error) {
	if e.m.single {
		return e.piece(dst, text[start:end])
	}
	return e.cache.append(dst, text, start, end)
}

var errUnigramUnknown = errors.New("the text has a character without a token, and the tokenizer's Unigram model has no unk_id")

// piece appends the ids of a piece's best segmentation. If no token contains two
// adjacent characters together, every segmentation has a boundary between them.
// There the ids so far are written, and the sum of scores continues, so that it
// rounds as in one pass.
func (e *unigramEncoder) piece(dst []uint32, piece []byte) ([]uint32, error) {
	const window = 1 << 16 // bytes after which it looks for such a boundary
	score := e.sum
	for len(piece) > window {
		place, last := 0, rune(0)
		for i := 0; i < len(piece); {
			r, n := utf8.DecodeRune(piece[i:])
			if i > 0 && !e.m.joins(last, r) {
				place = i
				if i > window {
					break
				}
			}
			last = r
			i += n
			if i > window && place > 0 {
				break
			}
		}
		if place == 0 {
			break
		}
		var err error
		if dst, score, err = e.viterbi(dst, piece[:place], score); err != nil {
			return dst, err
		}
		piece = piece[place:]
	}
	dst, score, err := e.viterbi(dst, piece, score)
	if e.m.single {
		e.sum = score
	}
	return dst, err
}

func (e *unigramEncoder) viterbi(dst []uint32, piece []byte, score float64) ([]uint32, float64, error) {
	m := e.m
	e.best = append(e.best[:0], node{score: score, start: -1})
	for range len(piece) {
		e.best = append(e.best, node{start: -1})
	}
	for start := 0; start < len(piece); {
		_, size := utf8.DecodeRune(piece[start:])
		here, single := e.best[start].score, false
		at := uint32(0)
		for end := start; end < len(piece); end++ {
			next, ok := m.trie.get(pair{at, uint32(piece[end])})
			if !ok {
				break
			}
			at = next
			id := m.ends[at]
			if id < 0 {
				continue
			}
			e.offer(end+1, node{here + m.scores[id], start, id})
			single = single || end+1-start == size
		}
		if !single {
			if m.unknown < 0 {
				if old := &e.best[start+size]; old.start < 0 || here+m.unknownScore > old.score {
					return dst, 0, errUnigramUnknown
				}
			} else {
				e.offer(start+size, node{here + m.unknownScore, start, m.unknown})
			}
		}
		start += size
	}
	e.path = e.path[:0]
	for end := len(piece); end > 0; end = e.best[end].start {
		e.path = append(e.path, e.best[end])
	}
	dst = e.write(dst, piece)
	return dst, e.best[len(piece)].score, nil
}

func (e *unigramEncoder) offer(end int, n node) {
	if e.m.single {
		n.score = float64(float32(n.score))
	}
	if old := &e.best[end]; old.start < 0 || n.score > old.score {
		*old = n
	}
}

// write appends the ids of the path, which is stored from its end. Consecutive
// unknown characters become one unknown token, or the bytes of all of them.
func (e *unigramEncoder) write(dst []uint32, piece []byte) []uint32 {
	for i := len(e.path) - 1; i >= 0; i-- {
		n := e.path[i]
		if n.id != e.m.unknown {
			dst = append(dst, uint32(n.id))
			continue
		}
		for i > 0 && e.path[i-1].id == e.m.unknown {
			i--
		}
		end := len(piece)
		if i > 0 {
			end = e.path[i-1].start
		}
		dst = e.appendUnknown(dst, piece[n.start:end])
	}
	return dst
}

func (e *unigramEncoder) appendUnknown(dst []uint32, text []byte) []uint32 {
	m := e.m
	if id, ok := m.vocab.byID[string(text)]; ok && int(id) < m.vocab.modelIDs && !m.single {
		return append(dst, id) // in Hugging Face alone
	}
	if m.fallback == nil {
		return append(dst, uint32(m.unknown))
	}
	for _, b := range text {
		if m.fallback[b] == noID {
			return append(dst, uint32(m.unknown))
		}
	}
	for _, b := range text {
		dst = append(dst, m.fallback[b])
	}
	return dst
}
