package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"
)

// pieces are a text and its parts, which a model encodes separately.
type pieces struct {
	text  []byte
	spans []span
}

type span struct{ start, end int }

// pretokenizer is one step of cutting normalized text into pieces. It is safe for
// concurrent use: the state between calls is in the encoder.
type pretokenizer interface {
	// newState returns the step's state for one goroutine.
	newState() preState
	// cuts reports whether a piece ends between left and right, whatever text
	// surrounds them, and the two sides are independent.
	cuts(left, right []byte) bool
	// apart reports whether the two sides are independent if another step ends a
	// piece between them.
	apart(left, right []byte) bool
	// see returns the step's output for a text, which the next step reads. It is
	// text itself, or appended to buf.
	see(buf, text []byte) []byte
}

// preState runs a step. continues reports whether the first piece continues one of
// the previous part of the text; first, whether it starts the document.
type preState interface {
	apply(in, out *pieces, continues, first bool) error
}

// pretokenizers parses each type of pre-tokenizer in tokenizer.json into its steps.
var pretokenizers map[string]func(part json.RawMessage) ([]pretokenizer, error)

func init() { // not above: Sequence refers to the table
	pretokenizers = map[string]func(part json.RawMessage) ([]pretokenizer, error){
		"Sequence":           parsePreSequence,
		"ByteLevel":          parsePreByteLevel,
		"Metaspace":          parseMetaspace,
		"Split":              parseSplit,
		"Whitespace":         parseWhitespace,
		"WhitespaceSplit":    parseWhitespaceSplit,
		"BertPreTokenizer":   parseBertPreTokenizer,
		"Punctuation":        parsePunctuation,
		"Digits":             parseDigits,
		"CharDelimiterSplit": parseDelimiter,
		"Delimiter":          parseDelimiter,
		"UnicodeScripts":     parseScripts,
		"FixedLength":        parseFixedLength,
	}
}

// parsePreTokenizer returns the steps of a pre-tokenizer; none if part is null.
func parsePreTokenizer(part json.RawMessage) ([]pretokenizer, error) {
	if isNull(part) {
		return nil, nil
	}
	kind := typeOf(part)
	parse, ok := pretokenizers[kind]
	if !ok {
		return nil, unknownPart("pre_tokenizer", kind)
	}
	return parse(part)
}

func parsePreSequence(part json.RawMessage) (steps []pretokenizer, err error) {
	var sequence struct {
		Pretokenizers []json.RawMessage `json:"pretokenizers"`
	}
	if err := readPart("pre_tokenizer", part, &sequence); err != nil {
		return nil, err
	}
	for _, part := range sequence.Pretokenizers {
		more, err := parsePreTokenizer(part)
		if err != nil {
			return nil, err
		}
		steps = append(steps, more...)
	}
	return steps, nil
}

// behavior is what a split does with a match (delimiter).
type behavior uint8

const (
	isolated           behavior = iota // a match is a piece
	removed                            // a match is dropped
	contiguous                         // consecutive matches are one piece
	mergedWithPrevious                 // a match ends the piece before it
	mergedWithNext                     // a match starts the piece after it
)

func parseBehavior(name string) (behavior, error) {
	switch strings.ToLower(strings.ReplaceAll(name, "_", "")) {
	case "isolated":
		return isolated, nil
	case "removed":
		return removed, nil
	case "contiguous":
		return contiguous, nil
	case "mergedwithprevious":
		return mergedWithPrevious, nil
	case "mergedwithnext":
		return mergedWithNext, nil
	}
	return 0, fmt.Errorf("pre_tokenizer: the behavior %q is not known", name)
}

// split cuts at its matches: characters of a set, matches of an expression, or
// pieces of a hand-written splitter for an expression.
type split struct {
	set      *bitset
	re       *regex
	fast     splitter
	adjacent func() *adjacency // places to cut need it
	behavior behavior
	invert   bool // text between matches counts as the match
}

func splitSet(set *charset, b behavior) *split {
	bits := newBitset(set)
	adjacent := &adjacency{alone: bits}
	return &split{set: bits, adjacent: func() *adjacency { return adjacent }, behavior: b}
}

func splitRegex(pattern string, b behavior, invert bool) (*split, error) {
	// The splitters' patterns match all text, so there is no text between matches.
	if fast := knownSplitter(pattern); fast != nil && (b == isolated && !invert || b == removed && invert) {
		adjacent := sync.OnceValue(func() *adjacency {
			re, _ := compileRegex(pattern) // valid, as it is known
			return re.adjacent
		})
		return &split{fast: fast, adjacent: adjacent, behavior: b, invert: invert}, nil
	}
	re, err := compileRegex(pattern)
	if err != nil {
		return nil, fmt.Errorf("pre_tokenizer: %w", err)
	}
	return regexSplit(re, b, invert), nil
}

