package tokenizer

import (
	"encoding/binary"
	"math/bits"
)

// shortCache encodes text that a splitter cuts into pieces, with a small cache of short
// pieces in front of the model's own. Most pieces are words of ASCII letters: for these
// two loads give the end of the word and the key, and one cache line the ids. Two pieces
// share a line; a third one replaces the one that was used less recently. To merge a piece
// again costs less than to look it up in a larger cache, which would not be in the CPU's.
//
// Pieces are taken in batches: all are cut before the first is looked up, and each asks for its
// line when it is cut. The lines then come from memory at the same time, not one by one.
type shortCache struct {
	lines *[1 << shortBits][2]shortSlot
	leads [256]uint8 // 1 for bytes that may stand before the letters of a word
	cased bool       // letters are one word if all but the first are small and no apostrophe follows
	batch [64]keyedPiece
}

// keyedPiece is a piece that is cut and not yet encoded.
type keyedPiece struct {
	low, high uint64
	size      uint32
	line      int32 // -1 if the piece is not for this cache
}

type shortSlot struct {
	low, high uint64 // the piece's bytes, zero-padded
	ids       [3]uint32
	count     uint32 // of ids; if it is more than three, the model's cache has them
}

const (
	shortBits = 16      // lines, as a power of two: 4 MB
	shortKey  = 16      // bytes
	shortFrom = 1 << 15 // the least text for which the cache is worth its memory
)

func (gpt2Splitter) leads() *[256]bool { return &[256]bool{' ': true} }

// leads are ASCII characters that are no letters, numbers, line ends, or apostrophes.
func (s cl100kSplitter) leads() *[256]bool {
	var is [256]bool
	for b := range 0x80 {
		class := s.all[b]
		is[b] = (class == classOther || class == classSpace) && b != '\r' && b != '\n' && b != '\''
	}
	return &is
}

func (gpt2Splitter) cased() bool { return false }

func (cl100kSplitter) cased() bool { return false }

func newShortCache(s splitter) *shortCache {
	c := &shortCache{cased: s.cased()}
	for b, leads := range s.leads() {
		if leads {
			c.leads[b] = 1
		}
	}
	return c
}

// masks keep the first n bytes of a piece of 16, as two words.
var masks = func() (m [shortKey + 1][2]uint64) {
	for n := range m {
		m[n] = [2]uint64{1<<(8*min(n, 8)) - 1, 1<<(8*max(n-8, 0)) - 1}
	}
	return m
}()

const (
	eachByte = 0x0101010101010101
	highBits = 0x80 * eachByte
)

// notLetters has the high bit of each byte that is not an ASCII letter.
func notLetters(word uint64) uint64 {
	folded := word&^highBits | 0x20*eachByte
	below, above := ^(folded + (0x80-'a')*eachByte), folded+(0x80-'z'-1)*eachByte
	return (below | above | word) & highBits
}

// capitals reports whether one of the ASCII letters from a place in the first word to a place
// in both is a capital.
func capitals(low, high uint64, from, to int) bool {
	mask := &masks[to]
	return (^low&(mask[0]&^masks[from][0])|^high&mask[1])&(0x20*eachByte) != 0
}

// section appends the ids of all pieces of text.
func (c *shortCache) section(dst []uint32, text []byte, s splitter, slow *pieceCache) (_ []uint32, err error) {
	if c.lines == nil && len(text) >= shortFrom {
		c.lines = new([1 << shortBits][2]shortSlot)
		clear(c.lines[:]) // written before they are read, pages fault once
	}
	for start := 0; start < len(text); {
		n := c.cut(text, start, s)
		if c.lines != nil {
			prefetchLines(c.lines, &c.batch[0], n)
		}
		for i := range c.batch[:n] {
			p := &c.batch[i]
			end := start + int(p.size)
			if p.line < 0 {
				if dst, err = slow.append(dst, text, start, end); err != nil {
					return dst, err
				}
				start = end
				continue
			}
			line := &c.lines[uint32(p.line)%(1<<shortBits)]
			slot := &line[0]
			if other := &line[1]; other.low == p.low && other.high == p.high {
				*slot, *other = *other, *slot
			}
			at := len(dst)
			switch {
			case slot.low != p.low || slot.high != p.high: // a free slot has no piece's key
				if dst, err = slow.encode(dst, text[start:end]); err != nil {
					return dst, err
				}
				line[1] = *slot
				*slot = shortSlot{low: p.low, high: p.high, count: uint32(len(dst) - at)}
				copy(slot.ids[:], dst[at:])
			case int(slot.count) > len(slot.ids):
				if dst, err = slow.append(dst, text, start, end); err != nil {
					return dst, err
				}
			default:
				if cap(dst)-at < len(slot.ids) {
					dst = append(dst, slot.ids[:]...)
				}
				dst = dst[:at+len(slot.ids)]
				dst[at], dst[at+1], dst[at+2] = slot.ids[0], slot.ids[1], slot.ids[2]
				dst = dst[:at+int(slot.count)]
			}
			start = end
		}
	}
	return dst, nil
}

// cut puts the next pieces of text from i into the batch, and returns their number.
func (c *shortCache) cut(text []byte, i int, s splitter) (n int) {
	gpt2, isGPT2 := s.(gpt2Splitter) // called directly, not through the interface
	for ; n < len(c.batch) && i < len(text); n++ {
		p := &c.batch[n]
		end, known := 0, i+shortKey+8 <= len(text) && c.lines != nil
		var low, high uint64
		if known {
			low, high = binary.LittleEndian.Uint64(text[i:]), binary.LittleEndian.Uint64(text[i+8:])
			// k is the first place after a lead that is no letter, without a branch for words
			// of more than eight bytes.
			lead := int(c.leads[text[i]])
			k := bits.TrailingZeros64(notLetters(low)&^(uint64(lead)<<7)) / 8
			k += bits.TrailingZeros64(notLetters(high)) / 8 & -(k >> 3)
			if k > lead && k < shortKey && text[i+k] < 0x80 { // the letters end
				if !c.cased || text[i+k] != '\'' && !capitals(low, high, lead+1, k) {
					end = i + k
				}
			}
		}
		if end == 0 {
			if isGPT2 {
				end = gpt2.next(text, i)
			} else {
				end = s.next(text, i)
			}
			// A zero at the end of a piece would be lost in the key, and no key is zero.
			known = known && end-i <= shortKey && text[end-1] != 0
		}
		p.size, p.line = uint32(end-i), -1
		if known {
			mask := &masks[end-i]
			p.low, p.high = low&mask[0], high&mask[1]
			p.line = int32((p.low ^ bits.RotateLeft64(p.high, 29)*hashMultiplier) * hashMultiplier >> (64 - shortBits))
		}
		i = end
	}
	return n
}
