package tokenizer

import "math/bits"

// pair is two ids that stand beside each other.
type pair struct{ left, right uint32 }

func (p pair) key() uint64 { return uint64(p.left)<<32 | uint64(p.right) }

// pairTable maps pairs to numbers. It is read far more often than the
// encoder reads anything else; a map[pair]uint32 takes three times as long.
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
