package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// readPart decodes a part of a tokenizer.json. Errors name the part.
func readPart(name string, part json.RawMessage, into any) error {
	return jsonError(name, json.Unmarshal(part, into))
}

// modelPart is the model of a tokenizer.json. Its vocabulary and its merges are nearly all
// of the file: they are apart from the other fields, and share the file's memory.
type modelPart struct {
	fields        json.RawMessage // an object of the other fields, or a value that is no object
	vocab, merges string          // "" if absent
}

// UnmarshalJSON divides a valid model.
func (p *modelPart) UnmarshalJSON(content []byte) error {
	s := scanner{text: string(content)}
	if !p.divide(&s) {
		*p = modelPart{fields: bytes.Clone(content)}
	}
	return nil
}

// divide reads a model that is an object. As in encoding/json, the last of equal keys
// counts.
func (p *modelPart) divide(s *scanner) bool {
	fields := []byte{'{'}
	valid := s.members(1, func(key string) bool {
		s.next()
		start := s.at
		if !s.skip(2) {
			return false
		}
		switch value := s.text[start:s.at]; key {
		case "vocab":
			p.vocab = value
		case "merges":
			p.merges = value
		default:
			fields = append(append(append(append(fields, quote(key)...), ':'), value...), ',')
		}
		return true
	})
	p.fields = append(bytes.TrimSuffix(fields, []byte{','}), '}')
	return valid
}

// read decodes a model: its vocabulary into vocab, its merges, if merges is not nil, into
// that, and the rest into fields.
func (p modelPart) read(fields any, vocab, merges interface{ parse(text string) error }) error {
	if err := readPart("model", p.fields, fields); err != nil {
		return err
	}
	if isNull(p.vocab) || merges != nil && isNull(p.merges) {
		return nil
	}
	var wg sync.WaitGroup
	var mergesErr error
	if merges != nil {
		wg.Go(func() { mergesErr = merges.parse(p.merges) })
	}
	err := vocab.parse(p.vocab)
	wg.Wait()
	return jsonError("model", cmp.Or(err, mergesErr))
}

func isNull[T string | json.RawMessage](part T) bool { return len(part) == 0 || string(part) == "null" }

// typeOf returns the "type" of a part, "" if it is absent or null.
func typeOf(part json.RawMessage) string {
	var typed struct {
		Type string `json:"type"`
	}
	if len(part) == 0 || json.Unmarshal(part, &typed) != nil {
		return ""
	}
	return typed.Type
}

// unknownPart returns the error for a part of an unsupported type.
func unknownPart(part, kind string) error {
	if kind == "" {
		return fmt.Errorf("%s has no type: save the file again with a current version of the tokenizers library", part)
	}
	return fmt.Errorf("%s: the type %q is not known: koala-lm knows the types of Hugging Face tokenizers 0.23", part, kind)
}

// jsonError adds the part's name to an error of encoding/json, and the right type
// if a value has the wrong one.
func jsonError(part string, err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		place := strings.Trim(part+"."+wrong.Field, ".")
		return fmt.Errorf("%s is %s, want %s", cmp.Or(place, "the whole"), wrong.Value, jsonName(wrong.Type.Kind()))
	case err == nil || part == "":
		return err
	}
	return fmt.Errorf("%s: %w", part, err)
}

// errorLine returns the line of an error of encoding/json.
func errorLine(content []byte, err error) int {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	var offset int64
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &wrong):
		offset = wrong.Offset
	}
	return 1 + bytes.Count(content[:min(max(offset, 0), int64(len(content)))], []byte("\n"))
}

// jsonName is the JSON name of a kind of Go type.
func jsonName(kind reflect.Kind) string {
	switch kind {
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.String, reflect.Bool:
		return kind.String()
	}
	return "number"
}

// scanner reads JSON. A vocabulary may have 200,000 entries, and each pass of
// encoding/json over such a file takes 80 ms.
type scanner struct {
	text string
	at   int
}

// next skips white space and returns the byte that follows, 0 at the end.
func (s *scanner) next() byte {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// accept skips c if it comes next.
func (s *scanner) accept(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

// string reads a valid string. One without escapes shares the text's memory.
func (s *scanner) string() (string, bool) {
	s.next()
	start := s.at
	plain, ok := s.skipString()
	if !ok {
		return "", false
	}
	if plain {
		return s.text[start+1 : s.at-1], true
	}
	var text string
	err := json.Unmarshal([]byte(s.text[start:s.at]), &text)
	return text, err == nil
}

// word reads a number, or true, false or null.
func (s *scanner) word() string {
	s.next()
	start := s.at
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ',', ']', '}', ' ', '\t', '\r', '\n':
			return s.text[start:s.at]
		}
		s.at++
	}
	return s.text[start:s.at]
}

