package tokenizer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"sort"
	"unicode"
	"unicode/utf8"
)

// Word is the word-level tokenizer of WikiText and word_language_model: white
// space separates words, <eos> ends every line, even an empty one, and a word that
// is not in the vocabulary becomes <unk>.
type Word struct {
	words    *table
	unk, eos uint32
	lower    bool
}

// NewWord makes a word tokenizer from its vocabulary, in the order of ids. The
// vocabulary must contain <unk> and <eos>.
func NewWord(vocabulary []string, lower bool) (*Word, error) {
	t := &Word{words: newTable(len(vocabulary)), lower: lower}
	for _, word := range vocabulary {
		if _, fresh := t.words.add([]byte(word)); !fresh {
			return nil, fmt.Errorf("%q is in the vocabulary twice", word)
		}
	}
	var ok bool
	if t.unk, ok = t.ID(UnknownToken); !ok {
		return nil, fmt.Errorf("%s is not in the vocabulary", UnknownToken)
	}
	if t.eos, ok = t.ID(EndOfLine); !ok {
		return nil, fmt.Errorf("%s is not in the vocabulary", EndOfLine)
	}
	return t, nil
}

func (t *Word) Kind() string              { return "word" }
func (t *Word) Words() bool               { return true }
func (t *Word) Vocab() int                { return t.words.len() }
func (t *Word) Unknown() (uint32, bool)   { return t.unk, true }
func (t *Word) Separator() (uint32, bool) { return 0, false }

func (t *Word) Token(id uint32) string {
	if int(id) >= t.words.len() {
		return ""
	}
	return string(t.words.bytes(id))
}

func (t *Word) ID(token string) (uint32, bool) { return t.words.find([]byte(token)) }

// AppendText writes <eos> as a line end and a space before a word that does
// not start a line.
func (t *Word) AppendText(dst []byte, prev int64, id uint32) []byte {
	if id == t.eos {
		return append(dst, '\n')
	}
	if prev >= 0 && prev != int64(t.eos) {
		dst = append(dst, ' ')
	}
	return append(dst, t.Token(id)...)
}

func (t *Word) NewEncoder() Encoder { return &wordEncoder{t: t} }

type wordEncoder struct {
	t       *Word
	lowered []byte
}

func (e *wordEncoder) Cut(text []byte, _ Part) int { return bytes.LastIndexByte(text, '\n') + 1 }

func (e *wordEncoder) Encode(dst []uint32, text []byte, _ Part) ([]uint32, error) {
	t := e.t
	if t.lower {
		e.lowered = appendLower(e.lowered[:0], text)
		text = e.lowered
	}
	for i := 0; ; {
		start, end := nextWord(text, i)
		if start == len(text) {
			break
		}
		if start == end {
			dst = append(dst, t.eos)
			i = end + 1
			continue
		}
		id, ok := t.words.findIn(text, start, end)
		if !ok {
			id = t.unk
		}
		dst = append(dst, id)
		i = end
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		dst = append(dst, t.eos)
	}
	return dst, nil
}

// WriteJSON writes a WordLevel model. Its normalizer turns each '\n' into <eos>,
// and its pre-tokenizer splits at white space. So other tools give the same ids
// for text whose last line is finished.
func (t *Word) WriteJSON(w io.Writer) error {
	eos := map[string]any{"type": "Replace", "pattern": map[string]any{"String": "\n"}, "content": " " + EndOfLine + " "}
	normalizer := eos
	if t.lower {
		normalizer = map[string]any{"type": "Sequence", "normalizers": []any{map[string]any{"type": "Lowercase"}, eos}}
	}
	return writeJSON(w, file{
		AddedTokens:  []addedToken{},
		Normalizer:   normalizer,
		PreTokenizer: map[string]any{"type": "WhitespaceSplit"},
		Model: wordLevelModel{
			Type:     "WordLevel",
			Vocab:    orderedVocab{t.Vocab(), t.Token},
			UnkToken: UnknownToken,
		},
	})
}

// Classes of bytes for the word splitter. Only four lead bytes can start a
// white-space character outside ASCII.
const (
	wordByte = iota
	spaceByte
	lineByte
	maybeByte
)

var byteClass = func() (class [256]uint8) {
	for _, b := range []byte("\t\v\f\r ") {
		class[b] = spaceByte
	}
	class['\n'] = lineByte
	for _, b := range []byte{0xc2, 0xe1, 0xe2, 0xe3} {
		class[b] = maybeByte
	}
	return class
}()

