package prepare

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
)

// fit moves text of valid and test to train until both have at most their numbers of
// tokens. They were chosen by an estimate, because a tokenizer is known only after it
// was trained on train. No text is lost.
func (se splitEncoder) fit(ctx context.Context, splits map[string][]extent, by string, opts Options) error {
	if by == "documents" {
		for _, name := range []string{"valid", "test"} {
			if limit := opts.limit(name); limit > 0 {
				if err := se.fitDocuments(ctx, splits, name, limit, opts.Seed); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, unit := range units {
		if unit.name == by {
			return se.fitLines(ctx, splits, unit.mark, opts)
		}
	}
	return nil
}

// fitDocuments keeps documents drawn from the seed that have at most limit tokens
// together, and gives the others to train.
func (se splitEncoder) fitDocuments(ctx context.Context, splits map[string][]extent, name string, limit int64, seed uint64) error {
	documents, ordered := splits[name], slices.IsSortedFunc(splits["train"], byStart)
	c := se.counter()
	sizes, total := make([]int64, len(documents)), int64(0)
	for i, d := range documents {
		var err error
		if sizes[i], err = c.count(ctx, d); err != nil {
			return err
		}
		total += sizes[i]
	}
	if total <= limit {
		return nil
	}
	taken, err := fit(shuffled(len(documents), seed, 0x666974), limit, func(i int32) (int64, error) { return sizes[i], nil })
	if err != nil {
		return err
	}
	slices.Sort(taken)
	var kept []extent
	for i, d := range documents {
		if _, found := slices.BinarySearch(taken, int32(i)); !found {
			splits["train"] = append(splits["train"], d)
			continue
		}
		if sizes[i] > limit { // the only one: it is divided
			head, _, err := se.prefix(ctx, []extent{d}, limit)
			if err != nil {
				return err
			}
			if head == 0 {
				return fmt.Errorf("--%s %d is too few tokens for any text", name, limit)
			}
			splits["train"] = append(splits["train"], extent{d.start + head, d.end})
			d.end = d.start + head
		}
		kept = append(kept, d)
	}
	if splits[name] = kept; ordered {
		slices.SortFunc(splits["train"], byStart)
	}
	return nil
}

func byStart(a, b extent) int { return cmp.Compare(a.start, b.start) }

// prefix returns the number of bytes and tokens of the longest text that has at most
// limit tokens at the start of the extents.
func (se splitEncoder) prefix(ctx context.Context, extents []extent, limit int64) (bytes, tokens int64, err error) {
	var done counted
	err = se.each(ctx, extents, limit, &done, noProgress{}, func(int64, *piece) error { return nil })
	return done.Stats.Bytes, done.Stats.Tokens, err
}

// counter counts the tokens of documents.
type counter struct {
	splitEncoder
	encoder *pieceEncoder
	piece   piece
}

func (se splitEncoder) counter() *counter {
	return &counter{splitEncoder: se, encoder: newPieceEncoder(se.t, se.frame)}
}

// count returns the number of a document's tokens with those around it.
func (c *counter) count(ctx context.Context, e extent) (n int64, err error) {
	if e.size() > pieceSize {
		_, n, err = c.prefix(ctx, []extent{e}, math.MaxInt64)
		if c.frame.separator >= 0 {
			n++
		}
		return n, err
	}
	p := &c.piece
	if p.text, err = c.spool.append(p.text[:0], e); err != nil {
		return 0, err
	}
	p.spans = append(p.spans[:0], span{end: len(p.text), begins: true, ends: true})
	err = c.encoder.encode(p)
	return p.stats.Tokens, err
}

// fitLines shortens valid and test at their starts: the text before goes to the split
// before, so that train, valid and test stay one text.
func (se splitEncoder) fitLines(ctx context.Context, splits map[string][]extent, mark byte, opts Options) error {
	documents := se.spool.joined(slices.Concat(splits["train"], splits["valid"], splits["test"]))
	end := documents[len(documents)-1].end
	for _, name := range []string{"test", "valid"} {
		if len(splits[name]) == 0 {
			continue
		}
		start := splits[name][0].start
		if limit := opts.limit(name); limit > 0 {
			var err error
			if start, err = se.suffix(ctx, documents, start, end, limit, mark); err != nil {
				return err
			}
			if start == end {
				return fmt.Errorf("--%s %d is too few tokens for any text", name, limit)
			}
		}
		splits[name] = clip(documents, start, end)
		end = start
	}
	splits["train"] = clip(documents, 0, end)
	return nil
}

// suffix returns the first place from start on, after a mark if there is one, from
// which the text up to end has at most limit tokens.
func (se splitEncoder) suffix(ctx context.Context, documents []extent, start, end, limit int64, mark byte) (int64, error) {
	for {
		text := clip(documents, start, end)
		_, tokens, err := se.prefix(ctx, text, math.MaxInt64)
		if err != nil || tokens <= limit {
			return start, err
		}
		// The place where the surplus ends. The text after it may have a few tokens
		// more than are left of the whole, so it is counted again.
		n, _, err := se.prefix(ctx, text, tokens-limit)
		if err != nil {
			return 0, err
		}
		place := at(text, n)
		if start, err = se.after(place+1, end, mark); err != nil {
			return 0, err
		}
	}
}

// after returns the first place from place on where a text may start: after a mark,
// else after a space, else at a character; end if there is none.
func (se splitEncoder) after(place, end int64, mark byte) (int64, error) {
	for _, mark := range []byte{mark, ' ', anywhere} {
		next, err := lineFinder{s: se.spool, end: end, mark: mark}.next(place)
		if err != nil || next < end {
			return next, err
		}
	}
	return end, nil
}

// at returns the place in the spool of byte n of the extents.
func at(extents []extent, n int64) int64 {
	for _, e := range extents {
		if n < e.size() {
			return e.start + n
		}
		n -= e.size()
	}
	return extents[len(extents)-1].end
}

// joined joins the parts of a document that follow each other.
func (s *spool) joined(extents []extent) []extent {
	var whole []extent
	for _, e := range extents {
		last := len(whole) - 1
		if last >= 0 && whole[last].end == e.start {
			if _, ends := slices.BinarySearch(s.ends, e.start); !ends {
				whole[last].end = e.end
				continue
			}
		}
		whole = append(whole, e)
	}
	return whole
}
