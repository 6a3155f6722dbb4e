package tokenizer

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// table numbers distinct byte strings 0, 1, 2, ... in the order of insertion.
// Unlike a map[string]int it does not allocate for each key, and it keeps a
// key's first eight bytes in its hash slot: most words of most languages are no
// longer, so one comparison decides.
type table struct {
	slots []slot
	keys  []key
	arena []byte
	seed  uint64
}

type slot struct {
	head uint64 // the first eight bytes, little-endian, zero-padded
	size uint32 // the length of the key
	id   uint32 // its number plus one; 0 marks a free slot
}

type key struct {
	offset uint64
	size   uint32
}

const hashMultiplier = 0x9e3779b97f4a7c15

func newTable(capacity int) *table {
	size := 1 << 10
	for size < 2*capacity {
		size *= 2
	}
	// The random seed keeps a text from being able to force the worst case.
	return &table{slots: make([]slot, size), seed: rand.Uint64() | 1}
}

func (t *table) len() int { return len(t.keys) }

// clear removes all keys, and keeps the memory.
func (t *table) clear() {
	clear(t.slots)
	t.keys, t.arena = t.keys[:0], t.arena[:0]
}

// bytes returns the key with this number; it must not be changed.
func (t *table) bytes(id uint32) []byte {
	k := t.keys[id]
	return t.arena[k.offset : k.offset+uint64(k.size)]
}

// head8 packs the first eight bytes of word.
func head8(word []byte) uint64 {
	if len(word) >= 8 {
		return binary.LittleEndian.Uint64(word)
	}
	var head uint64
	for i := len(word) - 1; i >= 0; i-- {
		head = head<<8 | uint64(word[i])
	}
	return head
}

// headOf is head8 of text[start:end]. It reads eight bytes at once if text is
// long enough.
func headOf(text []byte, start, end int) uint64 {
	if size := end - start; size < 8 && start+8 <= len(text) {
		return binary.LittleEndian.Uint64(text[start:]) & (1<<(8*size) - 1)
	}
	return head8(text[start:end])
}

func (t *table) hash(head uint64, word []byte) uint64 {
	high, low := bits.Mul64(head^t.seed, hashMultiplier^uint64(len(word)))
	h := high ^ low
	for len(word) > 8 {
		word = word[8:]
		high, low = bits.Mul64(head8(word)^h, hashMultiplier)
		h = high ^ low
	}
	return h ^ h>>29
}

// find returns the number of word. It copies nothing.
func (t *table) find(word []byte) (id uint32, ok bool) { return t.findIn(word, 0, len(word)) }

// findIn returns the number of text[start:end].
func (t *table) findIn(text []byte, start, end int) (id uint32, ok bool) {
	head, word := headOf(text, start, end), text[start:end]
	return t.lookup(head, t.hash(head, word), word)
}

func (t *table) lookup(head, hash uint64, word []byte) (id uint32, ok bool) {
	mask := uint64(len(t.slots) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		s := &t.slots[at]
		if s.id == 0 {
			return 0, false
		}
		if s.head == head && int(s.size) == len(word) &&
			(len(word) <= 8 || bytes.Equal(t.bytes(s.id-1), word)) {
			return s.id - 1, true
		}
	}
}

// add returns the number of word, and inserts word if it is new.
func (t *table) add(word []byte) (id uint32, fresh bool) { return t.addIn(word, 0, len(word)) }

// addIn returns the number of text[start:end], and inserts it if it is new.
func (t *table) addIn(text []byte, start, end int) (id uint32, fresh bool) {
	head, word := headOf(text, start, end), text[start:end]
	hash := t.hash(head, word)
	if id, ok := t.lookup(head, hash, word); ok {
		return id, false
	}
	if 2*(len(t.keys)+1) > len(t.slots) {
		t.grow()
	}
	id = uint32(len(t.keys))
	t.keys = append(t.keys, key{offset: uint64(len(t.arena)), size: uint32(len(word))})
	t.arena = append(t.arena, word...)
	t.place(slot{head: head, size: uint32(len(word)), id: id + 1}, hash)
	return id, true
}

func (t *table) place(s slot, hash uint64) {
	mask := uint64(len(t.slots) - 1)
	at := hash & mask
	for t.slots[at].id != 0 {
		at = (at + 1) & mask
	}
	t.slots[at] = s
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]slot, 2*len(old))
	for _, s := range old {
		if s.id != 0 {
			t.place(s, t.hash(s.head, t.bytes(s.id-1)))
		}
	}
}
