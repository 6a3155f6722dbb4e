package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
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
	trie         *trie        // of the tokens, by id
	longest      int          // bytes of a token, at least those of a character
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
		if len(e.token) > math.MaxUint16 {
			return nil, nil, fmt.Errorf("model: entry %d of the vocab has %d bytes, want at most %d", i, len(e.token), math.MaxUint16)
		}
		entries[i] = vocabEntry{e.token, uint32(i)}
	}
	vocab, err := newVocabulary(entries)
	if err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	vocab.modelSize = len(entries) // two entries may be spelled alike
	m := &unigram{vocab: &vocab, unknown: -1, single: read.Single, longest: utf8.UTFMax, singles: newPairTable(1 << 10)}
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
	tokens := make([]string, len(entries))
	for id, e := range entries {
		tokens[id] = e.token
		m.longest = max(m.longest, len(e.token))
		if r, n := utf8.DecodeRuneInString(e.token); n == len(e.token) && n > 0 {
			m.singles.put(pair{uint32(r), 0}, uint32(id))
		}
	}
	m.trie = newTrie(tokens)
	m.neighbours = &neighbours{tokens: vocab.written}
	return m, &vocab, nil
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
	m       *unigram
	cache   *pieceCache
	lengths []uint8     // by place: of the last token of the best segmentation up to it; 0 if there is none
	long    map[int]int // the lengths from longLength, which lengths has as that
	scores  []float64   // of these segmentations, by place modulo their number
	sum     float64     // of the scores since the start of the text, if m.single
}

func (m *unigram) newEncoder() modelEncoder {
	e := &unigramEncoder{m: m, long: map[int]int{}, scores: make([]float64, 1<<bits.Len(uint(m.longest)))}
	e.cache = newPieceCache(e.piece)
	return e
}

// SentencePiece segments a whole text at once: its sums, and the rounding of each, go on
// from piece to piece and over user-defined symbols between them. A sum below lowestSum
// starts again from 0, and those of the places after it follow.
const lowestSum = -1e5

func (e *unigramEncoder) startText() { e.sum = 0 }

func (e *unigramEncoder) passToken(id uint32) {
	if e.m.single && int(id) < len(e.m.scores) {
		if e.sum < lowestSum {
			e.sum = 0
		}
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

// longLength is a token's length that does not fit a byte.
const longLength = math.MaxUint8

// piece appends the ids of a piece's best segmentation. Scores are held only where a token
// may still end, so that the memory for a long piece is one byte for each of its own.
func (e *unigramEncoder) piece(dst []uint32, piece []byte) ([]uint32, error) {
	m := e.m
	e.lengths = refill(e.lengths, len(piece)+1, 0)
	clear(e.long)
	mask := len(e.scores) - 1
	e.scores[0] = e.sum
	for start := 0; start < len(piece); {
		_, size := utf8.DecodeRune(piece[start:])
		here, single := e.scores[start&mask], false
		if m.single && here < lowestSum {
			for end := start + 1; end <= min(start+m.longest, len(piece)); end++ {
				e.scores[end&mask] = float64(float32(e.scores[end&mask] - here))
			}
			here = 0
		}
		node := uint32(0)
		for end := start; end < len(piece); end++ {
			if node = m.trie.child(node, piece[end]); node == 0 {
				break
			}
			id := m.trie.nodes[node].value
			if id < 0 {
				continue
			}
			e.offer(start, end+1, here+m.scores[id])
			single = single || end+1-start == size
		}
		if !single {
			end, score := start+size, here+m.unknownScore
			if m.unknown < 0 && (e.lengths[end] == 0 || score > e.scores[end&mask]) {
				return dst, errUnigramUnknown
			}
			e.offer(start, end, score)
		}
		start += size
	}
	if m.single {
		e.sum = e.scores[len(piece)&mask]
	}
	return e.write(dst, piece), nil
}

// offer takes the token from start to end as the last one of the best segmentation up to
// end, if there is none with such a score.
func (e *unigramEncoder) offer(start, end int, score float64) {
	if e.m.single {
		score = float64(float32(score))
	}
	if old := &e.scores[end&(len(e.scores)-1)]; e.lengths[end] == 0 || score > *old {
		*old, e.lengths[end] = score, uint8(min(end-start, longLength))
		if end-start >= longLength {
			e.long[end] = end - start
		}
	}
}

// write appends the ids of the best segmentation. Consecutive unknown characters become one
// unknown token, or the bytes of all of them.
func (e *unigramEncoder) write(dst []uint32, piece []byte) []uint32 {
	from := len(dst)
	backward := func(start, end int) { // unknown characters
		n := len(dst)
		dst = e.appendUnknown(dst, piece[start:end])
		slices.Reverse(dst[n:])
	}
	unknown := 0 // where the unknown characters that start at end do end
	for end := len(piece); end > 0; {
		length := int(e.lengths[end])
		if length == longLength {
			length = e.long[end]
		}
		start := end - length
		if id := e.m.id(piece[start:end]); id == e.m.unknown {
			unknown = max(unknown, end)
		} else {
			if unknown > 0 {
				backward(end, unknown)
				unknown = 0
			}
			dst = append(dst, uint32(id))
		}
		end = start
	}
	if unknown > 0 {
		backward(0, unknown)
	}
	slices.Reverse(dst[from:])
	return dst
}

// id returns the id of a token, and that of the unknown token for other text.
func (m *unigram) id(token []byte) int64 {
	node := uint32(0)
	for _, b := range token {
		if node = m.trie.child(node, b); node == 0 {
			return m.unknown
		}
	}
	if id := m.trie.nodes[node].value; id >= 0 {
		return int64(id)
	}
	return m.unknown
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