// skipString skips a valid string. plain reports that it has no escapes.
func (s *scanner) skipString() (plain, ok bool) {
	if s.next() != '"' {
		return false, false
	}
	plain = true
	for s.at++; s.at < len(s.text); s.at++ {
		s.plain()
		if s.at == len(s.text) {
			break
		}
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return plain, true
		case c < ' ':
			return false, false
		case c == '\\':
			plain = false
			s.at++
			if s.at == len(s.text) || strings.IndexByte(`"\/bfnrtu`, s.text[s.at]) < 0 {
				return false, false
			}
			if s.text[s.at] == 'u' {
				if s.at+4 >= len(s.text) {
					return false, false
				}
				if _, err := strconv.ParseUint(s.text[s.at+1:s.at+5], 16, 16); err != nil {
					return false, false
				}
				s.at += 4
			}
		}
	}
	return false, false
}

// plain skips the characters of a string that are not escaped and do not end it, eight bytes
// at a time.
func (s *scanner) plain() {
	for ; s.at+8 <= len(s.text); s.at += 8 {
		t := s.text[s.at : s.at+8]
		eight := uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 | uint64(t[3])<<24 |
			uint64(t[4])<<32 | uint64(t[5])<<40 | uint64(t[6])<<48 | uint64(t[7])<<56
		// The lowest bit is that of the first byte that is a quote, a backslash or below a space.
		quote, backslash := eight^'"'*eachByte, eight^'\\'*eachByte
		special := (quote-eachByte)&^quote | (backslash-eachByte)&^backslash | (eight-' '*eachByte)&^eight
		if special &= highBits; special != 0 {
			s.at += bits.TrailingZeros64(special) / 8
			return
		}
	}
}

// deepest is how deep encoding/json goes, too.
const deepest = 10000

// skip skips a value, and reports whether it is valid JSON.
func (s *scanner) skip(depth int) bool {
	switch c := s.next(); c {
	case '"':
		_, ok := s.skipString()
		return ok
	case '{':
		return s.members(depth, func(string) bool { return s.skip(depth + 1) })
	case '[':
		s.at++
		if depth == deepest {
			return false
		}
		if s.accept(']') {
			return true
		}
		for {
			if !s.skip(depth + 1) {
				return false
			}
			if s.accept(']') {
				return true
			}
			if !s.accept(',') {
				return false
			}
		}
	}
	word := s.word()
	for i := range len(word) {
		if d := word[i]; d < '0' || d > '9' || i == 0 && d == '0' {
			return json.Valid([]byte(word))
		}
	}
	return word != ""
}

// members reads an object: it calls value for each key, which reads the value.
func (s *scanner) members(depth int, value func(key string) bool) bool {
	if !s.accept('{') || depth == deepest {
		return false
	}
	if s.accept('}') {
		return true
	}
	for {
		key, ok := s.string()
		if !ok || !s.accept(':') || !value(key) {
			return false
		}
		if s.accept('}') {
			return true
		}
		if !s.accept(',') {
			return false
		}
	}
}

// member is a member of a JSON object: its value starts at a place in the object's text.
type member struct {
	key, value string
	at         int
}

// objectMembers returns the members of an object in their order. They share the text's
// memory. Of a text that is no valid object it returns the members before the fault.
func objectMembers(text string) (members []member) {
	s := scanner{text: text}
	s.members(0, func(key string) bool {
		s.next()
		start := s.at
		ok := s.skip(1)
		members = append(members, member{key, s.text[start:s.at], start})
		return ok
	})
	return members
}

// vocabEntry is a token with its id.
type vocabEntry struct {
	token string
	id    uint32
}

// vocabObject is a vocabulary read from an object of token to id. Ids may leave
// gaps.
type vocabObject []vocabEntry

func (v *vocabObject) UnmarshalJSON(content []byte) error { return v.parse(string(content)) }

func (v *vocabObject) parse(text string) error {
	s := scanner{text: text}
	if !s.accept('{') {
		return errors.New("vocab must be an object of token to id")
	}
	*v = make([]vocabEntry, 0, 1+strings.Count(text, ","))
	for s.next() == '"' {
		token, ok := s.string()
		if !ok || !s.accept(':') {
			return errors.New("vocab must be an object of token to id")
		}
		if c := s.next(); c == '"' || c == '{' || c == '[' || c == 't' || c == 'f' || c == 'n' {
			return fmt.Errorf("vocab: the id of %q is not a number", token)
		}
		number := s.word()
		id, ok := wholeNumber(number)
		if !ok {
			return fmt.Errorf("vocab: the id of %q is %s, want a whole number from 0", token, number)
		}
		*v = append(*v, vocabEntry{token, uint32(id)})
		s.accept(',')
	}
	return nil
}

// wholeNumber parses the digits of a number that fits 32 bits.
func wholeNumber(digits string) (n uint64, ok bool) {
	for i := range len(digits) {
		if d := digits[i] - '0'; d > 9 || i == 10 {
			return 0, false
		} else {
			n = 10*n + uint64(d)
		}
	}
	return n, digits != "" && n <= math.MaxUint32
}

// dense returns the tokens in the order of their ids, or an error if an id is
// missing or used twice.
func (v vocabObject) dense() ([]string, error) {
	tokens := make([]string, len(v))
	taken := make([]bool, len(v))
	for _, e := range v {
		if int(e.id) >= len(tokens) {
			return nil, fmt.Errorf("vocab: the id of %q is %d, but there are only %d entries", e.token, e.id, len(tokens))
		}
		if taken[e.id] {
			return nil, fmt.Errorf("vocab: %q and %q have the same id %d", tokens[e.id], e.token, e.id)
		}
		tokens[e.id], taken[e.id] = e.token, true
	}
	return tokens, nil
}

