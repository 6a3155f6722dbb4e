package tokenizer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// RWKV's vocabulary is encoded by greedy longest match: a text becomes the longest token that
// it starts with, and so on. That is WordPiece without a prefix on one word, the whole text
// in bytes, so that this is how it is written as tokenizer.json.

// rwkvEnd is the token 0, which RWKV's file leaves out: it stands between documents. The name
// is that of published RWKV-7 models.
const rwkvEnd = "<|rwkv_tokenizer_end_of_text|>"

// anyLength is a largest number of characters that no word reaches.
const anyLength = math.MaxInt32

var rwkvLine = regexp.MustCompile(`^[0-9]+ b?(?:'.*'|".*") [0-9]+$`)

// isRWKV reports whether a file starts with a line of an id, a literal of Python and a length.
func isRWKV(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	return rwkvLine.Match(bytes.TrimRight(line, "\r"))
}

// parseRWKV reads the vocabulary: a line each of an id, a token as Python writes str or bytes,
// and its length in bytes.
func parseRWKV(dir string, content []byte) (Tokenizer, error) {
	vocab := []vocabEntry{{rwkvEnd, 0}}
	lines, single := map[uint32]int{}, 0
	number := 0
	for line := range strings.Lines(string(content)) {
		number++
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			continue
		}
		id, token, err := parseRWKVLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if before := lines[id]; before > 0 || id == 0 {
			return nil, fmt.Errorf("line %d: the id %d is taken by %s", number, id, map[bool]string{true: "the end of text", false: fmt.Sprintf("line %d", before)}[id == 0])
		}
		lines[id] = number
		if len(token) == 1 {
			single++
		}
		vocab = append(vocab, vocabEntry{string(bytesAsChars{}.see(nil, token)), id})
	}
	if single != 256 {
		return nil, fmt.Errorf("an RWKV vocabulary has a token for each of the 256 bytes; this file has %d", single)
	}
	folder, err := readModelFolder(dir)
	if err != nil {
		return nil, err
	}
	level := newByteLevel(false)
	return folder.build(file{
		AddedTokens:  []addedToken{{ID: 0, Content: rwkvEnd, Special: true}},
		PreTokenizer: level,
		Decoder:      newByteLevel(true),
		Model: map[string]any{
			"type": "WordPiece", "unk_token": "[UNK]", // which no text needs
			"continuing_subword_prefix": "", "max_input_chars_per_word": anyLength, "vocab": sparseVocab(vocab),
		},
	})
}

func parseRWKVLine(line string) (id uint32, token []byte, err error) {
	if !rwkvLine.MatchString(line) {
		return 0, nil, errors.New("not an id, a token in quotes as Python writes it, and its length in bytes")
	}
	first, last := strings.IndexByte(line, ' '), strings.LastIndexByte(line, ' ')
	n, err := strconv.ParseUint(line[:first], 10, 32)
	if err != nil || n >= maxVocabulary {
		return 0, nil, fmt.Errorf("the id %s is too large", line[:first])
	}
	if token, err = parsePythonLiteral(line[first+1 : last]); err != nil {
		return 0, nil, err
	}
	if strconv.Itoa(len(token)) != line[last+1:] || len(token) == 0 {
		return 0, nil, fmt.Errorf("the token has %d bytes, the line says %s", len(token), line[last+1:])
	}
	return uint32(n), token, nil
}

