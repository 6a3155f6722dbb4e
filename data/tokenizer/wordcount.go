package tokenizer

import (
	"fmt"
	"sort"
)

// WordCounter counts the words of a training text for one goroutine. Where a
// word came first is kept as its place in the text, so that counters of
// several goroutines add up to the same vocabulary whatever each has seen.
type WordCounter struct {
	lower   bool
	lowered []byte
	words   *table
	seen    []seen
	lines   seen
}

type seen struct {
	count uint64
	first uint64
}

// NewWordCounter returns an empty counter; lower counts in lower case.
func NewWordCounter(lower bool) *WordCounter {
	return &WordCounter{lower: lower, words: newTable(0)}
}

// Add counts a piece of text that ends with a line or with its document. at
// is the place of the piece in the whole training text: any number that grows
// from piece to piece by at least the piece's length plus one.
func (c *WordCounter) Add(text []byte, at uint64) {
	if c.lower {
		c.lowered = appendLower(c.lowered[:0], text)
		text = c.lowered
	}
	line := func(i int) {
		if c.lines.count == 0 || at+uint64(i) < c.lines.first {
			c.lines.first = at + uint64(i)
		}
		c.lines.count++
	}
	for i := 0; ; {
		start, end := nextWord(text, i)
		if start == len(text) {
			break
		}
		if start == end {
			line(end)
			i = end + 1
			continue
		}
		id, fresh := c.words.addIn(text, start, end)
		if fresh {
			c.seen = append(c.seen, seen{first: at + uint64(start)})
		}
		s := &c.seen[id]
		s.count++
		s.first = min(s.first, at+uint64(start))
		i = end
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		line(len(text))
	}
}

// merge adds what another counter has seen.
func (c *WordCounter) merge(other *WordCounter) {
	for id, s := range other.seen {
		mine, fresh := c.words.add(other.words.bytes(uint32(id)))
		if fresh {
			c.seen = append(c.seen, s)
			continue
		}
		c.seen[mine].count += s.count
		c.seen[mine].first = min(c.seen[mine].first, s.first)
	}
	if other.lines.count > 0 {
		if c.lines.count == 0 || other.lines.first < c.lines.first {
			c.lines.first = other.lines.first
		}
		c.lines.count += other.lines.count
	}
}

// WordOptions choose which words enter a vocabulary.
type WordOptions struct {
	Size     int  // the largest number of ids, <unk> and <eos> among them; 0 is no limit
	MinCount int  // words seen less often are left out
	Lower    bool // everything in lower case
}

// NewWordFrom makes the tokenizer of what the counters have seen. Ids run by
// falling frequency in the encoded training text, then by first appearance:
// <unk> counts for itself and for all words left out, and <eos> once a line.
// <unk> has the last id if nothing becomes it.
func NewWordFrom(counters []*WordCounter, opts WordOptions) (*Word, error) {
	if opts.Size != 0 && opts.Size < 3 {
		return nil, fmt.Errorf("a vocabulary of %d has no room for <unk>, <eos> and a word", opts.Size)
	}
	all := NewWordCounter(opts.Lower)
	for _, c := range counters {
		all.merge(c)
	}
	type entry struct {
		word string
		seen
	}
	eos := entry{EndOfLine, all.lines}
	unk := entry{word: UnknownToken, seen: seen{first: ^uint64(0)}}
	entries := make([]entry, 0, all.words.len())
	for id, s := range all.seen {
		switch word := string(all.words.bytes(uint32(id))); word {
		case EndOfLine: // written out in the text: the same token
			eos.count += s.count
			eos.first = min(eos.first, s.first)
		case UnknownToken:
			unk.seen = s
		default:
			entries = append(entries, entry{word, s})
		}
	}
	less := func(a, b entry) bool {
		if a.count != b.count {
			return a.count > b.count
		}
		return a.first < b.first
	}
	sort.Slice(entries, func(i, j int) bool { return less(entries[i], entries[j]) })
	keep := len(entries)
	if opts.MinCount > 1 {
		keep = sort.Search(keep, func(i int) bool { return entries[i].count < uint64(opts.MinCount) })
	}
	if opts.Size > 0 {
		keep = min(keep, opts.Size-2)
	}
	for _, e := range entries[keep:] {
		unk.count += e.count
		unk.first = min(unk.first, e.first)
	}
	entries = append(entries[:keep], unk, eos)
	sort.Slice(entries, func(i, j int) bool { return less(entries[i], entries[j]) })
	vocabulary := make([]string, len(entries))
	for i, e := range entries {
		vocabulary[i] = e.word
	}
	return NewWord(vocabulary, opts.Lower)
}
