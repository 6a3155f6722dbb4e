package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"
)

// normalizer is one step of normalizing text before it is cut into pieces. It is
// safe for concurrent use.
type normalizer interface {
	// apply returns the normalized text: text itself if nothing changes, else the
	// bytes that it appended to buf. starts and ends report whether text is at the
	// start and at the end of its section.
	apply(buf, text []byte, starts, ends bool) ([]byte, error)
	// separate reports whether left and right, the text on both sides of a place,
	// may be normalized separately.
	separate(left, right []byte) bool
}

// normalizers parses each type of normalizer in tokenizer.json into its steps.
var normalizers map[string]func(part json.RawMessage) ([]normalizer, error)

func init() { // not above: Sequence refers to the table
	one := func(n normalizer) func(json.RawMessage) ([]normalizer, error) {
		return func(json.RawMessage) ([]normalizer, error) { return []normalizer{n}, nil }
	}
	normalizers = map[string]func(json.RawMessage) ([]normalizer, error){
		"NFC":            one(unicodeForm{compose: true}),
		"NFD":            one(unicodeForm{}),
		"NFKC":           one(unicodeForm{compose: true, compatible: true}),
		"NFKD":           one(unicodeForm{compatible: true}),
		"Lowercase":      one(lowercase{}),
		"StripAccents":   one(perChar(stripAccents)),
		"Nmt":            one(perChar(nmt)),
		"ByteLevel":      one(perChar(byteLevelChar)),
		"BertNormalizer": parseBertNormalizer,
		"Strip":          parseStrip,
		"Prepend":        parsePrepend,
		"Replace":        parseReplace,
		"Precompiled":    parsePrecompiled,
		"Sequence":       parseNormalizerSequence,
	}
}

// parseNormalizer returns the steps of a normalizer; none if part is null.
func parseNormalizer(part json.RawMessage) ([]normalizer, error) {
	if isNull(part) {
		return nil, nil
	}
	kind := typeOf(part)
	if kind == "Bert" {
		kind = "BertNormalizer"
	}
	parse, ok := normalizers[kind]
	if !ok {
		return nil, unknownPart("normalizer", kind)
	}
	return parse(part)
}

func parseNormalizerSequence(part json.RawMessage) (steps []normalizer, err error) {
	var sequence struct {
		Normalizers []json.RawMessage `json:"normalizers"`
	}
	if err := readPart("normalizer", part, &sequence); err != nil {
		return nil, err
	}
	for _, part := range sequence.Normalizers {
		more, err := parseNormalizer(part)
		if err != nil {
			return nil, err
		}
		steps = append(steps, more...)
	}
	return steps, nil
}

// perChar is a normalizer that appends each character's replacement to dst.
type perChar func(dst []byte, r rune) []byte

func (f perChar) apply(buf, text []byte, _, _ bool) ([]byte, error) {
	for i := 0; i < len(text); {
		r, n := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(text[i:])
		}
		buf = f(buf, r)
		i += n
	}
	return buf, nil
}

func (f perChar) separate(_, _ []byte) bool { return true }

func stripAccents(dst []byte, r rune) []byte {
	if r < 0x300 || r != 0x1cf2 && r != 0x1cf3 && !unicode.Is(unicode.M, r) || youngCombining.has(r) {
		return utf8.AppendRune(dst, r)
	}
	return dst // U+1CF2 and U+1CF3 were marks in older tables
}

func nmt(dst []byte, r rune) []byte {
	switch {
	case 1 <= r && r <= 8, r == 0xb, 0xe <= r && r <= 0x1f, r == 0x7f, r == 0x8f, r == 0x9f:
		return dst
	case r == '\t', r == '\n', r == '\f', r == '\r', r == 0x1680, 0x200b <= r && r <= 0x200f,
		r == 0x2028, r == 0x2029, r == 0x2581, r == 0xfeff, r == 0xfffd:
		return append(dst, ' ')
	}
	return utf8.AppendRune(dst, r)
}

func byteLevelChar(dst []byte, r rune) []byte {
	var b [utf8.UTFMax]byte
	for _, b := range b[:utf8.EncodeRune(b[:], r)] {
		dst = utf8.AppendRune(dst, byteChars[b])
	}
	return dst
}

type lowercase struct{}

func (lowercase) apply(buf, text []byte, _, _ bool) ([]byte, error) {
	return appendLower(buf, text), nil
}
func (lowercase) separate(_, _ []byte) bool { return true }

// parseBertNormalizer returns the steps of BERT's cleaning.
func parseBertNormalizer(part json.RawMessage) (steps []normalizer, err error) {
	options := struct {
		CleanText          bool  `json:"clean_text"`
		HandleChineseChars bool  `json:"handle_chinese_chars"`
		StripAccents       *bool `json:"strip_accents"` // null: if Lowercase
		Lowercase          bool  `json:"lowercase"`
	}{CleanText: true, HandleChineseChars: true, Lowercase: true}
	if err := readPart("normalizer", part, &options); err != nil {
		return nil, err
	}
	if options.CleanText {
		steps = append(steps, perChar(bertClean))
	}
	if options.HandleChineseChars {
		steps = append(steps, perChar(bertChinese))
	}
	if accents := options.StripAccents; accents != nil && *accents || accents == nil && options.Lowercase {
		steps = append(steps, unicodeForm{}, perChar(bertAccents))
	}
	if options.Lowercase {
		steps = append(steps, lowercase{})
	}
	return steps, nil
}