func regexSplit(re *regex, b behavior, invert bool) *split {
	return &split{re: re, adjacent: func() *adjacency { return re.adjacent }, behavior: b, invert: invert}
}

func parseSplit(part json.RawMessage) ([]pretokenizer, error) {
	var read struct {
		Pattern  pattern `json:"pattern"`
		Behavior string  `json:"behavior"`
		Invert   bool    `json:"invert"`
	}
	if err := readPart("pre_tokenizer", part, &read); err != nil {
		return nil, err
	}
	b, err := parseBehavior(read.Behavior)
	if err != nil {
		return nil, err
	}
	switch p := read.Pattern; {
	case p.Regex != nil:
		s, err := splitRegex(*p.Regex, b, read.Invert)
		return []pretokenizer{s}, err
	case p.String != nil:
		s, err := splitRegex(quoteRegex(*p.String), b, read.Invert)
		return []pretokenizer{s}, err
	}
	return nil, errors.New("pre_tokenizer: Split has no pattern: want String or Regex")
}

// quoteRegex returns an expression that matches a string.
func quoteRegex(text string) string {
	var quoted strings.Builder
	for _, r := range text {
		if r < utf8.RuneSelf && strings.ContainsRune(`\.+*?()|[]{}^$#&-~ `, r) {
			quoted.WriteByte('\\')
		}
		quoted.WriteRune(r)
	}
	return quoted.String()
}

func parseWhitespace(json.RawMessage) ([]pretokenizer, error) {
	word := wordSet()
	run := func(set *charset) *regexNode {
		return &regexNode{op: opRepeat, min: 1, max: -1, subs: []*regexNode{{op: opSet, set: set}}}
	}
	other := word.union(posixSet("space")).negate()
	re := compileNode(`\w+|[^\w\s]+`, &regexNode{op: opAlt, subs: []*regexNode{run(word), run(other)}})
	return []pretokenizer{regexSplit(re, removed, true)}, nil
}

func parseWhitespaceSplit(json.RawMessage) ([]pretokenizer, error) {
	return []pretokenizer{splitSet(posixSet("space"), removed)}, nil
}

func parseBertPreTokenizer(json.RawMessage) ([]pretokenizer, error) {
	return []pretokenizer{splitSet(posixSet("space"), removed), splitSet(punctuationSet(), isolated)}, nil
}

func parsePunctuation(part json.RawMessage) ([]pretokenizer, error) {
	read := struct {
		Behavior string `json:"behavior"`
	}{"Isolated"}
	if err := readPart("pre_tokenizer", part, &read); err != nil {
		return nil, err
	}
	b, err := parseBehavior(read.Behavior)
	return []pretokenizer{splitSet(punctuationSet(), b)}, err
}

func parseDigits(part json.RawMessage) ([]pretokenizer, error) {
	var read struct {
		Individual bool `json:"individual_digits"`
	}
	if err := readPart("pre_tokenizer", part, &read); err != nil {
		return nil, err
	}
	b := contiguous
	if read.Individual {
		b = isolated
	}
	return []pretokenizer{splitSet(numericSet(), b)}, nil
}

func parseDelimiter(part json.RawMessage) ([]pretokenizer, error) {
	var read struct {
		Delimiter string `json:"delimiter"`
	}
	if err := readPart("pre_tokenizer", part, &read); err != nil {
		return nil, err
	}
	r, n := utf8.DecodeRuneInString(read.Delimiter)
	if n == 0 || n != len(read.Delimiter) {
		return nil, fmt.Errorf("pre_tokenizer: the delimiter is %q, want one character", read.Delimiter)
	}
	return []pretokenizer{splitSet(newCharset(r, r), removed)}, nil
}

func (s *split) see(_, text []byte) []byte { return text }

func (s *split) apart(left, right []byte) bool {
	a, _ := utf8.DecodeLastRune(left)
	b, _ := utf8.DecodeRune(right)
	return !s.adjacent().follows(a, b)
}

func (s *split) cuts(left, right []byte) bool {
	a, n := utf8.DecodeLastRune(left)
	b, m := utf8.DecodeRune(right)
	if n == 0 || m == 0 || s.adjacent().follows(a, b) {
		return false
	}
	inA, inB := s.adjacent().alone.has(a), s.adjacent().alone.has(b)
	switch s.behavior {
	case isolated, removed:
		return inA || inB
	case contiguous:
		return s.set != nil && inA != inB
	case mergedWithPrevious:
		return inA && !s.invert
	case mergedWithNext:
		return inB && !s.invert
	}
	return false
}

