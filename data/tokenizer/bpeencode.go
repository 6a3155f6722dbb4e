package tokenizer

import "math"

// Limits of the cache of an encoder: pieces longer than cachedPiece seldom
// come again, and a text of ever new pieces must not fill the memory.
const (
	cachedPiece  = 64
	cachedPieces = 1 << 18
)

// shortPiece is the longest piece that is merged by looking at every pair;
// longer ones take a heap.
const shortPiece = 64

// bpeEncoder encodes with a cache of pieces: most are words that came before.
type bpeEncoder struct {
	t      *BPE
	pieces *table
	// cached holds for each piece either its one id, or where in ids its
	// ids start and how many there are: count<<32 | id or place.
	cached []uint64
	ids    []uint32

	symbols [shortPiece]uint32
	ranks   [shortPiece]uint32
	long    longMerger
}

func (t *BPE) NewEncoder() Encoder {
	e := &bpeEncoder{t: t}
	e.reset()
	return e
}

func (e *bpeEncoder) reset() {
	e.pieces, e.cached, e.ids = newTable(1<<12), e.cached[:0], e.ids[:0]
}

func (e *bpeEncoder) Cut(text []byte) int {
	m := e.t.matcher
	for end := len(text); ; {
		cut := e.t.splitter.cut(text[:end])
		if cut == 0 || m == nil || !m.crosses(text, cut) {
			return cut
		}
		end = cut
	}
}

func (e *bpeEncoder) Encode(dst []uint32, text []byte) ([]uint32, error) {
	if e.t.matcher == nil {
		return e.encode(dst, text), nil
	}
	e.t.matcher.split(text,
		func(plain []byte) { dst = e.encode(dst, plain) },
		func(id uint32) { dst = append(dst, id) })
	return dst, nil
}

// encode encodes text without added tokens in it.
func (e *bpeEncoder) encode(dst []uint32, text []byte) []uint32 {
	if gpt2, ok := e.t.splitter.(gpt2Splitter); ok { // called directly, not through the interface
		for i := 0; i < len(text); {
			end := gpt2.next(text, i)
			dst = e.appendPiece(dst, text[i:end])
			i = end
		}
		return dst
	}
	for i := 0; i < len(text); {
		end := e.t.splitter.next(text, i)
		dst = e.appendPiece(dst, text[i:end])
		i = end
	}
	return dst
}

func (e *bpeEncoder) appendPiece(dst []uint32, piece []byte) []uint32 {
	if len(piece) > cachedPiece {
		return e.merge(dst, piece)
	}
	head := head8(piece)
	hash := e.pieces.hash(head, piece)
	if at, ok := e.pieces.lookup(head, hash, piece); ok {
		value := e.cached[at]
		if count := value >> 32; count != 1 {
			return append(dst, e.ids[uint32(value):][:count]...)
		}
		return append(dst, uint32(value))
	}
	from := len(dst)
	dst = e.merge(dst, piece)
	if e.pieces.len() == cachedPieces {
		e.reset()
	}
	e.pieces.add(piece)
	count := uint64(len(dst) - from)
	if count == 1 {
		e.cached = append(e.cached, 1<<32|uint64(dst[from]))
	} else {
		e.cached = append(e.cached, count<<32|uint64(len(e.ids)))
		e.ids = append(e.ids, dst[from:]...)
	}
	return dst
}

const noRank = math.MaxUint32

// rank is the rank of a pair, noRank if it was not learned.
func (t *BPE) rank(left, right uint32) uint32 {
	if rank, ok := t.ranks.get(pair{left, right}); ok {
		return rank
	}
	return noRank
}

// merge appends the ids of a piece.
func (e *bpeEncoder) merge(dst []uint32, piece []byte) []uint32 {
	t := e.t
	if t.whole {
		if id, ok := t.byID[spell(piece)]; ok && int(id) < t.model {
			return append(dst, id)
		}
	}
	if len(piece) > shortPiece {
		return e.long.merge(t, dst, piece)
	}
	n := len(piece)
	symbols, ranks := e.symbols[:n], e.ranks[:n]
	for i, b := range piece {
		symbols[i] = t.bytes[b]
	}
	for i := range n - 1 {
		ranks[i] = t.rank(symbols[i], symbols[i+1])
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
		symbols[at] = t.merges[best].to
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
