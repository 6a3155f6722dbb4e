package tokenizer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"
	"unicode/utf8"
)

// model encodes one piece of text. It is safe for concurrent use: the state
// between calls is in its encoders.
type model interface {
	// newEncoder returns an encoder for one goroutine, which appends the ids of
	// the piece text[start:end].
	newEncoder() modelEncoder
	// joins reports whether a token may contain a followed by b. If none does, the
	// text before and after this place may be encoded separately.
	joins(a, b rune) bool
	// seamFrom is the least length of a text that may be cut where the model joins
	// nothing.
	seamFrom() int
}

type modelEncoder interface {
	append(dst []uint32, text []byte, start, end int) ([]uint32, error)
}

// bpe is byte-pair encoding (Sennrich et al. 2016): a piece starts as its
// characters. The neighbouring pair with the lowest rank is merged, until no
// neighbours are a learned pair.
type bpe struct {
	vocab       *vocabulary
	merges      *mergeTable
	unknown     int64        // the id of unk_token, or -1, which drops characters without a token
	fuseUnknown bool         // consecutive unknown characters become one token
	fallback    *[256]uint32 // ids of the bytes, which encode characters without a token
	complete    bool         // fallback has all bytes
	prefix      string       // prefix of tokens inside a word (continuing_subword_prefix)
	suffix      string       // suffix of tokens that end a word (end_of_word_suffix)
	whole       bool         // a piece that is a token needs no merging (ignore_merges)
	bytes       *[256]uint32
	chars       *pairTable       // character -> id
	bytePairs   *[1 << 16]uint32 // rank by the two bytes, if pieces come as bytes
	neighbours  *neighbours
	tree        func() *tokenTree // nil if long pieces are not encoded in parts
	missing     error             // error if unk_token is not in the vocabulary, returned when a text needs it
}

// bpeModel is the model part of tokenizer.json.
type bpeModel struct {
	Type                    string         `json:"type"`
	Dropout                 *float64       `json:"dropout"`
	UnkToken                *string        `json:"unk_token"`
	ContinuingSubwordPrefix *string        `json:"continuing_subword_prefix"`
	EndOfWordSuffix         *string        `json:"end_of_word_suffix"`
	FuseUnk                 bool           `json:"fuse_unk"`
	ByteFallback            bool           `json:"byte_fallback"`
	IgnoreMerges            bool           `json:"ignore_merges"`
	Vocab                   json.Marshaler `json:"vocab"`
	Merges                  [][2]string    `json:"merges"`
}

