package prepare

import (
	"bytes"
	"slices"
)

// lineFinder finds line ends in the spool: after a mark, and at the end of a
// document.
type lineFinder struct {
	s     *spool
	end   int64
	mark  byte // '\n', ' ' for text with hardly any lines, or anywhere
	words bool // tokens are words
}

// anywhere is the mark of text with hardly any spaces either: it is cut between
// characters.
const anywhere = 0xff

// step is the size of the pieces of text without marks.
const step = 64

// window is how much of the spool is read at a time.
const window = 1 << 18

// tail returns the start of the last lines before end that make up the share of
// the text: at least one line, and never all of the text.
func (l lineFinder) tail(end int64, share Share, total int64) (int64, error) {
	switch {
	case share == 0:
		return end, nil
	case share.limit() > 0:
		return l.tailTokens(end, share.limit())
	}
	start, err := l.next(end - int64(share.fraction()*float64(total)))
	if err != nil {
		return 0, err
	}
	if start >= end {
		return l.previous(end)
	}
	return start, nil
}

// next returns the first line end at or after place.
func (l lineFinder) next(place int64) (int64, error) {
	if place <= 0 {
		return 0, nil
	}
	i, _ := slices.BinarySearch(l.s.ends, place)
	limit := l.end
	if i < len(l.s.ends) {
		limit = min(limit, l.s.ends[i])
	}
	if l.mark == anywhere {
		return l.s.character(place, limit)
	}
	for at := place - 1; at < limit; at += window {
		text, err := l.s.read(extent{at, min(limit, at+window)}, nil)
		if err != nil {
			return 0, err
		}
		if i := bytes.IndexByte(text, l.mark); i >= 0 {
			return at + int64(i) + 1, nil
		}
	}
	return limit, nil
}

// previous returns the last line end before place, or 0.
func (l lineFinder) previous(place int64) (int64, error) {
	i, _ := slices.BinarySearch(l.s.ends, place)
	limit := int64(0)
	if i > 0 {
		limit = l.s.ends[i-1]
	}
	if l.mark == anywhere {
		return l.s.character(max(limit, place-step), place)
	}
	for at, size := place-1, int64(1<<12); at > limit; at, size = at-size, min(2*size, window) {
		from := max(limit, at-size)
		text, err := l.s.read(extent{from, at}, nil)
		if err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(text, l.mark); i >= 0 {
			return from + int64(i) + 1, nil
		}
	}
	return limit, nil
}

// tailTokens returns the start of the last lines before end that have at most
// limit tokens by estimate. It takes one line even if that has more.
func (l lineFinder) tailTokens(end, limit int64) (int64, error) {
	start := end
	for start > 0 {
		line, err := l.previous(start)
		if err != nil {
			return 0, err
		}
		if start-line > limitBytes(limit) {
			if start == end {
				return 0, errShort
			}
			break
		}
		text, err := l.s.read(extent{line, start}, nil)
		if err != nil {
			return 0, err
		}
		limit -= estimate(text, l.words)
		if _, ends := slices.BinarySearch(l.s.ends, start); !ends && text[len(text)-1] != '\n' {
			limit++ // the line goes on
		}
		if limit < 0 && start < end {
			break
		}
		start = line
	}
	return start, nil
}
