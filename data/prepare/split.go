package prepare

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// wholeDocuments is the least number of documents for splits of whole documents.
// Fewer are divided at lines: one document of 20 is no sample of the rest.
const wholeDocuments = 100

// units are the units by which a text of few documents is divided, and the mark after
// each: the first is used of which the text has enough.
var units = []struct {
	name string
	mark byte
}{{"lines", '\n'}, {"words", ' '}, {"characters", anywhere}}

// divide gives valid and test their shares of the text. It returns the extents of
// each split, and the unit by which the text was divided. words says that the tokens
// are words.
func divide(s *spool, documents []extent, valid, test Share, seed uint64, words bool) (splits map[string][]extent, by string, err error) {
	switch n := len(documents); {
	case valid == 0 && test == 0:
		return map[string][]extent{"train": documents}, "none", nil
	case n >= wholeDocuments:
		splits, err = divideDocuments(s, documents, valid, test, seed, words)
		return splits, "documents", err
	}
	if !slices.IsSortedFunc(documents, func(a, b extent) int { return int(a.start - b.start) }) {
		return nil, "", fmt.Errorf("a mix of %d documents is too small for valid and test to be drawn from: use --valid 0 --test 0, or --valid-file and --test-file", len(documents))
	}
	for _, unit := range units {
		if splits, err = divideLines(s, documents, valid, test, unit.mark, words); !errors.Is(err, errShort) {
			return splits, unit.name, err
		}
	}
	return nil, "", err
}

// errShort is the error for a text with fewer lines or words than splits.
var errShort = errors.New("the text is too short to be divided: use --valid 0 --test 0, or --valid-file and --test-file")

// divideDocuments draws documents in a random order from the seed. Each split
// keeps the order of the corpus.
func divideDocuments(s *spool, documents []extent, valid, test Share, seed uint64, words bool) (map[string][]extent, error) {
	drawn := shuffled(len(documents), seed, 0x6b6f616c61)
	total := totalSize(documents)
	splits := map[string][]extent{}
	for _, want := range []struct {
		name  string
		share Share
	}{{"valid", valid}, {"test", test}} {
		if want.share == 0 {
			continue
		}
		measure, room := func(e extent) (int64, error) { return e.size(), nil }, int64(want.share.fraction()*float64(total))
		if limit := want.share.limit(); limit > 0 {
			measure, room = func(e extent) (int64, error) { return s.estimate(e, limit, words) }, limit
		}
		taken, err := fit(drawn, room, func(i int32) (int64, error) { return measure(documents[i]) })
		if err != nil {
			return nil, err
		}
		slices.Sort(taken)
		for _, i := range taken {
			splits[want.name] = append(splits[want.name], documents[i])
		}
		drawn = slices.DeleteFunc(drawn, func(i int32) bool {
			_, found := slices.BinarySearch(taken, i)
			return found
		})
	}
	slices.Sort(drawn)
	for _, i := range drawn {
		splits["train"] = append(splits["train"], documents[i])
	}
	return splits, nil
}

// sample returns about this fraction of the text: documents drawn in an order from the
// seed, or the head of a text of few documents, up to a line end.
func sample(s *spool, documents []extent, fraction float64, seed uint64) ([]extent, error) {
	room := int64(fraction * float64(totalSize(documents)))
	if len(documents) < wholeDocuments {
		last := documents[len(documents)-1].end
		end, err := lineFinder{s: s, end: last, mark: '\n'}.next(at(documents, max(room, 1)))
		return clip(documents, 0, end), err
	}
	drawn := shuffled(len(documents), seed, 0x73616d706c65)
	taken, err := fit(drawn, room, func(i int32) (int64, error) { return documents[i].size(), nil })
	slices.Sort(taken)
	kept := make([]extent, len(taken))
	for i, document := range taken {
		kept[i] = documents[document]
	}
	return kept, err
}

// shuffled returns the numbers below n in an order that depends on seed and use alone.
func shuffled(n int, seed, use uint64) []int32 {
	drawn := make([]int32, n)
	for i := range drawn {
		drawn[i] = int32(i)
	}
	rand.New(rand.NewPCG(seed, use)).Shuffle(n, func(i, j int) { drawn[i], drawn[j] = drawn[j], drawn[i] })
	return drawn
}

// fit returns documents, in the order drawn, that fit into room. It skips
// documents larger than the rest of the room, and stops when little room remains
// or many in a row did not fit. It returns at least one.
func fit(drawn []int32, room int64, measure func(int32) (int64, error)) ([]int32, error) {
	const missesInARow = 100
	var taken []int32
	left, misses := room, 0
	for _, i := range drawn {
		if misses == missesInARow || left < room/100 {
			break
		}
		size, err := measure(i)
		if err != nil {
			return nil, err
		}
		if size > left {
			misses++
			continue
		}
		taken = append(taken, i)
		left, misses = left-size, 0
	}
	if len(taken) == 0 {
		taken = append(taken, drawn[0])
	}
	return taken, nil
}

// estimate returns about the number of tokens of a document. It does not read one
// that is too long to have at most limit.
func (s *spool) estimate(e extent, limit int64, words bool) (int64, error) {
	if e.size() > limitBytes(limit) {
		return limit + 1, nil
	}
	text, err := s.read(e, nil)
	if err != nil {
		return 0, err
	}
	return estimate(text, words), nil
}

// estimate returns the number of words and line ends of a text. This is exact if
// tokens are words. Other tokens are seldom fewer, nor longer than 16 bytes: text
// without spaces has more of them than words.
func estimate(text []byte, words bool) int64 {
	n, lines := tokenizer.CountWords(text)
	if tokens := int64(n + lines); words || tokens > int64(len(text)/16) {
		return tokens
	}
	return int64(len(text) / 16)
}

// divideLines cuts the text at two line ends, or after two of another mark, into train, valid and test, in this order.
func divideLines(s *spool, documents []extent, valid, test Share, mark byte, words bool) (map[string][]extent, error) {
	total := documents[len(documents)-1].end
	lines := lineFinder{s: s, end: total, mark: mark, words: words}
	testStart, err := lines.tail(total, test, total)
	if err != nil {
		return nil, err
	}
	validStart, err := lines.tail(testStart, valid, total)
	if err != nil {
		return nil, err
	}
	if validStart <= 0 || valid > 0 && validStart == testStart || test > 0 && testStart == total {
		return nil, errShort
	}
	return map[string][]extent{
		"train": clip(documents, 0, validStart),
		"valid": clip(documents, validStart, testStart),
		"test":  clip(documents, testStart, total),
	}, nil
}

// clip returns the parts of the documents within [start, end).
func clip(documents []extent, start, end int64) []extent {
	var parts []extent
	for _, d := range documents {
		if part := (extent{max(d.start, start), min(d.end, end)}); part.start < part.end {
			parts = append(parts, part)
		}
	}
	return parts
}
