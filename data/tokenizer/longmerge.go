package tokenizer

// longMerger merges a piece of n bytes in n log n steps: the symbols are a
// linked list, and a heap holds the pairs that can be merged, by rank and
// then by place.
type longMerger struct {
	symbols []symbol
	heap    []candidate
}

type symbol struct {
	id         uint32 // noRank once it was merged into the one before it
	prev, next int32  // -1 at the ends
}

type candidate struct {
	rank uint32
	at   int32 // the left symbol
	pair pair  // what the pair was when it was found
}

func (c candidate) before(o candidate) bool {
	if c.rank != o.rank {
		return c.rank < o.rank
	}
	return c.at < o.at
}

func (m *longMerger) merge(t *BPE, dst []uint32, piece []byte) []uint32 {
	m.symbols, m.heap = m.symbols[:0], m.heap[:0]
	for i, b := range piece {
		m.symbols = append(m.symbols, symbol{t.bytes[b], int32(i) - 1, int32(i) + 1})
	}
	m.symbols[len(piece)-1].next = -1
	for i := range len(piece) - 1 {
		m.push(t, int32(i))
	}
	for len(m.heap) > 0 {
		c := m.pop()
		left := &m.symbols[c.at]
		if left.id != c.pair.left || left.next < 0 || m.symbols[left.next].id != c.pair.right {
			continue // one of the two was merged since
		}
		right := &m.symbols[left.next]
		left.id, left.next, right.id = t.merges[c.rank].to, right.next, noRank
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

// push adds the pair of a symbol and the next one, if it was learned.
func (m *longMerger) push(t *BPE, at int32) {
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
