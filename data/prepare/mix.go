package prepare

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// MixPart is a text of a mix and its weight.
type MixPart struct {
	Path   string
	Weight float64
}

// ParseMix reads PATH=WEIGHT.
func ParseMix(text string) (MixPart, error) {
	i := strings.LastIndexByte(text, '=')
	if i < 1 {
		return MixPart{}, fmt.Errorf("--mix is %q, want PATH=WEIGHT, such as books=0.7", text)
	}
	weight, err := strconv.ParseFloat(text[i+1:], 64)
	if err != nil || weight <= 0 || math.IsInf(weight, 0) || math.IsNaN(weight) {
		return MixPart{}, fmt.Errorf("--mix is %q, want a positive weight after the =", text)
	}
	return MixPart{text[:i], weight}, nil
}

// mixPiece is the approximate size of the pieces into which long documents are cut
// before mixing. A piece ends at a line end.
const mixPiece = 1 << 16

// mix draws documents from each part so that their bytes have the proportions of
// the weights, and shuffles all of them. It draws as many as possible without using
// a document twice. bounds[i] is the end of part i among the documents of the
// spool.
func mix(s *spool, parts []MixPart, bounds []int, seed uint64) ([]extent, error) {
	random := rand.New(rand.NewPCG(seed, 0x6d6978))
	documents, scale := make([][]extent, len(parts)), math.Inf(1)
	from := 0
	for i, part := range parts {
		for ; from < bounds[i]; from++ {
			documents[i] = append(documents[i], s.document(from))
		}
		if len(documents[i]) == 0 {
			return nil, fmt.Errorf("there is no text in %s", part.Path)
		}
		scale = min(scale, float64(totalSize(documents[i]))/part.Weight)
		if len(documents[i]) < wholeDocuments {
			var err error
			if documents[i], err = inPieces(s, documents[i]); err != nil {
				return nil, err
			}
		}
	}
	var mixed []extent
	for i, part := range parts {
		random.Shuffle(len(documents[i]), func(a, b int) { documents[i][a], documents[i][b] = documents[i][b], documents[i][a] })
		for room := part.Weight * scale; room > 0 && len(documents[i]) > 0; {
			mixed = append(mixed, documents[i][0])
			room -= float64(documents[i][0].size())
			documents[i] = documents[i][1:]
		}
	}
	random.Shuffle(len(mixed), func(a, b int) { mixed[a], mixed[b] = mixed[b], mixed[a] })
	return mixed, nil
}

// inPieces cuts long documents at line ends.
func inPieces(s *spool, documents []extent) (pieces []extent, err error) {
	for _, d := range documents {
		lines := lineFinder{s: s, end: d.end, mark: '\n'}
		for d.size() > 2*mixPiece {
			place, err := lines.next(d.start + mixPiece)
			if err != nil {
				return nil, err
			}
			if place <= d.start || place >= d.end {
				break
			}
			pieces = append(pieces, extent{d.start, place})
			d.start = place
		}
		pieces = append(pieces, d)
	}
	return pieces, nil
}

// duplicates finds documents whose text was seen before. test and valid are read
// first, so that train loses their documents and not the other way round.
type duplicates struct {
	s     *spool
	seen  map[[16]byte]bool
	count int64
}

// drop returns the documents whose text was not seen before.
func (d *duplicates) drop(documents []extent) (kept []extent, err error) {
	var text []byte
	for _, e := range documents {
		sum := sha256.New()
		for at := e.start; at < e.end; at += window {
			if text, err = d.s.read(extent{at, min(e.end, at+window)}, text); err != nil {
				return nil, err
			}
			sum.Write(text)
		}
		key := [16]byte(sum.Sum(nil))
		if d.seen[key] {
			d.count++
			continue
		}
		d.seen[key] = true
		kept = append(kept, e)
	}
	return kept, nil
}

// describe computes statistics of the splits' text, for --dry-run.
func describe(s *spool, splits map[string][]extent) (map[string]data.TextStats, error) {
	all := map[string]data.TextStats{}
	for _, name := range slices.Backward(data.SplitNames) {
		extents := splits[name]
		if len(extents) == 0 {
			continue
		}
		stats := data.TextStats{Documents: int64(len(extents)), Bytes: totalSize(extents), Scripts: map[string]float64{}}
		found := &duplicates{s: s, seen: map[[16]byte]bool{}}
		if _, err := found.drop(extents); err != nil {
			return nil, err
		}
		stats.Duplicates = found.count
		sizes := make([]int64, len(extents))
		for i, e := range extents {
			sizes[i] = e.size()
		}
		slices.Sort(sizes)
		stats.Shortest, stats.Median, stats.Longest = sizes[0], sizes[len(sizes)/2], sizes[len(sizes)-1]
		types, letters := map[string]bool{}, 0
		var text []byte
		for _, e := range extents {
			for at := e.start; at < e.end; at += window {
				var err error
				if text, err = s.read(extent{at, min(e.end, at+window)}, text); err != nil {
					return nil, err
				}
				words, lines := tokenizer.CountWords(text)
				stats.Words, stats.Lines = stats.Words+int64(words), stats.Lines+int64(lines)
				if len(types) < maxTypes {
					for _, word := range strings.Fields(string(text)) {
						types[word] = true
					}
				}
				for i := 0; i < len(text); {
					r, n := utf8.DecodeRune(text[i:])
					i += n
					if unicode.IsLetter(r) {
						letters++
						stats.Scripts[script(r)]++
					}
				}
			}
		}
		stats.Types = int64(len(types))
		for script, n := range stats.Scripts {
			stats.Scripts[script] = n / float64(letters)
		}
		all[name] = stats
	}
	return all, nil
}

// maxTypes bounds the memory of counting different words.
const maxTypes = 2_000_000

// script returns the name of a letter's script if it is common in corpora, else
// Other.
func script(r rune) string {
	if r < 0x250 {
		return "Latin"
	}
	for _, s := range []struct {
		name  string
		table *unicode.RangeTable
	}{
		{"Han", unicode.Han}, {"Cyrillic", unicode.Cyrillic}, {"Arabic", unicode.Arabic}, {"Hiragana", unicode.Hiragana}, {"Katakana", unicode.Katakana},
		{"Hangul", unicode.Hangul}, {"Devanagari", unicode.Devanagari}, {"Greek", unicode.Greek}, {"Hebrew", unicode.Hebrew}, {"Thai", unicode.Thai}, {"Latin", unicode.Latin},
	} {
		if unicode.Is(s.table, r) {
			return s.name
		}
	}
	return "Other"
}
