package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Unigram is the tokenizer of SentencePiece (Kudo 2018): of all ways to write
// a piece of text as tokens it takes the one whose scores add up highest.
type Unigram struct {
	tokens
	scores       []float64
	unknown      int64 // -1 if there is none
	unknownScore float64
	fallback     bool // characters that no token has become their bytes
	lower        bool
	metaspace    metaspace
	trie         *pairTable // (node, byte) -> node
	ends         []int64    // the id of the token that ends at a node, or -1
	content      []byte     // the file
}

// metaspace makes spaces visible and cuts before them.
type metaspace struct {
	Type          string `json:"type"`
	Replacement   string `json:"replacement"`
	PrependScheme string `json:"prepend_scheme"` // always, first or never
	Split         *bool  `json:"split"`
}

// unknownPenalty is what an unknown character scores less than the worst token.
const unknownPenalty = 10

// unigramEntry is a token and its score, the logarithm of a probability.
type unigramEntry struct {
	token string
	score float64
}

func (e *unigramEntry) UnmarshalJSON(content []byte) error {
	var parts []json.RawMessage
	if json.Unmarshal(content, &parts) == nil && len(parts) == 2 &&
		json.Unmarshal(parts[0], &e.token) == nil && json.Unmarshal(parts[1], &e.score) == nil {
		return nil
	}
	return fmt.Errorf("vocab: %.40s is not a token and its score", content)
}

func parseUnigram(raw rawFile, content []byte) (Tokenizer, error) {
	var model struct {
		UnkID        *int64         `json:"unk_id"`
		ByteFallback bool           `json:"byte_fallback"`
		Vocab        []unigramEntry `json:"vocab"`
	}
	if err := readPart("model", raw.Model, &model); err != nil {
		return nil, err
	}
	t := &Unigram{unknown: -1, fallback: model.ByteFallback, content: bytes.Clone(content), trie: newPairTable(8 * len(model.Vocab)), ends: []int64{-1}}
	lowest := 0.0
	var written []string
	for id, entry := range model.Vocab {
		if id == 0 || entry.score < lowest {
			lowest = entry.score
		}
		written, t.scores = append(written, entry.token), append(t.scores, entry.score)
	}
	t.tokens = newTokens(written)
	if model.UnkID != nil {
		if t.unknown = *model.UnkID; t.unknown < 0 || t.unknown >= int64(len(written)) {
			return nil, fmt.Errorf("model: unk_id is %d, the vocabulary has %d entries", t.unknown, len(written))
		}
	} else {
		return nil, errors.New("model: Unigram without unk_id is not supported")
	}
	t.unknownScore = lowest - unknownPenalty
	for id, token := range written {
		t.insert(token, int64(id))
	}
	switch kind := typeOf(raw.Normalizer); kind {
	case "":
	case "Lowercase":
		t.lower = true
	default:
		return nil, fmt.Errorf("Unigram with normalizer %q is not supported, only without or with Lowercase", kind)
	}
	if kind := typeOf(raw.PreTokenizer); kind != "Metaspace" {
		return nil, fmt.Errorf("Unigram with pre_tokenizer %q is not supported, only with Metaspace", kind)
	}
	if err := readPart("pre_tokenizer", raw.PreTokenizer, &t.metaspace); err != nil {
		return nil, err
	}
	if m := t.metaspace; utf8.RuneCountInString(m.Replacement) != 1 || m.Replacement == " " || m.Split != nil && !*m.Split {
		return nil, errors.New("pre_tokenizer: Metaspace is supported with a replacement of one character and with split")
	}
	if err := t.addTokens(raw.AddedTokens); err != nil {
		return nil, err
	}
	return t, checkNormalized(t.added, !t.lower)
}

func (t *Unigram) insert(token string, id int64) {
	node := uint32(0)
	for i := range len(token) {
		edge := pair{node, uint32(token[i])}
		next, ok := t.trie.get(edge)
		if !ok {
			next = uint32(len(t.ends))
			t.ends = append(t.ends, -1)
			t.trie.put(edge, next)
		}
		node = next
	}
	if node != 0 {
		t.ends[node] = id
	}
}

func (t *Unigram) Kind() string            { return "unigram" }
func (t *Unigram) Unknown() (uint32, bool) { return uint32(max(0, t.unknown)), t.unknown >= 0 }

// AppendText writes the replacement as the space that it was, but not at the
// start of a text.
func (t *Unigram) AppendText(dst []byte, prev int64, id uint32) []byte {
	token := t.Token(id)
	if t.literal[id] {
		return append(dst, token...)
	}
	if t.fallback {
		if b, ok := byteToken(token); ok {
			return append(dst, b)
		}
	}
	if rest, ok := strings.CutPrefix(token, t.metaspace.Replacement); ok && prev < 0 && t.metaspace.PrependScheme != "never" {
		token = rest
	}
	return append(dst, strings.ReplaceAll(token, t.metaspace.Replacement, " ")...)
}