// orderedVocab is marshalled as an object with its keys in the order of ids, as
// Hugging Face writes it.
type orderedVocab struct {
	size  int
	token func(id uint32) string
}

func (v orderedVocab) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for id := range v.size {
		if id > 0 {
			b.WriteByte(',')
		}
		b.Write(quote(v.token(uint32(id))))
		fmt.Fprintf(&b, ":%d", id)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// orderedTokens is the vocabulary of tokens whose ids are their indices.
func orderedTokens(tokens []string) orderedVocab {
	return orderedVocab{len(tokens), func(id uint32) string { return tokens[id] }}
}

// quote is json.Marshal of a string without the escapes meant for HTML.
func quote(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // encoding a string into a Buffer cannot fail
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// mergeList reads merges in both layouts: ["a", "b"], and "a b" in older files.
type mergeList [][2]string

func (l *mergeList) parse(text string) error {
	wrong := errors.New("merges must be a list of pairs of tokens")
	s := scanner{text: text}
	if !s.accept('[') {
		return wrong
	}
	commas := strings.Count(text, ",")
	if s.next() == '[' { // pairs have one of their own
		commas /= 2
	}
	*l = make(mergeList, 0, commas+1)
	for i := 0; ; i++ {
		switch s.next() {
		case ']':
			return nil
		case '"':
			line, ok := s.string()
			if !ok {
				return wrong
			}
			if strings.HasPrefix(line, "#version") {
				break
			}
			left, right, ok := strings.Cut(line, " ")
			if !ok || strings.Contains(right, " ") {
				return fmt.Errorf("merges: merge %d is %q, want two tokens", i, line)
			}
			*l = append(*l, [2]string{left, right})
		case '[':
			s.at++
			left, okLeft := s.string()
			comma := s.accept(',')
			right, okRight := s.string()
			if !okLeft || !comma || !okRight || !s.accept(']') {
				return fmt.Errorf("merges: merge %d is not a pair of tokens", i)
			}
			*l = append(*l, [2]string{left, right})
		default:
			return wrong
		}
		s.accept(',')
	}
}

// unigramList is the vocabulary of a Unigram model: tokens with their scores, the
// logarithms of probabilities.
type unigramList []unigramEntry

type unigramEntry struct {
	token string
	score float64
}

func (l *unigramList) parse(text string) error {
	s := scanner{text: text}
	if !s.accept('[') {
		return errors.New("vocab must be a list of tokens with their scores")
	}
	*l = make(unigramList, 0, 1+strings.Count(text, "],"))
	for s.next() != ']' {
		start := s.at
		wrong := func() error {
			return fmt.Errorf("vocab: %.40s is not a token and its score", text[start:])
		}
		if !s.accept('[') {
			return wrong()
		}
		token, ok := s.string()
		if !ok || !s.accept(',') {
			return wrong()
		}
		score, err := serdeFloat(s.word())
		if err != nil || !s.accept(']') {
			return wrong()
		}
		*l = append(*l, unigramEntry{token, score})
		s.accept(',')
	}
	return nil
}

// powersOfTen are 1e0 to 1e308.
var powersOfTen = sync.OnceValue(func() (powers [309]float64) {
	for i := range powers {
		powers[i], _ = strconv.ParseFloat(fmt.Sprintf("1e%d", i), 64)
	}
	return powers
})

// serdeFloat parses a number as Rust's serde_json does by default: the integer of
// all digits, divided by a power of ten. For a sixth of numbers with 17 digits this
// is not the nearest float64. Hugging Face parses Unigram's scores this way, and
// between two segmentations with nearly equal scores the last bit decides.
func serdeFloat(text string) (float64, error) {
	if _, err := strconv.ParseFloat(text, 64); err != nil {
		return 0, err
	}
	digits, negative := strings.CutPrefix(text, "-")
	digits, exponentText, _ := strings.Cut(strings.ToLower(digits), "e")
	var significand uint64
	exponent, point, full := 0, false, false
	for _, c := range []byte(digits) {
		if c == '.' {
			point, full = true, false
			continue
		}
		d := uint64(c - '0')
		if full || significand > (math.MaxUint64-d)/10 {
			full = true
			if !point {
				exponent++
			}
			continue
		}
		significand = significand*10 + d
		if point {
			exponent--
		}
	}
	if exponentText != "" {
		n, err := strconv.Atoi(exponentText)
		if err != nil {
			return 0, err
		}
		exponent += n
	}
	f, powers := float64(significand), powersOfTen()
	for exponent < -308 && f != 0 {
		f /= 1e308
		exponent += 308
	}
	switch {
	case f == 0:
	case exponent < 0:
		f /= powers[-exponent]
	case exponent > 308:
		return 0, errors.New("out of range")
	default:
		f *= powers[exponent]
	}
	if negative {
		f = -f
	}
	return f, nil
}
