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
type shortCache struct {
	lines [][2]shortSlot
	leads *[256]bool // bytes that may stand before the letters of a word
	cased bool       // letters are one word if all but the first are small and no apostrophe follows
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
	return &shortCache{leads: s.leads(), cased: s.cased()}
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

// capitals reports whether one of n ASCII letters after the first is a capital.
func capitals(text []byte, n int) bool {
	low, high := binary.LittleEndian.Uint64(text), binary.LittleEndian.Uint64(text[8:])
	mask := &masks[n]
	return (^low&mask[0]&^0xff|^high&mask[1])&(0x20*eachByte) != 0
}

// section appends the ids of all pieces of text.
func (c *shortCache) section(dst []uint32, text []byte, s splitter, slow *pieceCache) (_ []uint32, err error) {
	if c.lines == nil && len(text) >= shortFrom {
		c.lines = make([][2]shortSlot, 1<<shortBits)
		clear(c.lines) // written before they are read, pages fault once
	}
	gpt2, isGPT2 := s.(gpt2Splitter) // called directly, not through the interface
	for i := 0; i < len(text); {
		end, known := 0, i+shortKey+8 <= len(text) && c.lines != nil
		var low, high uint64
		if known {
			low, high = binary.LittleEndian.Uint64(text[i:]), binary.LittleEndian.Uint64(text[i+8:])
			lead := 0
			if c.leads[text[i]] {
				lead = 1
			}
			n := bits.TrailingZeros64(notLetters(binary.LittleEndian.Uint64(text[i+lead:]))) / 8
			if n == 8 {
				n += bits.TrailingZeros64(notLetters(binary.LittleEndian.Uint64(text[i+lead+8:]))) / 8
			}
			if n > 0 && n < shortKey && text[i+lead+n] < 0x80 { // the letters end
				end = i + lead + n
				if c.cased && (text[end] == '\'' || capitals(text[i+lead:], n)) {
					end = 0
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
		if !known {
			if dst, err = slow.append(dst, text, i, end); err != nil {
				return dst, err
			}
			i = end
			continue
		}
		mask := &masks[end-i]
		low, high = low&mask[0], high&mask[1]
		line := &c.lines[(low^bits.RotateLeft64(high, 29)*hashMultiplier)*hashMultiplier>>(64-shortBits)]
		slot := &line[0]
		if other := &line[1]; other.low == low && other.high == high {
			*slot, *other = *other, *slot
		}
		at := len(dst)
		switch {
		case slot.low != low || slot.high != high: // a free slot has no piece's key
			if dst, err = slow.encode(dst, text[i:end]); err != nil {
				return dst, err
			}
			line[1] = *slot
			*slot = shortSlot{low: low, high: high, count: uint32(len(dst) - at)}
			copy(slot.ids[:], dst[at:])
		case int(slot.count) > len(slot.ids):
			if dst, err = slow.append(dst, text, i, end); err != nil {
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
		i = end
	}
	return dst, nil
}