// byteToken reads the name of a byte in a vocabulary: <0x0A>.
func byteToken(token string) (byte, bool) {
	var b byte
	if len(token) != 6 {
		return 0, false
	}
	_, err := fmt.Sscanf(token, "<0x%02X>", &b)
	return b, err == nil
}

// WriteJSON writes the file as it was read.
func (t *Unigram) WriteJSON(w io.Writer) error {
	_, err := w.Write(t.content)
	return err
}

type unigramEncoder struct {
	t       *Unigram
	cache   *pieceCache
	lowered []byte
	spaced  []byte
	best    []node
	path    []node
}

// node is the best way to write the text up to a place.
type node struct {
	score float64
	start int // where its last token starts; -1 if there is no way yet
	id    int64
}

func (t *Unigram) NewEncoder() Encoder {
	e := &unigramEncoder{t: t}
	e.cache = newPieceCache(e.piece)
	return e
}

// Cut is before a space, where a new piece starts.
func (e *unigramEncoder) Cut(text []byte) int {
	return e.t.cutAround(text, func(text []byte) int { return max(0, bytes.LastIndexByte(text, ' ')) })
}

func (e *unigramEncoder) Encode(dst []uint32, text []byte) ([]uint32, error) {
	from := len(dst)
	return e.t.encodeAround(dst, text, func(dst []uint32, text []byte) []uint32 {
		return e.encode(dst, text, len(dst) == from)
	}), nil
}

// encode encodes text without added tokens in it; first tells whether it is
// the start of the document.
func (e *unigramEncoder) encode(dst []uint32, text []byte, first bool) []uint32 {
	if e.t.lower {
		e.lowered = appendLower(e.lowered[:0], text)
		text = e.lowered
	}
	mark := []byte(e.t.metaspace.Replacement)
	e.spaced = e.spaced[:0]
	scheme := e.t.metaspace.PrependScheme
	if len(text) > 0 && (scheme == "always" || scheme == "" || scheme == "first" && first) &&
		text[0] != ' ' && !bytes.HasPrefix(text, mark) {
		e.spaced = append(e.spaced, mark...)
	}
	for _, b := range text {
		if b == ' ' {
			e.spaced = append(e.spaced, mark...)
		} else {
			e.spaced = append(e.spaced, b)
		}
	}
	for rest := e.spaced; len(rest) > 0; {
		end := len(rest)
		if next := bytes.Index(rest[1:], mark); next >= 0 {
			end = next + 1
		}
		dst = e.cache.append(dst, rest, 0, end)
		rest = rest[end:]
	}
	return dst
}

// piece appends the ids of the best way to write a piece (Viterbi).
func (e *unigramEncoder) piece(dst []uint32, piece []byte) []uint32 {
	t := e.t
	e.best = e.best[:0]
	for range len(piece) + 1 {
		e.best = append(e.best, node{start: -1})
	}
	for start := 0; start < len(piece); {
		_, size := utf8.DecodeRune(piece[start:])
		here, single := e.best[start].score, false
		at := uint32(0)
		for end := start; end < len(piece); end++ {
			next, ok := t.trie.get(pair{at, uint32(piece[end])})
			if !ok {
				break
			}
			at = next
			id := t.ends[at]
			if id < 0 {
				continue
			}
			e.offer(end+1, node{here + t.scores[id], start, id})
			single = single || end+1-start == size
		}
		if !single {
			e.offer(start+size, node{here + t.unknownScore, start, t.unknown})
		}
		start += size
	}
	e.path = e.path[:0]
	for end := len(piece); end > 0; end = e.best[end].start {
		e.path = append(e.path, e.best[end])
	}
	return e.write(dst, piece)
}

func (e *unigramEncoder) offer(end int, n node) {
	if old := &e.best[end]; old.start < 0 || n.score > old.score {
		*old = n
	}
}

// write appends the ids of the path, which runs backwards. Unknown characters
// that follow each other are one token, or the bytes of all of them.
func (e *unigramEncoder) write(dst []uint32, piece []byte) []uint32 {
	for i := len(e.path) - 1; i >= 0; i-- {
		n := e.path[i]
		if n.id != e.t.unknown {
			dst = append(dst, uint32(n.id))
			continue
		}
		for i > 0 && e.path[i-1].id == e.t.unknown {
			i--
		}
		end := len(piece)
		if i > 0 {
			end = e.path[i-1].start
		}
		dst = e.appendUnknown(dst, piece[n.start:end])
	}
	return dst
}

func (e *unigramEncoder) appendUnknown(dst []uint32, text []byte) []uint32 {
	if id, ok := e.t.byID[string(text)]; ok && int(id) < e.t.model {
		return append(dst, id)
	}
	if e.t.fallback {
		from := len(dst)
		for _, b := range text {
			id, ok := e.t.byID[fmt.Sprintf("<0x%02X>", b)]
			if !ok {
				return append(dst[:from], uint32(e.t.unknown))
			}
			dst = append(dst, id)
		}
		return dst
	}
	return append(dst, uint32(e.t.unknown))
}
