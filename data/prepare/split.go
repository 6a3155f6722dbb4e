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

// divide gives valid and test their shares of the text. It returns the extents of
// each split, and the unit by which the text was divided.
func divide(s *spool, documents []extent, valid, test Share, seed uint64) (splits map[string][]extent, by string, err error) {
	switch n := len(documents); {
	case valid == 0 && test == 0:
		return map[string][]extent{"train": documents}, "none", nil
	case n >= wholeDocuments:
		splits, err = divideDocuments(s, documents, valid, test, seed)
		return splits, "documents", err
	}
	if !slices.IsSortedFunc(documents, func(a, b extent) int { return int(a.start - b.start) }) {
		return nil, "", fmt.Errorf("a mix of %d documents is too small for valid and test to be drawn from: use --valid 0 --test 0, or --valid-file and --test-file", len(documents))
	}
	for _, by := range []struct {
		name string
		mark byte
	}{{"lines", '\n'}, {"words", ' '}} {
		if splits, err = divideLines(s, documents, valid, test, by.mark); !errors.Is(err, errShort) {
			return splits, by.name, err
		}
	}
	return nil, "", err
}

// errShort is the error for a text with fewer lines or words than splits.
var errShort = errors.New("the text is too short to be divided: use --valid 0 --test 0, or --valid-file and --test-file")

// divideDocuments draws documents in a random order from the seed. Each split
// keeps the order of the corpus.
func divideDocuments(s *spool, documents []extent, valid, test Share, seed uint64) (map[string][]extent, error) {
	drawn := make([]int32, len(documents))
	for i := range drawn {
		drawn[i] = int32(i)
	}
	random := rand.New(rand.NewPCG(seed, 0x6b6f616c61))
	random.Shuffle(len(drawn), func(i, j int) { drawn[i], drawn[j] = drawn[j], drawn[i] })
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
			measure, room = func(e extent) (int64, error) { return s.wordTokens(e, limit) }, limit
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

// wordTokens counts the words and line ends of a document. It does not read one
// that is too long to have at most limit.
func (s *spool) wordTokens(e extent, limit int64) (int64, error) {
	if e.size() > limitBytes(limit) {
		return limit + 1, nil
	}
	text, err := s.read(e, nil)
	if err != nil {
		return 0, err
	}
	words, lines := tokenizer.CountWords(text)
	return int64(words + lines), nil
}

// divideLines cuts the text at two line ends, or after two spaces if mark is a
// space, into train, valid and test, in this order.
func divideLines(s *spool, documents []extent, valid, test Share, mark byte) (map[string][]extent, error) {
	total := documents[len(documents)-1].end
	lines := lineFinder{s: s, end: total, mark: mark}
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
