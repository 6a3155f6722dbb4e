package prepare

import (
	"bytes"
	"unicode/utf8"

	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// truncate shortens a split to at most limit tokens, at a line end if there is
// one. The text was chosen by its words; of other tokens it may have more.
func truncate(s *spool, extents []extent, t tokenizer.Tokenizer, limit int64) ([]extent, error) {
	var (
		encoder   = t.NewEncoder()
		separator = int64(0)
		kept      []extent
		text      []byte
		ids       []uint32
		err       error
	)
	if _, ok := t.Separator(); ok {
		separator = 1
	}
	for _, e := range extents {
		if len(kept) > 0 {
			limit -= separator
		}
		if text, err = s.read(e, text); err != nil {
			return nil, err
		}
		whole := true
		for len(text) > 0 {
			if ids, err = encoder.Encode(ids[:0], text); err != nil {
				return nil, err
			}
			n := int64(len(ids))
			if n <= limit {
				limit -= n
				kept = append(kept, extent{e.start, e.start + int64(len(text))})
				break
			}
			whole = false
			text = shorten(text, int(float64(len(text))*float64(max(limit, 0))/float64(n)))
		}
		if !whole {
			break
		}
	}
	return kept, nil
}

// shorten cuts text to at most n bytes, at a line end, else a space, else a
// character.
func shorten(text []byte, n int) []byte {
	n = min(n, len(text)-1)
	head := text[:n]
	for _, mark := range []byte{'\n', ' '} {
		if i := bytes.LastIndexByte(head, mark); i >= 0 {
			return head[:i+1]
		}
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
