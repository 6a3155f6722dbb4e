package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// spPiece is an entry of a SentencePiece model.
type spPiece struct {
	text  string
	score float32
	kind  uint64
}

// Kinds of pieces in a SentencePiece model.
const (
	spNormal  = 1
	spUnknown = 2
	spControl = 3
	spUser    = 4
	spUnused  = 5
)

// spModel is the part of sentencepiece_model.proto that affects ids.
type spModel struct {
	pieces       []spPiece
	kind         uint64 // 1 Unigram, 2 BPE, 3 word, 4 char
	byteFallback bool
	suffix       bool // white space is at the end of words, not at their start
	charsmap     []byte
	dummyPrefix  bool // put a space before the text
	removeExtra  bool // replace consecutive spaces by one
	escape       bool // replace spaces by U+2581
}

// parseSentencePiece converts a .model of SentencePiece to a tokenizer.json. With a
// character map (nmt_nfkc) Hugging Face gives other ids to some text with combining
// marks: see precompiled.
func parseSentencePiece(content []byte) (Tokenizer, error) {
	m := spModel{kind: 1, dummyPrefix: true, removeExtra: true, escape: true}
	if err := m.read(content); err != nil {
		return nil, fmt.Errorf("not a SentencePiece model: %w", err)
	}
	if len(m.pieces) == 0 {
		return nil, errors.New("not a SentencePiece model: it has no pieces")
	}
	if m.suffix || !m.escape {
		return nil, errors.New("a SentencePiece model with white space as suffix, or not escaped, is not supported: train it without treat_whitespace_as_suffix")
	}
	// Hugging Face adds and removes white space around such symbols too. That is the
	// smaller harm for long ones, which mark parts of a conversation.
	if i := slices.IndexFunc(m.pieces, func(p spPiece) bool { return p.kind == spUser && utf8.RuneCountInString(p.text) == 1 }); i >= 0 && (m.dummyPrefix || m.removeExtra) {
		return nil, fmt.Errorf("a SentencePiece model with user-defined characters (%q) that adds or removes white space is not supported: save the tokenizer with transformers (save_pretrained) and use its tokenizer.json", m.pieces[i].text)
	}
	var steps []any
	replace := func(pattern map[string]any, content string) any {
		return map[string]any{"type": "Replace", "pattern": pattern, "content": content}
	}
	if len(m.charsmap) > 0 {
		if m.sameLineEnds() { // Hugging Face replaces \r\n, one grapheme, as a whole
			steps = append(steps, replace(map[string]any{"String": "\r\n"}, "\n\n"))
		}
		steps = append(steps, map[string]any{"type": "Precompiled", "precompiled_charsmap": base64.StdEncoding.EncodeToString(m.charsmap), "longest_match": true})
	}
	if m.removeExtra {
		steps = append(steps, map[string]any{"type": "Strip", "strip_left": true, "strip_right": true},
			replace(map[string]any{"Regex": " {2,}"}, " "))
	}
	if m.dummyPrefix {
		steps = append(steps, map[string]any{"type": "Prepend", "prepend": "▁"})
	}
	steps = append(steps, replace(map[string]any{"String": " "}, "▁"))
	f := file{
		AddedTokens: m.added(),
		Normalizer:  map[string]any{"type": "Sequence", "normalizers": steps},
		Decoder: map[string]any{"type": "Sequence", "decoders": []any{
			replace(map[string]any{"String": "▁"}, " "), map[string]any{"type": "ByteFallback"}, map[string]any{"type": "Fuse"},
			map[string]any{"type": "Strip", "content": " ", "start": boolInt(m.dummyPrefix), "stop": 0},
		}},
	}
	switch m.kind {
	case 1:
		f.Model = m.unigram()
	case 2:
		f.Model = m.bpe()
	default:
		return nil, errors.New("a SentencePiece model of words or characters is not supported: want Unigram or BPE")
	}
	return build(f)
}