// wideSpace returns the length of the non-ASCII white-space character at the start
// of text, or 0.
func wideSpace(text []byte) int {
	if r, n := utf8.DecodeRune(text); n > 1 && unicode.IsSpace(r) {
		return n
	}
	return 0
}

// nextWord finds the next word or line end at or after i. A word is
// text[start:end]. For a line end, start == end and text[end] is '\n'. At the end
// of the text, start is len(text).
func nextWord(text []byte, i int) (start, end int) {
	for i < len(text) {
		switch byteClass[text[i]] {
		case spaceByte:
			i++
			continue
		case lineByte:
			return i, i
		case maybeByte:
			if n := wideSpace(text[i:]); n > 0 {
				i += n
				continue
			}
		}
		start = i
		for i++; i < len(text); i++ {
			if c := byteClass[text[i]]; c != wordByte && (c != maybeByte || wideSpace(text[i:]) > 0) {
				break
			}
		}
		return start, i
	}
	return len(text), len(text)
}

// CountWords returns the numbers of words and lines of a document. As in Word's
// Encode, an unfinished last line counts if it is not empty.
func CountWords(text []byte) (words, lines int) {
	after := uint64(1) // 1 if the previous byte is white space
	for i := 0; i < len(text); {
		if i+8 <= len(text) {
			if eight := binary.LittleEndian.Uint64(text[i:]); eight&highBits == 0 {
				starts := asciiSpaces(eight) // a bit for each word that starts
				starts, after = ^starts&(starts<<8|after<<7)&highBits, starts>>63
				words += bits.OnesCount64(starts)
				i += 8
				continue
			}
		}
		for end := min(i+8, len(text)); i < end; i++ {
			space := uint64(0)
			switch byteClass[text[i]] {
			case spaceByte, lineByte:
				space = 1
			case maybeByte:
				if n := wideSpace(text[i:]); n > 0 {
					i, space = i+n-1, 1
				}
			}
			words += int(after &^ space)
			after = space
		}
	}
	lines = bytes.Count(text, []byte{'\n'})
	if len(text) > 0 && text[len(text)-1] != '\n' {
		lines++
	}
	return words, lines
}

// asciiSpaces has the high bit of each of eight ASCII bytes that is white space: from tab
// to carriage return, or a space.
func asciiSpaces(eight uint64) uint64 {
	fromTab, afterReturn := eight+(0x80-'\t')*eachByte, eight+(0x80-'\r'-1)*eachByte
	notSpace := eight ^ ' '*eachByte + 0x7f*eachByte
	return (fromTab&^afterReturn | ^notSpace) & highBits
}

var wordKind = Kind{
	Name: "word", About: "words between white space, and <eos> for each line end", Words: true,
	MinVocab: 3, Flags: []string{"vocab-size", "min-count", "lower"}, // <unk>, <eos> and a word
	NewTrainer: func(opts TrainOptions) (Trainer, error) { return &wordTrainer{opts: opts}, nil },
}

// wordTrainer makes a vocabulary of words.
type wordTrainer struct {
	opts     TrainOptions
	counters []*wordCounter
}

func (t *wordTrainer) NewCounter() Counter {
	c := newWordCounter(t.opts.Lower)
	t.counters = append(t.counters, c)
	return c
}

// Cut returns the place after the last line end.
func (t *wordTrainer) Cut(text []byte, _ Part) int { return bytes.LastIndexByte(text, '\n') + 1 }

// wordCounter counts the words of a training text for one goroutine. It keeps the
// offset of each word's first occurrence, so that the merged vocabulary does not
// depend on which goroutine counted which text.
type wordCounter struct {
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

func newWordCounter(lower bool) *wordCounter { return &wordCounter{lower: lower, words: newTable(0)} }

// Add counts a piece of text that ends with a line or with its document.
func (c *wordCounter) Add(text []byte, place int64, _ Part) {
	at := 2 * uint64(place) // leaves room for the missing line end of a document
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

// merge adds another counter's counts.
func (c *wordCounter) merge(other *wordCounter) {
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

// Train makes the tokenizer from the counters' counts. Ids are in the order of
// falling frequency in the encoded training text, then of first occurrence. <unk>
// counts for itself and for all words left out, and <eos> once a line. <unk> has
// the last id if it does not occur.
func (t *wordTrainer) Train() (Tokenizer, error) {
	opts := t.opts
	if opts.Size != 0 && opts.Size < 3 {
		return nil, fmt.Errorf("a vocabulary of %d has no room for <unk>, <eos> and a word", opts.Size)
	}
	all := newWordCounter(opts.Lower)
	for _, c := range t.counters {
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
		case EndOfLine: // spelled out in the text: the same token
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
