package tokenizer

import (
	"slices"
	"unicode/utf8"
)

// A long piece of BPE is encoded in parts that give the ids of the whole.
//
// Ids are the encoding of their text if and only if every two neighbours among them are
// the encoding of their own text: a merge reads nothing but two neighbours, so what
// stands further away can delay it but not change it. Three things follow.
//   - The last token of the encoding of each prefix of a piece follows from the last
//     tokens of shorter prefixes: it is the one token that ends there and agrees with the
//     last token before it.
//   - However the piece goes on, the encoding of the whole starts with the encoding of a
//     prefix whose end lies less than a token before the end of the known text. A place
//     that all these encodings have as a boundary is settled.
//   - The rest after a boundary is encoded as if a piece began there.

// longPiece is the number of bytes of a piece above which it is encoded in parts.
const longPiece = 1 << 16

// longestToken is the number of symbols above which a token keeps pieces from being
// encoded in parts: at each symbol all tokens that may begin there are tried.
const longestToken = 512

// settler finds settled boundaries for one goroutine.
type settler struct {
	m       *bpe
	tree    *tokenTree
	symbols []uint32
	places  []int32 // where each symbol starts in the piece, and the end
	last    []uint32
	starts  []int32 // of the last token of each prefix
	open    []bool
	agreed  *pairTable // pair of tokens -> 1 if they are the encoding of their text
	joined  []uint32
	ids     []uint32
	merger  longMerger
}

// tokenTree holds the tokens that merges make by their symbols.
type tokenTree struct {
	next    *pairTable // (node, symbol) -> node
	ends    []uint32   // by node: the token that ends there, or noID
	spelled [][]uint32 // by id: the symbols of a token, nil of one that no text becomes
	longest int        // symbols of a token
}

// newTokenTree returns nil for a model with tokens of which it does not know the symbols.
func newTokenTree(m *bpe) *tokenTree {
	if m.prefix != "" || m.suffix != "" {
		return nil
	}
	t := &tokenTree{next: newPairTable(4 * len(m.merges.to)), ends: []uint32{noID}, spelled: make([][]uint32, len(m.vocab.written))}
	known := func(symbol uint32) bool { return int(symbol) < len(t.spelled) }
	base := func(symbol uint32) {
		if known(symbol) && t.spelled[symbol] == nil {
			t.add(symbol, []uint32{symbol})
		}
	}
	if m.bytes != nil {
		for b, id := range m.bytes {
			if inUTF8(byte(b)) {
				base(id)
			}
		}
	} else {
		for _, s := range m.chars.slots {
			if s.used {
				base(s.value)
			}
		}
	}
	if m.fallback != nil {
		for _, id := range m.fallback {
			base(id)
		}
	}
	// A merge may stand before those that make its parts.
	merges := make([]pair, len(m.merges.to))
	for _, s := range m.merges.slots {
		if s != freeSlot {
			left, right, rank := unpackMerge(s)
			merges[rank] = pair{left, right}
		}
	}
	for again := true; again; {
		again = false
		for rank, p := range merges {
			to := m.merges.to[rank]
			if !known(to) || !known(p.left) || !known(p.right) || t.spelled[p.left] == nil || t.spelled[p.right] == nil {
				continue
			}
			symbols := slices.Concat(t.spelled[p.left], t.spelled[p.right])
			switch old := t.spelled[to]; {
			case len(symbols) > longestToken:
				return nil
			case old == nil:
				t.add(to, symbols)
				again = true
			case !slices.Equal(old, symbols): // one token of two kinds of symbols
				return nil
			}
		}
	}
	return t
}

func (t *tokenTree) add(token uint32, symbols []uint32) {
	node := uint32(0)
	for _, symbol := range symbols {
		edge := pair{node, symbol}
		next, ok := t.next.get(edge)
		if !ok {
			next = uint32(len(t.ends))
			t.ends = append(t.ends, noID)
			t.next.put(edge, next)
		}
		node = next
	}
	t.ends[node], t.spelled[token] = token, symbols
	t.longest = max(t.longest, len(symbols))
}