// sameLineEnds reports whether the character map treats \r as it treats \n.
func (m *spModel) sameLineEnds() bool {
	p, err := newPrecompiled(m.charsmap)
	if err != nil {
		return false // and reading the normalizer says why
	}
	cr, okCR := p.transform([]byte("\r"))
	lf, okLF := p.transform([]byte("\n"))
	crlf := p.appendLongest(nil, []byte("\r\n"))
	return okCR && okLF && bytes.Equal(cr, lf) && bytes.Equal(crlf, append(cr[:len(cr):len(cr)], lf...))
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (m *spModel) unknown() int {
	return slices.IndexFunc(m.pieces, func(p spPiece) bool { return p.kind == spUnknown })
}

// added returns control symbols, which are special, and user-defined symbols, which
// SentencePiece finds in normalized text.
func (m *spModel) added() (added []addedToken) {
	for id, p := range m.pieces {
		if p.kind == spControl || p.kind == spUnknown || p.kind == spUser {
			added = append(added, addedToken{ID: uint32(id), Content: p.text, Special: p.kind != spUser, Normalized: p.kind == spUser && !m.dummyPrefix && !m.removeExtra})
		}
	}
	return added
}

func (m *spModel) unigram() any {
	vocab := make([][2]any, len(m.pieces))
	for id, p := range m.pieces {
		score := neverScore
		if p.kind == spNormal || p.kind == spUser {
			score = float64(p.score)
		}
		vocab[id] = [2]any{p.text, score}
	}
	model := map[string]any{"type": "Unigram", "vocab": vocab, "byte_fallback": m.byteFallback, "unk_id": nil, "single_precision": true}
	if id := m.unknown(); id >= 0 {
		model["unk_id"] = id
	}
	return model
}

// bpe makes a merge from every division of a piece into two pieces, in the order of
// the merged pieces' scores. SentencePiece joins the two neighbours whose joined
// piece has the best score.
func (m *spModel) bpe() any {
	byText := make(map[string]int, len(m.pieces))
	vocab := make([]vocabEntry, 0, len(m.pieces))
	for id, p := range m.pieces {
		if p.kind != spUnused {
			byText[p.text] = id
		}
		vocab = append(vocab, vocabEntry{p.text, uint32(id)})
	}
	type merge struct{ left, right, to int }
	var merges []merge
	for id, p := range m.pieces {
		if p.kind != spNormal {
			continue
		}
		for n := range p.text {
			if n == 0 {
				continue
			}
			left, okLeft := byText[p.text[:n]]
			right, okRight := byText[p.text[n:]]
			if okLeft && okRight && m.pieces[left].kind == spNormal && m.pieces[right].kind == spNormal {
				merges = append(merges, merge{left, right, id})
			}
		}
	}
	slices.SortStableFunc(merges, func(a, b merge) int {
		return cmp.Or(cmp.Compare(m.pieces[b.to].score, m.pieces[a.to].score), cmp.Compare(a.to, b.to), cmp.Compare(a.left, b.left), cmp.Compare(a.right, b.right))
	})
	pairs := make([][2]string, len(merges))
	for i, x := range merges {
		pairs[i] = [2]string{m.pieces[x.left].text, m.pieces[x.right].text}
	}
	model := bpeModel{Type: "BPE", FuseUnk: true, ByteFallback: m.byteFallback, Vocab: sparseVocab(vocab), Merges: pairs}
	if id := m.unknown(); id >= 0 {
		model.UnkToken = &m.pieces[id].text
	}
	return model
}

// protoField is a field of a protocol buffer: its number, and its bytes or number.
type protoField struct {
	number uint64
	bytes  []byte
	value  uint64
}

var errProto = errors.New("its fields are damaged")

// eachField calls do with each field of a message.
func eachField(message []byte, do func(f protoField) error) error {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return errProto
		}
		message = message[n:]
		f := protoField{number: tag >> 3}
		switch tag & 7 {
		case 0:
			if f.value, n = binary.Uvarint(message); n <= 0 {
				return errProto
			}
			message = message[n:]
		case 1:
			if len(message) < 8 {
				return errProto
			}
			f.value, message = binary.LittleEndian.Uint64(message), message[8:]
		case 2:
			size, n := binary.Uvarint(message)
			if n <= 0 || size > uint64(len(message)-n) {
				return errProto
			}
			f.bytes, message = message[n:n+int(size)], message[n+int(size):]
		case 5:
			if len(message) < 4 {
				return errProto
			}
			f.value, message = uint64(binary.LittleEndian.Uint32(message)), message[4:]
		default:
			return errProto
		}
		if err := do(f); err != nil {
			return err
		}
	}
	return nil
}

func (m *spModel) read(content []byte) error {
	pieces := 0
	if err := eachField(content, func(f protoField) error {
		if f.number == 1 {
			pieces++
		}
		return nil
	}); err != nil {
		return err
	}
	m.pieces = make([]spPiece, 0, pieces)
	return eachField(content, func(f protoField) error {
		switch f.number {
		case 1: // a piece
			p := spPiece{kind: spNormal}
			err := eachField(f.bytes, func(f protoField) error {
				switch f.number {
				case 1:
					p.text = strings.ToValidUTF8(string(f.bytes), "\ufffd")
				case 2:
					p.score = math.Float32frombits(uint32(f.value))
				case 3:
					p.kind = f.value
				}
				return nil
			})
			if err == nil && p.text == "" {
				err = fmt.Errorf("piece %d is empty", len(m.pieces)) // SentencePiece refuses it too
			}
			m.pieces = append(m.pieces, p)
			return err
		case 2: // trainer_spec
			return eachField(f.bytes, func(f protoField) error {
				switch f.number {
				case 3:
					m.kind = f.value
				case 24:
					m.suffix = f.value != 0
				case 35:
					m.byteFallback = f.value != 0
				}
				return nil
			})
		case 3: // normalizer_spec
			return eachField(f.bytes, func(f protoField) error {
				switch f.number {
				case 2:
					m.charsmap = f.bytes
				case 3:
					m.dummyPrefix = f.value != 0
				case 4:
					m.removeExtra = f.value != 0
				case 5:
					m.escape = f.value != 0
				}
				return nil
			})
		}
		return nil
	})
}