// pythonEscapes are the escapes of one character.
var pythonEscapes = map[byte]byte{'\\': '\\', '\'': '\'', '"': '"', 'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

// parsePythonLiteral returns the bytes of a literal of str, in UTF-8, or of bytes, as repr
// writes them.
func parsePythonLiteral(s string) ([]byte, error) {
	inBytes := s[0] == 'b'
	if inBytes {
		s = s[1:]
	}
	quote, body := s[0], s[1:len(s)-1]
	var out []byte
	for len(body) > 0 {
		c := body[0]
		switch {
		case c == quote:
			return nil, fmt.Errorf("a %c within the token's quotes", quote)
		case c != '\\':
			if inBytes && c >= utf8.RuneSelf {
				return nil, fmt.Errorf("%q within a literal of bytes", c)
			}
			out, body = append(out, c), body[1:]
			continue
		case len(body) == 1:
			return nil, errors.New("a lone \\ before the closing quote")
		}
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[body[1]]
		if plain, ok := pythonEscapes[body[1]]; ok {
			out, body = append(out, plain), body[2:]
			continue
		}
		if digits == 0 || inBytes && digits > 2 || len(body) < 2+digits {
			return nil, fmt.Errorf("an escape %q that Python does not write", body[:2])
		}
		code, err := strconv.ParseUint(body[2:2+digits], 16, 32)
		switch {
		case err != nil || !inBytes && !utf8.ValidRune(rune(code)):
			return nil, fmt.Errorf("an escape %q of no character", body[:2+digits])
		case inBytes:
			out = append(out, byte(code))
		default:
			out = utf8.AppendRune(out, rune(code))
		}
		body = body[2+digits:]
	}
	return out, nil
}

// greedyBytes encodes a text by greedy longest match of tokens in bytes.
type greedyBytes struct {
	tokens  *trie
	longest int            // bytes of a token
	pairs   [256][4]uint64 // whether a token contains the one byte followed by the other
}

// newGreedyBytes takes tokens as ByteLevel spells them, by id. It returns nil if a byte is no
// token.
func newGreedyBytes(spelled []string) *greedyBytes {
	m := &greedyBytes{}
	texts, single := make([]string, len(spelled)), 0
	for id, token := range spelled {
		text, ok := unspell(token)
		if !ok {
			continue // no text is spelled so
		}
		if len(text) == 1 {
			single++
		}
		for i := 1; i < len(text); i++ {
			m.pairs[text[i-1]][text[i]>>6] |= 1 << (text[i] & 63)
		}
		texts[id] = string(text)
		m.longest = max(m.longest, len(text))
	}
	if single != 256 {
		return nil
	}
	m.tokens = newTrie(texts)
	return m
}

// leaveOutEnd takes the end of text out, which is in the model's vocabulary to have its id: if
// it is to be found in a text, it is found before the model. Other special tokens stay: one
// may be a token of RWKV's file, even a byte, without which some text has no tokens.
func (m *greedyBytes) leaveOutEnd(added []addedToken) {
	for _, a := range added {
		if a.Special && a.Content == rwkvEnd {
			m.tokens.leaveOut(rwkvEnd)
		}
	}
}

func (m *greedyBytes) append(dst []uint32, text []byte) []uint32 {
	for len(text) > 0 {
		id, n := m.tokens.longest(text)
		dst, text = append(dst, uint32(id)), text[n:]
	}
	return dst
}

// joins takes bytes as ByteLevel spells them.
func (m *greedyBytes) joins(a, b rune) bool {
	left, right := charBytes[a], charBytes[b]
	return m.pairs[left][right>>6]>>(right&63)&1 == 1
}

// greedyBoundaries are the ends of a text's tokens that no longer token can reach from
// before, however the text goes on.
type greedyBoundaries struct {
	m    *greedyBytes
	ends []int32 // the first is 0
}

func (b *greedyBoundaries) settle(piece []byte) int {
	b.ends = append(b.ends[:0], 0)
	for at := 0; at+b.m.longest <= len(piece); {
		_, n := b.m.tokens.longest(piece[at:])
		at += n
		b.ends = append(b.ends, int32(at))
	}
	return len(b.ends) - 1
}

func (b *greedyBoundaries) place(n int) int { return int(b.ends[n]) }

func (b *greedyBoundaries) before(n int) int { return n - 1 }

func (b *greedyBoundaries) whole(piece []byte, n int) bool {
	at := b.place(n)
	return at == len(piece) || utf8.RuneStart(piece[at])
}