// parseBPE reads a BPE model. overBytes reports whether pieces come as bytes,
// which the vocabulary spells in the byte-level alphabet.
func parseBPE(part modelPart, overBytes bool) (model, *vocabulary, error) {
	var read struct {
		Dropout      *float64 `json:"dropout"`
		UnkToken     *string  `json:"unk_token"`
		Prefix       *string  `json:"continuing_subword_prefix"`
		Suffix       *string  `json:"end_of_word_suffix"`
		FuseUnk      *bool    `json:"fuse_unk"`
		ByteFallback *bool    `json:"byte_fallback"`
		IgnoreMerges *bool    `json:"ignore_merges"`
	}
	var entries vocabObject
	var merges mergeList
	if err := part.read(&read, &entries, &merges); err != nil {
		return nil, nil, err
	}
	if isNull(part.vocab) || isNull(part.merges) {
		return nil, nil, errors.New("model: BPE needs vocab and merges")
	}
	if read.Dropout != nil && *read.Dropout != 0 {
		return nil, nil, errors.New("model: BPE with dropout gives other ids each time: set dropout to null in the file")
	}
	vocab, err := newVocabulary(entries)
	if err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	is := func(b *bool) bool { return b != nil && *b }
	m := &bpe{
		vocab: &vocab, unknown: -1, fuseUnknown: is(read.FuseUnk), whole: is(read.IgnoreMerges),
		prefix: deref(read.Prefix), suffix: deref(read.Suffix),
	}
	if read.UnkToken != nil {
		if id, ok := vocab.byID[*read.UnkToken]; ok {
			m.unknown = int64(id)
		} else {
			m.missing = fmt.Errorf("the unk_token %q of the tokenizer is not in its vocabulary, and a character needs it", *read.UnkToken)
		}
	}
	if m.merges, err = newMergeTable(&vocab, merges, len(m.prefix)); err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	if is(read.ByteFallback) {
		m.fallback = byteTokens(&vocab)
		m.complete = !slices.Contains(m.fallback[:], noID)
	}
	if overBytes && m.prefix == "" && m.suffix == "" {
		m.bytes = byteIDs(&vocab)
	}
	if m.bytes != nil {
		m.bytePairs = new([1 << 16]uint32)
		for i := range m.bytePairs {
			m.bytePairs[i] = m.merges.rank(m.bytes[i>>8], m.bytes[i&0xff])
		}
	} else {
		m.chars = newPairTable(1 << 10)
		for token, id := range vocab.byID {
			if r, n := utf8.DecodeRuneInString(token); n == len(token) && n > 0 {
				m.chars.put(pair{uint32(r), 0}, id)
			}
		}
	}
	m.neighbours = &neighbours{tokens: vocab.written}
	m.tree = sync.OnceValue(func() *tokenTree { return newTokenTree(m) })
	return m, &vocab, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// byteIDs returns the ids of all bytes that UTF-8 can hold, or nil if one has no
// token in the byte-level alphabet.
func byteIDs(v *vocabulary) *[256]uint32 {
	ids := new([256]uint32)
	for b := range 256 {
		id, ok := v.byID[string(byteChars[b])]
		if !ok && inUTF8(byte(b)) {
			return nil
		}
		ids[b] = id
	}
	return ids
}

// inUTF8 reports whether a byte can occur in UTF-8.
func inUTF8(b byte) bool { return b != 0xc0 && b != 0xc1 && b < 0xf5 }

const noID = math.MaxUint32

// byteTokens returns the ids of <0x00> to <0xFF>, noID for a missing token.
func byteTokens(v *vocabulary) *[256]uint32 {
	ids := new([256]uint32)
	for b := range 256 {
		id, ok := v.byID[fmt.Sprintf("<0x%02X>", b)]
		if !ok {
			id = noID
		}
		ids[b] = id
	}
	return ids
}

// mergeTable maps a pair to its rank and to the id of the merged token. A look-up takes
// the time of a cache miss, so slots are small: a left id, a right id and a rank in one
// word.
type mergeTable struct {
	slots []uint64 // freeSlot where no merge is
	shift uint8
	to    []uint32 // by rank
}

const (
	idBits   = 21
	rankBits = 64 - 2*idBits
	freeSlot = math.MaxUint64
)

func packMerge(left, right, rank uint32) uint64 {
	return uint64(left)<<(idBits+rankBits) | uint64(right)<<rankBits | uint64(rank)
}

func unpackMerge(s uint64) (left, right, rank uint32) {
	return uint32(s >> (idBits + rankBits)), uint32(s >> rankBits % (1 << idBits)), uint32(s % (1 << rankBits))
}

// newMergeTable makes the table of merges. trim is the length of the prefix that
// the right part loses when it is merged.
func newMergeTable(v *vocabulary, merges [][2]string, trim int) (*mergeTable, error) {
	if len(merges) >= 1<<rankBits {
		return nil, fmt.Errorf("merges: there are %d, want less than %d", len(merges), 1<<rankBits)
	}
	t := &mergeTable{to: make([]uint32, len(merges)), shift: uint8(64 - max(4, bits.Len(uint(2*len(merges)))))}
	t.slots = make([]uint64, 1<<(64-t.shift))
	for i := range t.slots {
		t.slots[i] = freeSlot
	}
	pairs := make([]pair, len(merges))
	var wg sync.WaitGroup
	const chunk = 1 << 14 // of look-ups for one goroutine
	wrong := make([]error, (len(merges)+chunk-1)/chunk)
	for i := range wrong {
		wg.Go(func() {
			var joined []byte
			guess := uint32(0) // most merges make the token after the last merge's
			for rank := i * chunk; rank < min(len(merges), (i+1)*chunk); rank++ {
				m := merges[rank]
				left, okLeft := v.byID[m[0]]
				right, okRight := v.byID[m[1]]
				joined = append(append(joined[:0], m[0]...), m[1][min(trim, len(m[1])):]...)
				to, ok := guess, v.unique && int(guess) < len(v.written) && v.written[guess] == string(joined)
				if !ok {
					to, ok = v.byID[string(joined)]
				}
				guess = to + 1
				if !okLeft || !okRight || !ok {
					wrong[i] = fmt.Errorf("merges: merge %d (%q, %q) has a part or a result that is not in the vocabulary", rank, m[0], m[1])
					return
				}
				pairs[rank], t.to[rank] = pair{left, right}, to
			}
		})
	}
	wg.Wait()
	if err := cmp.Or(wrong...); err != nil {
		return nil, err
	}
	for rank, p := range pairs {
		// Of equal merges the last counts, as in Hugging Face's tokenizers.
		*t.slot(p.left, p.right) = packMerge(p.left, p.right, uint32(rank))
	}
	return t, nil
}

const noRank = math.MaxUint32

// slot returns the slot of a pair, or the free one where it would be.
func (t *mergeTable) slot(left, right uint32) *uint64 {
	key, mask := packMerge(left, right, 0), uint64(len(t.slots)-1)
	for at := key * hashMultiplier >> t.shift; ; at++ {
		if s := &t.slots[at&mask]; *s^key < 1<<rankBits || *s == freeSlot {
			return s
		}
	}
}

// rank returns the rank of a pair, noRank if it was not learned.
func (t *mergeTable) rank(left, right uint32) uint32 {
	if s := *t.slot(left, right); s != freeSlot {
		return uint32(s % (1 << rankBits))
	}
	return noRank
}

// shortPiece is the longest piece that is merged by scanning all pairs; longer
// pieces use a heap.
const shortPiece = 64

type bpeEncoder struct {
	m       *bpe
	cache   *pieceCache // of pieces
	parts   *pieceCache // of parts of long pieces
	symbols []uint32
	ranks   []uint32
	key     []byte
	long    longMerger
	settler settler
}

func (m *bpe) newEncoder() modelEncoder {
	e := &bpeEncoder{m: m, settler: settler{m: m}}
	e.cache = newPieceCache(e.piece)
	e.parts = e.cache
	if m.whole {
		e.parts = newPieceCache(e.merge)
	}
	return e
}

func (m *bpe) joins(a, b rune) bool {
	if m.prefix != "" || m.suffix != "" {
		return true
	}
	// An unknown token is written at the next known character, so two characters
	// without a token may both belong to it. Dropped characters make their
	// neighbours adjacent.
	if knownA, knownB := m.known(a), m.known(b); !m.complete && (!knownA && !knownB || m.unknown < 0 && !(knownA && knownB)) {
		return true
	}
	return m.neighbours.has(a, b)
}

func (m *bpe) seamFrom() int { return 1 << 16 }

// known reports whether a character is a token.
func (m *bpe) known(r rune) bool {
	if m.bytes != nil {
		return true
	}
	_, ok := m.chars.get(pair{uint32(r), 0})
	return ok
}

func (e *bpeEncoder) append(dst []uint32, text []byte, start, end int) ([]uint32, error) {
	return e.cache.append(dst, text, start, end)
}

// piece appends the ids of a piece.
func (e *bpeEncoder) piece(dst []uint32, piece []byte) ([]uint32, error) {
	m := e.m
	if m.whole {
		key := piece
		if m.bytes != nil {
			e.key = bytesAsChars{}.see(e.key[:0], piece)
			key = e.key
		}
		if id, ok := m.vocab.byID[string(key)]; ok && int(id) < m.vocab.modelIDs {
			return append(dst, id), nil
		}
	}
	if len(piece) <= shortPiece || m.prefix != "" || m.suffix != "" || m.bytes != nil {
		return e.merge(dst, piece)
	}
	return e.inParts(dst, piece)
}

// inParts encodes a long piece in parts, cut between two characters that no token
// has next to each other. Without a pre-tokenizer the whole text is one piece; its
// parts are mostly words that are in the cache.
func (e *bpeEncoder) inParts(dst []uint32, piece []byte) (_ []uint32, err error) {
	from := 0
	last, n := utf8.DecodeRune(piece)
	for i := n; i < len(piece); {
		r, n := rune(piece[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(piece[i:])
		}
		if !e.m.joins(last, r) {
			if dst, err = e.parts.append(dst, piece, from, i); err != nil {
				return dst, err
			}
			from = i
		}
		last = r
		i += n
	}
	if from == 0 {
		return e.merge(dst, piece)
	}
	return e.parts.append(dst, piece, from, len(piece))
}

// start puts the initial symbols of a piece into e.symbols.
func (e *bpeEncoder) start(piece []byte) error {
	m := e.m
	e.symbols = e.symbols[:0]
	if m.bytes != nil {
		for _, b := range piece {
			e.symbols = append(e.symbols, m.bytes[b])
		}
		return nil
	}
	unknown := false // an unknown symbol is pending
	for i := 0; i < len(piece); {
		r, n := rune(piece[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(piece[i:])
		}
		char := piece[i : i+n]
		first, last := i == 0, i+n == len(piece)
		i += n
		var id uint32
		var ok bool
		if plain := (first || m.prefix == "") && (!last || m.suffix == ""); plain && !(r == utf8.RuneError && n == 1) {
			id, ok = m.chars.get(pair{uint32(r), 0})
		} else {
			e.key = e.key[:0]
			if !first {
				e.key = append(e.key, m.prefix...)
			}
			e.key = append(e.key, char...)
			if last {
				e.key = append(e.key, m.suffix...)
			}
			char = e.key
			id, ok = m.vocab.byID[string(char)]
			ok = ok && int(id) < m.vocab.modelIDs
		}
		switch {
		case ok:
			if unknown {
				e.symbols, unknown = append(e.symbols, uint32(m.unknown)), false
			}
			e.symbols = append(e.symbols, id)
		case m.fallback != nil && e.fallBack(char):
		case m.missing != nil:
			return m.missing
		case m.unknown >= 0:
			if unknown && !m.fuseUnknown {
				e.symbols = append(e.symbols, uint32(m.unknown))
			}
			unknown = true
		}
	}
	if unknown {
		e.symbols = append(e.symbols, uint32(m.unknown))
	}
	return nil
}

// fallBack adds the bytes of a character without token, if all have tokens.
func (e *bpeEncoder) fallBack(char []byte) bool {
	for _, b := range char {
		if e.m.fallback[b] == noID {
			return false
		}
	}
	for _, b := range char {
		e.symbols = append(e.symbols, e.m.fallback[b])
	}
	return true
}

// merge appends the ids of a piece, merged. The memory for a long piece is that for its
// parts.
func (e *bpeEncoder) merge(dst []uint32, piece []byte) (_ []uint32, err error) {
	for known := longPiece; len(piece) > known; {
		n := e.settler.settle(piece[:wholeRunes(piece[:known])])
		if n == 0 {
			known *= 2
			continue
		}
		dst = e.settler.append(dst, n)
		piece, known = piece[e.settler.places[n]:], longPiece
	}
	return e.mergeAll(dst, piece)
}

func (e *bpeEncoder) mergeAll(dst []uint32, piece []byte) ([]uint32, error) {
	if err := e.start(piece); err != nil {
		return dst, err
	}
	if len(e.symbols) > shortPiece {
		return e.long.merge(e.m.merges, dst, e.symbols), nil
	}
	return e.mergeShort(dst, piece), nil
}

func (e *bpeEncoder) mergeShort(dst []uint32, piece []byte) []uint32 {
	t, n := e.m.merges, len(e.symbols)
	for len(e.ranks) < n {
		e.ranks = append(e.ranks, 0)
	}
	symbols, ranks := e.symbols, e.ranks[:n]
	if first := e.m.bytePairs; first != nil {
		for i := 0; i+1 < n; i++ {
			ranks[i] = first[int(piece[i])<<8|int(piece[i+1])]
		}
	} else {
		for i := 0; i+1 < n; i++ {
			ranks[i] = t.rank(symbols[i], symbols[i+1])
		}
	}
	for n > 1 {
		at, best := 0, uint32(noRank)
		for i, rank := range ranks[:n-1] {
			if rank < best {
				at, best = i, rank
			}
		}
		if best == noRank {
			break
		}
		symbols[at] = t.to[best]
		copy(symbols[at+1:n-1], symbols[at+2:n])
		copy(ranks[at:n-2], ranks[at+1:n-1])
		n--
		if at > 0 {
			ranks[at-1] = t.rank(symbols[at-1], symbols[at])
		}
		if at < n-1 {
			ranks[at] = t.rank(symbols[at], symbols[at+1])
		}
	}
	return append(dst, symbols[:n]...)
}

// neighbours is the set of character pairs that are adjacent in some token.
type neighbours struct {
	tokens []string
	once   sync.Once
	table  *pairTable
}

func (n *neighbours) has(a, b rune) bool {
	n.once.Do(func() {
		n.table = newPairTable(1 << 10)
		for _, token := range n.tokens {
			last := rune(-1)
			for _, r := range token {
				if last >= 0 {
					n.table.put(pair{uint32(last), uint32(r)}, 0)
				}
				last = r
			}
		}
	})
	_, ok := n.table.get(pair{uint32(a), uint32(b)})
	return ok
}

// longMerger merges a piece of n symbols in n log n steps: the symbols are a
// linked list, and a heap holds the pairs that can be merged, by rank and
// then by place.
type longMerger struct {
	symbols []symbol
	heap    []candidate
}

type symbol struct {
	id         uint32 // noID after it was merged into the previous one
	prev, next int32  // -1 at the ends
}

type candidate struct {
	rank uint32
	at   int32 // the left symbol
	pair pair  // the pair at the time it was queued
}

func (c candidate) before(o candidate) bool {
	if c.rank != o.rank {
		return c.rank < o.rank
	}
	return c.at < o.at
}

func (m *longMerger) merge(t *mergeTable, dst, ids []uint32) []uint32 {
	m.symbols, m.heap = m.symbols[:0], m.heap[:0]
	for i, id := range ids {
		m.symbols = append(m.symbols, symbol{id, int32(i) - 1, int32(i) + 1})
	}
	m.symbols[len(ids)-1].next = -1
	for i := range len(ids) - 1 {
		m.push(t, int32(i))
	}
	for len(m.heap) > 0 {
		c := m.pop()
		left := &m.symbols[c.at]
		if left.id != c.pair.left || left.next < 0 || m.symbols[left.next].id != c.pair.right {
			continue // one of the two was merged meanwhile
		}
		right := &m.symbols[left.next]
		left.id, left.next, right.id = t.to[c.rank], right.next, noID
		if left.next >= 0 {
			m.symbols[left.next].prev = c.at
			m.push(t, c.at)
		}
		if left.prev >= 0 {
			m.push(t, left.prev)
		}
	}
	for at := int32(0); at >= 0; at = m.symbols[at].next {
		dst = append(dst, m.symbols[at].id)
	}
	return dst
}

// push adds the pair of a symbol and the next symbol, if it was learned.
func (m *longMerger) push(t *mergeTable, at int32) {
	p := pair{m.symbols[at].id, m.symbols[m.symbols[at].next].id}
	rank := t.rank(p.left, p.right)
	if rank == noRank {
		return
	}
	m.heap = append(m.heap, candidate{rank, at, p})
	i := len(m.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !m.heap[i].before(m.heap[up]) {
			break
		}
		m.heap[i], m.heap[up] = m.heap[up], m.heap[i]
		i = up
	}
}

func (m *longMerger) pop() candidate {
	top := m.heap[0]
	last := len(m.heap) - 1
	m.heap[0] = m.heap[last]
	m.heap = m.heap[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if m.heap[child].before(m.heap[least]) {
				least = child
			}
		}
		if least == i {
			return top
		}
		m.heap[i], m.heap[least] = m.heap[least], m.heap[i]
		i = least
	}
}

// pair is two adjacent ids.
type pair struct{ left, right uint32 }

func (p pair) key() uint64 { return uint64(p.left)<<32 | uint64(p.right) }

// pairTable maps pairs to numbers. Its look-ups dominate encoding; a
// map[pair]uint32 takes three times as long.
type pairTable struct {
	slots []pairSlot
	n     int
	shift uint8
}

type pairSlot struct {
	key   uint64
	value uint32
	used  bool
}

func newPairTable(capacity int) *pairTable {
	size := max(16, 1<<bits.Len(uint(2*capacity)))
	return &pairTable{slots: make([]pairSlot, size), shift: uint8(64 - bits.TrailingZeros(uint(size)))}
}

func (t *pairTable) get(p pair) (value uint32, ok bool) {
	key := p.key()
	mask := uint64(len(t.slots) - 1)
	for at := key * hashMultiplier >> t.shift; ; at = (at + 1) & mask {
		s := &t.slots[at]
		if s.key == key && s.used {
			return s.value, true
		}
		if !s.used {
			return 0, false
		}
	}
}

// put sets the value of a pair.
func (t *pairTable) put(p pair, value uint32) {
	if 2*(t.n+1) > len(t.slots) {
		old := t.slots
		*t = *newPairTable(len(old))
		for _, s := range old {
			if s.used {
				t.put(pair{uint32(s.key >> 32), uint32(s.key)}, s.value)
			}
		}
	}
	key := p.key()
	mask := uint64(len(t.slots) - 1)
	at := key * hashMultiplier >> t.shift
	for t.slots[at].used && t.slots[at].key != key {
		at = (at + 1) & mask
	}
	if !t.slots[at].used {
		t.n++
	}
	t.slots[at] = pairSlot{key, value, true}
}