func bertClean(dst []byte, r rune) []byte {
	switch {
	case ' ' <= r && r < 0x7f:
		return append(dst, byte(r))
	case r == '\t' || r == '\n' || r == '\r':
		return append(dst, ' ')
	case r == 0 || r == utf8.RuneError || oldControl(r):
		return dst
	case unicode.IsSpace(r):
		return append(dst, ' ')
	}
	return utf8.AppendRune(dst, r)
}

func bertChinese(dst []byte, r rune) []byte {
	if r < 0x3400 || !unicode.Is(chinese, r) {
		return utf8.AppendRune(dst, r)
	}
	return append(utf8.AppendRune(append(dst, ' '), r), ' ')
}

func bertAccents(dst []byte, r rune) []byte {
	if r >= 0x300 && oldMark(r) {
		return dst
	}
	return utf8.AppendRune(dst, r)
}

// strip removes white space from the ends of a section.
type strip struct {
	Left  bool `json:"strip_left"`
	Right bool `json:"strip_right"`
}

func parseStrip(part json.RawMessage) ([]normalizer, error) {
	var s strip
	err := readPart("normalizer", part, &s)
	return []normalizer{s}, err
}

func (s strip) apply(_, text []byte, starts, ends bool) ([]byte, error) {
	if s.Left && starts {
		text = text[spaceAtStart(text):]
	}
	if s.Right && ends {
		text = text[:len(text)-spaceAtEnd(text)]
	}
	return text, nil
}

// separate is true where the white space at the place does not reach to an end of the
// section. An added token does not touch the place, so the section goes on beyond it.
func (s strip) separate(left, right []byte) bool {
	before, after := spaceAtEnd(left) > 0, spaceAtStart(right) > 0
	return len(left) > 0 && len(right) > 0 && !(s.Right && before) && !(s.Left && before && after)
}

// prepend inserts a string before a section that is not empty.
type prepend struct {
	Prepend string `json:"prepend"`
}

func parsePrepend(part json.RawMessage) ([]normalizer, error) {
	var p prepend
	err := readPart("normalizer", part, &p)
	return []normalizer{p}, err
}

func (p prepend) apply(buf, text []byte, starts, _ bool) ([]byte, error) {
	if !starts || len(text) == 0 {
		return text, nil
	}
	return append(append(buf, p.Prepend...), text...), nil
}

func (p prepend) separate(_, _ []byte) bool { return true }

// replaceString replaces a string by content.
type replaceString struct{ pattern, content []byte }

// replaceRegex replaces an expression's matches by content.
type replaceRegex struct {
	re      *regex
	content []byte
}

// pattern is the pattern of Split and Replace.
type pattern struct {
	String *string `json:"String"`
	Regex  *string `json:"Regex"`
}

func parseReplace(part json.RawMessage) ([]normalizer, error) {
	var replace struct {
		Pattern pattern `json:"pattern"`
		Content string  `json:"content"`
	}
	if err := readPart("normalizer", part, &replace); err != nil {
		return nil, err
	}
	switch p := replace.Pattern; {
	case p.Regex != nil:
		re, err := compileRegex(*p.Regex)
		if err != nil {
			return nil, fmt.Errorf("normalizer: Replace: %w", err)
		}
		return []normalizer{replaceRegex{re, []byte(replace.Content)}}, nil
	case p.String != nil && *p.String == "": // matches between all characters, as an empty expression does
		re, err := compileRegex("")
		return []normalizer{replaceRegex{re, []byte(replace.Content)}}, err
	case p.String != nil:
		return []normalizer{replaceString{[]byte(*p.String), []byte(replace.Content)}}, nil
	}
	return nil, errors.New("normalizer: Replace has no pattern: want String or Regex")
}

// errGrown is returned where replacements would fill the memory.
var errGrown = errors.New("a Replace of the tokenizer's normalizer makes the text many times longer")

// mostGrown is the largest number of bytes that may replace n bytes. A chain of
// replacements multiplies, and a text may have many short sections.
func mostGrown(n int) int { return min(4096+64*n, 16<<20+4*n) }

func (s replaceString) apply(buf, text []byte, _, _ bool) ([]byte, error) {
	n := bytes.Count(text, s.pattern)
	if n == 0 {
		return text, nil
	}
	size := len(text) + n*(len(s.content)-len(s.pattern))
	if size > mostGrown(len(text)) {
		return nil, errGrown
	}
	return s.append(slices.Grow(buf, size), text), nil
}

// append appends text with its replacements.
func (s replaceString) append(buf, text []byte) []byte {
	for {
		i := bytes.Index(text, s.pattern)
		if i < 0 {
			return append(buf, text...)
		}
		buf = append(append(buf, text[:i]...), s.content...)
		text = text[i+len(s.pattern):]
	}
}

func (s replaceString) separate(left, right []byte) bool {
	n := len(s.pattern) - 1
	around := append(bytes.Clone(left[max(0, len(left)-n):]), right[:min(n, len(right))]...)
	return !bytes.Contains(around, s.pattern)
}

func (s replaceRegex) apply(buf, text []byte, _, _ bool) ([]byte, error) {
	if len(text) == 0 {
		return text, nil
	}
	m, from, most := newRegexMatcher(s.re), 0, mostGrown(len(text))
	m.matches(text, func(start, end int) {
		if len(buf) <= most {
			buf = append(append(buf, text[from:start]...), s.content...)
		}
		from = end
	})
	if len(buf) > most {
		return nil, errGrown
	}
	return append(buf, text[from:]...), m.err
}

func (s replaceRegex) separate(left, right []byte) bool {
	a, _ := utf8.DecodeLastRune(left)
	b, _ := utf8.DecodeRune(right)
	return s.re.first != nil && !s.re.adjacent.follows(a, b)
}
