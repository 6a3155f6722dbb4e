package tokenizer

import (
	"math"

	"golang.org/x/text/unicode/norm"
)

// shortPiece is the longest piece that is merged by looking at every pair;
// longer ones take a heap.
const shortPiece = 64

type bpeEncoder struct {
	t       *BPE
	cache   *pieceCache
	symbols [shortPiece]uint32
	ranks   [shortPiece]uint32
	long    longMerger
}

func (t *BPE) NewEncoder() Encoder {
	e := &bpeEncoder{t: t}
	e.cache = newPieceCache(e.merge)
	return e
}

func (e *bpeEncoder) Cut(text []byte) int {
	return e.t.cutAround(text, func(text []byte) int {
		n := e.t.splitter.cut(text)
		// Characters are composed across other cuts, but not with a space.
		for e.t.nfc && n > 0 && text[n] != ' ' {
			n = e.t.splitter.cut(text[:n])
		}
		return n
	})
}

func (e *bpeEncoder) Encode(dst []uint32, text []byte) ([]uint32, error) {
	return e.t.encodeAround(dst, text, e.encode), nil
}

// encode encodes text without added tokens in it.
func (e *bpeEncoder) encode(dst []uint32, text []byte) []uint32 {
	if e.t.nfc {
		text = norm.NFC.Bytes(text)
	}
	if gpt2, ok := e.t.splitter.(gpt2Splitter); ok { // called directly, not through the interface
		for i := 0; i < len(text); {
			end := gpt2.next(text, i)
			dst = e.cache.append(dst, text, i, end)
			i = end
		}
		return dst
	}
	for i := 0; i < len(text); {
		end := e.t.splitter.next(text, i)
		dst = e.cache.append(dst, text, i, end)
		i = end
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
