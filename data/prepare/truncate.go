package prepare

import (
	"bytes"
	"unicode/utf8"

	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// truncate shortens a split to at most limit tokens, at a line end if there is
// one. The split was chosen by its number of words; another tokenizer may make
// more tokens of it.
func truncate(s *spool, extents []extent, t tokenizer.Tokenizer, limit int64) ([]extent, error) {
	c := tokenCounter{encoder: t.NewEncoder()}
	separator := int64(0)
	if _, ok := t.Separator(); ok {
		separator = 1
	}
	var kept []extent
	for _, e := range extents {
		if len(kept) > 0 {
			limit -= separator
		}
		whole, most := true, limitBytes(limit)
		if e.size() > most {
			e.end, whole = e.start+most, false
		}
		var err error
		if c.text, err = s.read(e, c.text); err != nil {
			return nil, err
		}
		n, err := c.count(len(c.text))
		if err != nil {
			return nil, err
		}
		if !whole || n > limit {
			fits, err := c.longest(limit)
			if err != nil || fits == 0 {
				return kept, err
			}
			return append(kept, extent{e.start, e.start + int64(fits)}), nil
		}
		kept = append(kept, e)
		limit -= n
	}
	return kept, nil
}

// tokenCounter counts the tokens of a text's prefixes.
type tokenCounter struct {
	encoder tokenizer.Encoder
	text    []byte
	ids     []uint32
}

func (c *tokenCounter) count(n int) (_ int64, err error) {
	c.ids, err = c.encoder.Encode(c.ids[:0], c.text[:n], tokenizer.Document)
	return int64(len(c.ids)), err
}

// longest returns the length of the longest prefix with at most limit tokens,
// by binary search.
func (c *tokenCounter) longest(limit int64) (best int, err error) {
	for low, high := 0, len(c.text); low+1 < high; {
		middle := (low + high) / 2
		head := shorten(c.text, middle)
		n, err := c.count(head)
		if err != nil {
			return 0, err
		}
		if n <= limit {
			low, best = middle, max(best, head)
		} else {
			high = max(head, low+1)
		}
	}
	return best, nil
}

// shorten returns the last place at or before n where text may end: after a
// line end, else after a space, else after a character.
func shorten(text []byte, n int) int {
	for _, mark := range []byte{'\n', ' '} {
		if i := bytes.LastIndexByte(text[:n], mark); i >= 0 {
			return i + 1
		}
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return n
}