func (s *split) newState() preState {
	st := &splitState{split: s}
	if s.re != nil {
		st.matcher = newRegexMatcher(s.re)
	}
	return st
}

type splitState struct {
	*split
	matcher *regexMatcher
	found   []match
}

// match is a part of a piece: a match if found is true, else the text between
// matches.
type match struct {
	span
	found bool
}

func (s *splitState) apply(in, out *pieces, _, _ bool) error {
	out.text, out.spans = in.text, out.spans[:0]
	for _, p := range in.spans {
		text := in.text[p.start:p.end]
		if s.fast != nil {
			for i := 0; i < len(text); {
				end := s.fast.next(text, i)
				out.spans = append(out.spans, span{p.start + i, p.start + end})
				i = end
			}
			continue
		}
		s.found = s.found[:0]
		s.find(text)
		if s.matcher != nil && s.matcher.err != nil {
			return s.matcher.err
		}
		s.behave(out, p.start)
	}
	return nil
}

// find divides text into matches and the text between them.
func (s *splitState) find(text []byte) {
	from := 0
	add := func(start, end int) {
		if from < start {
			s.found = append(s.found, match{span{from, start}, s.invert})
		}
		s.found = append(s.found, match{span{start, end}, !s.invert})
		from = end
	}
	if s.set == nil {
		s.matcher.matches(text, add)
	} else {
		for i := 0; i < len(text); {
			r, n := rune(text[i]), 1
			if r >= utf8.RuneSelf {
				r, n = utf8.DecodeRune(text[i:])
			}
			if s.set.has(r) {
				add(i, i+n)
			}
			i += n
		}
	}
	if from < len(text) {
		s.found = append(s.found, match{span{from, len(text)}, s.invert})
	}
}

// behave makes pieces from the matches by the split's behavior. It drops empty
// pieces.
func (s *splitState) behave(out *pieces, offset int) {
	first := len(out.spans)
	add := func(m span) {
		if m.start < m.end {
			out.spans = append(out.spans, span{offset + m.start, offset + m.end})
		}
	}
	switch s.behavior {
	case isolated:
		for _, m := range s.found {
			add(m.span)
		}
	case removed:
		for _, m := range s.found {
			if !m.found {
				add(m.span)
			}
		}
	case contiguous:
		for i := 0; i < len(s.found); {
			joined, kind := s.found[i].span, s.found[i].found
			for i++; i < len(s.found) && s.found[i].found == kind; i++ {
				joined.end = s.found[i].end
			}
			add(joined)
		}
	case mergedWithPrevious:
		var open *span
		before := false
		for i := range s.found {
			m := &s.found[i]
			if m.found && !before && open != nil {
				open.end = m.end
			} else {
				if open != nil {
					add(*open)
				}
				open = &m.span
			}
			before = m.found
		}
		if open != nil {
			add(*open)
		}
	case mergedWithNext:
		var open *span
		after := false
		for i := len(s.found) - 1; i >= 0; i-- {
			m := &s.found[i]
			if m.found && !after && open != nil {
				open.start = m.start
			} else {
				if open != nil {
					add(*open)
				}
				open = &m.span
			}
			after = m.found
		}
		if open != nil {
			add(*open)
		}
		for i, j := first, len(out.spans)-1; i < j; i, j = i+1, j-1 {
			out.spans[i], out.spans[j] = out.spans[j], out.spans[i]
		}
	}
}

// parsePreByteLevel reads ByteLevel: a space before a text without one, GPT-2's
// split, and each byte as a character.
func parsePreByteLevel(part json.RawMessage) (steps []pretokenizer, err error) {
	var level byteLevel
	if err := readPart("pre_tokenizer", part, &level); err != nil {
		return nil, err
	}
	if level.AddPrefixSpace {
		steps = append(steps, &prefix{mark: []byte(" "), scheme: "always"})
	}
	if level.UseRegex == nil || *level.UseRegex {
		s, err := splitRegex(gpt2Pattern, isolated, false)
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
	}
	return append(steps, bytesAsChars{}), nil
}

// bytesAsChars writes each byte of a piece as a character.
type bytesAsChars struct{}

func (bytesAsChars) newState() preState     { return new(bytesState) }
func (bytesAsChars) cuts(_, _ []byte) bool  { return false }
func (bytesAsChars) apart(_, _ []byte) bool { return true }
func (bytesAsChars) see(buf, text []byte) []byte {
	for _, b := range text {
		buf = utf8.AppendRune(buf, byteChars[b])
	}
	return buf
}

type bytesState struct{ buf []byte }

