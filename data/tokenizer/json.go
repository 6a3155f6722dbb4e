package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// readPart decodes a part of a tokenizer.json. Errors name the part.
func readPart(name string, part json.RawMessage, into any) error {
	return jsonError(name, json.Unmarshal(part, into))
}

func isNull(part json.RawMessage) bool { return len(part) == 0 || string(part) == "null" }

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

// scanner reads JSON that encoding/json has validated. A vocabulary may have
// 200,000 entries, for which a Decoder takes ten times as long.
type scanner struct {
	text []byte
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

// string reads a string.
func (s *scanner) string() (string, bool) {
	if s.next() != '"' {
		return "", false
	}
	start, plain := s.at, true
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			plain = false
			s.at++
		case '"':
			s.at++
			if plain {
				return string(s.text[start+1 : s.at-1]), true
			}
			var text string
			err := json.Unmarshal(s.text[start:s.at], &text)
			return text, err == nil
		}
	}
	return "", false
}

// word reads a number, or true, false or null.
func (s *scanner) word() string {
	s.next()
	start := s.at
	for s.at < len(s.text) && bytes.IndexByte([]byte(",]} \t\r\n"), s.text[s.at]) < 0 {
		s.at++
	}
	return string(s.text[start:s.at])
}

// vocabEntry is a token with its id.
type vocabEntry struct {
	token string
	id    uint32
}

// vocabObject is a vocabulary read from an object of token to id. Ids may leave
// gaps.
type vocabObject []vocabEntry

func (v *vocabObject) UnmarshalJSON(content []byte) error {
	s := scanner{text: content}
	if !s.accept('{') {
		return errors.New("vocab must be an object of token to id")
	}
	*v = make([]vocabEntry, 0, bytes.Count(content, []byte(":")))
	for s.next() == '"' {
		token, ok := s.string()
		if !ok || !s.accept(':') {
			return errors.New("vocab must be an object of token to id")
		}
		if c := s.next(); c == '"' || c == '{' || c == '[' || c == 't' || c == 'f' || c == 'n' {
			return fmt.Errorf("vocab: the id of %q is not a number", token)
		}
		number := s.word()
		id, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return fmt.Errorf("vocab: the id of %q is %s, want a whole number from 0", token, number)
		}
		*v = append(*v, vocabEntry{token, uint32(id)})
		s.accept(',')
	}
	return nil
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

func (l *mergeList) UnmarshalJSON(content []byte) error {
	wrong := errors.New("merges must be a list of pairs of tokens")
	s := scanner{text: content}
	if !s.accept('[') {
		return wrong
	}
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

func (l *unigramList) UnmarshalJSON(content []byte) error {
	s := scanner{text: content}
	if !s.accept('[') {
		return errors.New("vocab must be a list of tokens with their scores")
	}
	for s.next() != ']' {
		start := s.at
		wrong := func() error {
			return fmt.Errorf("vocab: %.40s is not a token and its score", content[start:])
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