// settle returns the last settled boundary of a piece of which only the start is known:
// the number of its symbols before it, 0 if there is none. s.places has the boundary's
// place, and s.starts the boundary before it.
func (s *settler) settle(piece []byte) int {
	if s.tree == nil {
		s.tree, s.agreed = s.m.tree(), newPairTable(1<<10)
	}
	if s.tree == nil || !s.read(piece) {
		return 0
	}
	n := len(s.symbols)
	s.last, s.starts = refill(s.last, n+1, noID), refill(s.starts, n+1, -1)
	for from := range n {
		before := s.last[from]
		if from > 0 && before == noID {
			continue
		}
		node := uint32(0)
		for end := from + 1; end <= n; end++ {
			var ok bool
			if node, ok = s.tree.next.get(pair{node, s.symbols[end-1]}); !ok {
				break
			}
			token := s.tree.ends[node]
			if token != noID && s.last[end] == noID && s.agree(before, token) {
				s.last[end], s.starts[end] = token, int32(from)
			}
		}
	}
	// The boundaries before each place where the last token may begin, from the end back,
	// until only one is left.
	s.open = refill(s.open, n+1, false)
	open := 0
	for at := max(0, n-s.tree.longest+1); at <= n; at++ {
		if at == 0 || s.starts[at] >= 0 {
			s.open[at] = true
			open++
		}
	}
	for at := n; at > 0; at-- {
		if !s.open[at] {
			continue
		}
		if open == 1 && s.whole(piece, at) {
			return at
		}
		if before := s.starts[at]; !s.open[before] {
			s.open[before] = true
		} else {
			open--
		}
	}
	return 0
}

// append appends the encoding of the first n symbols.
func (s *settler) append(dst []uint32, n int) []uint32 {
	from := len(dst)
	for at := int32(n); at > 0; at = s.starts[at] {
		dst = append(dst, s.last[at])
	}
	slices.Reverse(dst[from:])
	return dst
}

func (s *settler) place(n int) int { return int(s.places[n]) }

func (s *settler) before(n int) int { return int(s.starts[n]) }

// refill returns a slice of n values v.
func refill[T any](s []T, n int, v T) []T {
	if cap(s) < n {
		s = make([]T, n)
	}
	s = s[:n]
	for i := range s {
		s[i] = v
	}
	return s
}

// whole reports whether a symbol starts at a character of the piece.
func (s *settler) whole(piece []byte, at int) bool {
	place := int(s.places[at])
	return place == len(piece) || utf8.RuneStart(piece[place])
}

// read sets the symbols of a piece.
func (s *settler) read(piece []byte) bool {
	m := s.m
	s.symbols, s.places = s.symbols[:0], s.places[:0]
	add := func(id uint32, place int) {
		s.symbols, s.places = append(s.symbols, id), append(s.places, int32(place))
	}
	for i := 0; i < len(piece); {
		if m.bytes != nil {
			add(m.bytes[piece[i]], i)
			i++
			continue
		}
		r, n := utf8.DecodeRune(piece[i:])
		if id, ok := m.chars.get(pair{uint32(r), 0}); ok && !(r == utf8.RuneError && n == 1) {
			add(id, i)
		} else if !m.complete {
			return false // unknown characters become one token, or none
		} else {
			for j := range n {
				add(m.fallback[piece[i+j]], i+j)
			}
		}
		i += n
	}
	s.places = append(s.places, int32(len(piece)))
	return true
}

// agree reports whether two tokens are the encoding of their text, or one if before is noID.
func (s *settler) agree(before, token uint32) bool {
	p := pair{before, token}
	if known, ok := s.agreed.get(p); ok {
		return known == 1
	}
	s.joined = s.joined[:0]
	if before != noID {
		s.joined = append(s.joined, s.tree.spelled[before]...)
	}
	s.joined = append(s.joined, s.tree.spelled[token]...)
	s.ids = s.merger.merge(s.m.merges, s.ids[:0], s.joined)
	ok := len(s.ids) == 1 && before == noID && s.ids[0] == token ||
		len(s.ids) == 2 && s.ids[0] == before && s.ids[1] == token
	if s.agreed.n > 1<<18 {
		s.agreed = newPairTable(1 << 10)
	}
	value := uint32(0)
	if ok {
		value = 1
	}
	s.agreed.put(p, value)
	return ok
}