func (s *bytesState) apply(in, out *pieces, _, _ bool) error {
	s.buf, out.spans = s.buf[:0], out.spans[:0]
	for _, p := range in.spans {
		start := len(s.buf)
		s.buf = bytesAsChars{}.see(s.buf, in.text[p.start:p.end])
		out.spans = append(out.spans, span{start, len(s.buf)})
	}
	out.text = s.buf
	return nil
}

// prefix inserts a mark before pieces that do not start with it, and replaces each
// space by the mark if that is not a space (Metaspace).
type prefix struct {
	mark   []byte
	scheme string // always, first (only at the start of the document) or never
}

// parseMetaspace reads Metaspace, with and without a split before each mark.
func parseMetaspace(part json.RawMessage) ([]pretokenizer, error) {
	var read struct {
		Replacement    string `json:"replacement"`
		AddPrefixSpace *bool  `json:"add_prefix_space"`
		PrependScheme  string `json:"prepend_scheme"`
		Split          *bool  `json:"split"`
	}
	if err := readPart("pre_tokenizer", part, &read); err != nil {
		return nil, err
	}
	r, n := utf8.DecodeRuneInString(read.Replacement)
	if n == 0 || n != len(read.Replacement) {
		return nil, fmt.Errorf("pre_tokenizer: Metaspace: the replacement is %q, want one character", read.Replacement)
	}
	scheme := read.PrependScheme
	switch scheme {
	case "":
		scheme = "always"
	case "always", "first", "never":
	default:
		return nil, fmt.Errorf("pre_tokenizer: Metaspace: prepend_scheme is %q, want always, first or never", scheme)
	}
	if read.AddPrefixSpace != nil && !*read.AddPrefixSpace {
		if read.PrependScheme != "never" && read.PrependScheme != "" {
			return nil, fmt.Errorf("pre_tokenizer: Metaspace: add_prefix_space is false, but prepend_scheme is %q", scheme)
		}
		scheme = "never"
	}
	steps := []pretokenizer{&prefix{mark: []byte(read.Replacement), scheme: scheme}}
	if read.Split == nil || *read.Split {
		steps = append(steps, splitSet(newCharset(r, r), mergedWithNext))
	}
	return steps, nil
}

func (p *prefix) newState() preState     { return &prefixState{prefix: p} }
func (p *prefix) cuts(_, _ []byte) bool  { return false }
func (p *prefix) apart(_, _ []byte) bool { return true }
func (p *prefix) see(buf, text []byte) []byte {
	if len(p.mark) == 1 && p.mark[0] == ' ' {
		return text
	}
	return replaceString{[]byte(" "), p.mark}.append(buf, text)
}

type prefixState struct {
	*prefix
	buf []byte
}

func (s *prefixState) apply(in, out *pieces, continues, first bool) error {
	s.buf, out.spans = s.buf[:0], out.spans[:0]
	for _, p := range in.spans {
		text, start := in.text[p.start:p.end], len(s.buf)
		marked := strings.HasPrefix(string(text[:min(len(text), len(s.mark))]), string(s.mark)) || text[0] == ' '
		if !marked && (s.scheme == "always" && !(continues && p.start == 0) || s.scheme == "first" && first && p.start == 0) {
			s.buf = append(s.buf, s.mark...)
		}
		if len(s.mark) == 1 && s.mark[0] == ' ' {
			s.buf = append(s.buf, text...)
		} else {
			s.buf = s.see(s.buf, text)
		}
		out.spans = append(out.spans, span{start, len(s.buf)})
	}
	out.text = s.buf
	return nil
}

// fixedLength cuts after every length characters.
type fixedLength struct {
	Length int `json:"length"`
}

func parseFixedLength(part json.RawMessage) ([]pretokenizer, error) {
	f := fixedLength{Length: 5}
	if err := readPart("pre_tokenizer", part, &f); err != nil {
		return nil, err
	}
	if f.Length < 1 {
		return nil, fmt.Errorf("pre_tokenizer: FixedLength: length is %d, want at least 1", f.Length)
	}
	return []pretokenizer{f}, nil
}

func (f fixedLength) newState() preState        { return f }
func (f fixedLength) cuts(_, _ []byte) bool     { return false }
func (f fixedLength) apart(_, _ []byte) bool    { return false }
func (f fixedLength) see(_, text []byte) []byte { return text }

func (f fixedLength) apply(in, out *pieces, _, _ bool) error {
	out.text, out.spans = in.text, out.spans[:0]
	for _, p := range in.spans {
		for i := p.start; i < p.end; {
			start := i
			for range f.Length {
				if i == p.end {
					break
				}
				_, n := utf8.DecodeRune(in.text[i:p.end])
				i += n
			}
			out.spans = append(out.spans, span{start, i})
		}
	}
	return nil
}
