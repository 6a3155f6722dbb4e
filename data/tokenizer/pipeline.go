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

// Pipeline is a tokenizer as Hugging Face's tokenizer.json describes it. Added tokens are
// found in the text. The text between them is normalized and cut into pieces by
// pre-tokenizers, and a model encodes each piece.
type Pipeline struct {
	*vocabulary
	kind        string
	normalizers []normalizer
	splits      []pretokenizer
	model       model
	unknown     int64
	decoder     decoder
	content     string // the file
	pad         string // the token that the file pads with, or ""

	plain      *addedFinder // finds tokens in the text
	normalized *addedFinder // finds tokens in normalized text
	overBytes  bool         // the model takes bytes
	fast       splitter     // replaces splits if one loop can do all of them and the model takes bytes
	fresh      bool         // the pieces that get a mark come from an earlier step
	seamless   bool         // a piece may be cut where the model never joins two characters
	divisible  bool         // a piece may be cut where the model's encoding is settled
}

// models parses each type of model in tokenizer.json.
var models = map[string]func(part modelPart, overBytes bool) (model, *vocabulary, error){
	"BPE":       parseBPE,
	"WordPiece": parseWordPiece,
	"WordLevel": parseWordLevel,
	"Unigram":   parseUnigram,
}

// parsePipeline reads all parts of a tokenizer.json.
func parsePipeline(raw rawFile, content string) (*Pipeline, error) {
	kind, err := modelType(raw.Model)
	if err != nil {
		return nil, err
	}
	t := &Pipeline{kind: strings.ToLower(kind), content: content, unknown: -1}
	var padding struct {
		Token string `json:"pad_token"`
	}
	if len(raw.Padding) > 0 {
		if err := readPart("padding", raw.Padding, &padding); err != nil {
			return nil, err
		}
	}
	t.pad = padding.Token
	if t.normalizers, err = parseNormalizer(raw.Normalizer); err != nil {
		return nil, err
	}
	if t.splits, err = parsePreTokenizer(raw.PreTokenizer); err != nil {
		return nil, err
	}
	overBytes := false
	if n := len(t.splits); n > 0 {
		_, overBytes = t.splits[n-1].(bytesAsChars)
	}
	parse, ok := models[kind]
	if !ok {
		return nil, unknownPart("model", kind)
	}
	if t.model, t.vocabulary, err = parse(raw.Model, overBytes); err != nil {
		return nil, err
	}
	t.unknown = unknownID(raw.Model, t.vocabulary)
	if t.decoder, err = newDecoder(raw, t); err != nil {
		return nil, err
	}
	t.plan()
	if err := t.addTokens(raw.AddedTokens); err != nil {
		return nil, fmt.Errorf("added_tokens: %w", err)
	}
	if m, ok := t.model.(*wordPiece); ok && m.bytes != nil {
		m.bytes.leaveOutEnd(t.added)
	}
	return t, t.findAdded(false)
}

// plan chooses the shortcuts that the composition of steps allows.
func (t *Pipeline) plan() {
	if m, ok := t.model.(interface{ takesBytes() bool }); ok && m.takesBytes() { // the model does the last step
		t.splits, t.overBytes = t.splits[:len(t.splits)-1], true
		if len(t.splits) == 1 {
			if s, ok := t.splits[0].(*split); ok {
				t.fast = s.fast
			}
		}
	}
	t.seamless = true
	for i, step := range t.splits {
		switch s := step.(type) {
		case *prefix:
			t.fresh = t.fresh || i > 0
		case bytesAsChars:
		case *split: // Metaspace's own split, which cuts only at its mark
			t.seamless = t.seamless && s.set != nil && s.behavior == mergedWithNext && !s.invert
		default:
			t.seamless = false
		}
	}
	t.seamless = t.seamless && !t.fresh
	t.divisible = t.isDivisible()
}

func (m *bpe) takesBytes() bool { return m.bytes != nil }

// unknownID returns the id of the unknown token, or -1.
func unknownID(part modelPart, v *vocabulary) int64 {
	var read struct {
		UnkToken *string `json:"unk_token"`
		UnkID    *int64  `json:"unk_id"`
	}
	_ = json.Unmarshal(part.fields, &read) // the model has read it already
	switch {
	case read.UnkID != nil:
		return *read.UnkID
	case read.UnkToken == nil:
		return -1
	}
	if id, ok := v.byID[*read.UnkToken]; ok {
		return int64(id)
	}
	return -1
}

// findAdded sets the added tokens that are found in text: ordinary ones always, special
// ones if special is true.
func (t *Pipeline) findAdded(special bool) error {
	var plain, normalized []addedToken
	for _, a := range t.added {
		if !a.Normalized {
			plain = append(plain, a)
			continue
		}
		text, err := t.normalize(make([][]byte, 2), []byte(a.Content), true, true)
		if err != nil {
			return err
		}
		a.Content = string(text)
		normalized = append(normalized, a)
	}
	t.plain, t.normalized = newAddedFinder(plain, special), newAddedFinder(normalized, special)
	return nil
}

func (t *Pipeline) specialInText() error { return t.findAdded(true) }

func (t *Pipeline) Kind() string { return t.kind }

func (t *Pipeline) Words() bool { return false }

func (t *Pipeline) Unknown() (uint32, bool) { return uint32(max(0, t.unknown)), t.unknown >= 0 }

// WriteJSON writes the file's original content.
func (t *Pipeline) WriteJSON(w io.Writer) error {
	_, err := io.WriteString(w, t.content)
	return err
}

// normalize runs the normalizers, alternating between two buffers.
func (t *Pipeline) normalize(buffers [][]byte, text []byte, starts, ends bool) ([]byte, error) {
	turn, most := 0, mostGrown(len(text))
	for _, n := range t.normalizers {
		out, err := n.apply(buffers[turn][:0], text, starts, ends)
		if err != nil {
			return nil, err
		}
		if len(out) > most { // steps of which none goes too far
			return nil, errGrown
		}
		if !sharesMemory(out, text) {
			buffers[turn] = out
			turn = 1 - turn
		}
		text = out
	}
	return text, nil
}

// losesHead reports whether normalizers remove the first character of a document. The rest
// then does not start the document in the sense of Metaspace's "first".
func (t *Pipeline) losesHead(text []byte) bool {
	buffers := make([][]byte, 2)
	head := text[:min(len(text), cutContext)]
	for i, n := range t.normalizers {
		_, size := utf8.DecodeRune(head)
		rest, err := n.apply(nil, head[:size], true, false)
		if err != nil || len(rest) == 0 && size > 0 {
			return true
		}
		if head, err = n.apply(buffers[i%2][:0], head, true, false); err != nil {
			return true
		}
		head = bytes.Clone(head)
	}
	return false
}

// sharesMemory reports whether a is a part of b.
func sharesMemory(a, b []byte) bool {
	return cap(a) > 0 && cap(b) > 0 && &a[:cap(a)][cap(a)-1] == &b[:cap(b)][cap(b)-1]
}

// wholeTextEncoder is a model's encoder whose pieces depend on the text before them.
type wholeTextEncoder interface {
	startText()
	passToken(id uint32) // an added token between two pieces
}

type pipelineEncoder struct {
	t       *Pipeline
	model   modelEncoder
	steps   []preState
	buffers [][]byte
	pieces  [2]pieces
	short   *shortCache // if the pipeline has a fast splitter
	first   bool        // a step depends on whether a piece starts the document
	scratch [4][]byte   // text around a place to cut at
	within  *within     // finds cuts inside a piece
}

func (t *Pipeline) NewEncoder() Encoder {
	e := &pipelineEncoder{t: t, model: t.model.newEncoder(), buffers: make([][]byte, 2)}
	if t.fast != nil {
		e.short = newShortCache(t.fast)
	}
	for _, s := range t.splits {
		e.steps = append(e.steps, s.newState())
		if p, ok := s.(*prefix); ok && p.scheme == "first" {
			e.first = true
		}
	}
	return e
}

func (e *pipelineEncoder) Encode(dst []uint32, text []byte, part Part) ([]uint32, error) {
	var err error
	whole, _ := e.model.(wholeTextEncoder)
	if whole != nil {
		whole.startText()
	}
	token := func(id uint32) {
		dst = append(dst, id)
		if whole != nil {
			whole.passToken(id)
		}
	}
	outer := e.t.plain.split(text, func(start, end int) error {
		// A section without an added token at its end is bounded by the text, or continues
		// in the next part.
		starts, ends := start > 0 || part.starts(), end < len(text) || part.ends()
		normalized, err := e.t.normalize(e.buffers, text[start:end], starts, ends)
		if err != nil {
			return err
		}
		first := start == 0 && part.starts() && e.first && !e.t.losesHead(text[start:end])
		return e.t.normalized.split(normalized, func(from, to int) error {
			dst, err = e.section(dst, normalized[from:to], from == 0 && !starts, first && from == 0)
			return err
		}, token)
	}, token)
	if outer != nil {
		return dst, outer
	}
	return dst, err
}

// section encodes normalized text without added tokens in it.
func (e *pipelineEncoder) section(dst []uint32, text []byte, continues, first bool) (_ []uint32, err error) {
	if e.t.fast != nil {
		if model, ok := e.model.(*bpeEncoder); ok {
			return e.short.section(dst, text, e.t.fast, model.cache)
		}
	}
	if e.t.fresh {
		continues = false
	}
	in := &e.pieces[0]
	in.text, in.spans = text, append(in.spans[:0], span{0, len(text)})
	for i, step := range e.steps {
		out := &e.pieces[(i+1)%2]
		if err := step.apply(in, out, continues, first); err != nil {
			return dst, err
		}
		in = out
	}
	for _, s := range in.spans {
		if dst, err = e.model.append(dst, in.text, s.start, s.end); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// cutContext is the number of bytes on both sides of a place that decide whether the text
// may be cut there.
const cutContext = 256

// cutTries is the number of consecutive places that are tried.
const cutTries = 1 << 14

// Cut examines places from the end of the text backwards. At a cut every step must treat
// the two sides independently, and a piece must end there whatever follows.
func (e *pipelineEncoder) Cut(text []byte, part Part) int {
	seam, tried, step := 0, 0, 1
	for i := len(text) - e.around(); i > 0; i -= step {
		for i > 0 && !utf8.RuneStart(text[i]) {
			i--
		}
		if i == 0 {
			break
		}
		// If none of many consecutive places is a cut, only a sample of the rest is tried.
		if tried++; tried == cutTries {
			step = max(1, i/cutTries)
		}
		switch e.cutsAt(text, i) {
		case cutPiece:
			return i
		case cutInside:
			if len(text) < e.t.model.seamFrom() {
				continue
			}
			if seam == 0 {
				seam = i
			}
			if i < len(text)/2 {
				return seam
			}
		}
	}
	if seam == 0 && e.t.divisible && len(text) >= e.t.model.seamFrom() {
		return e.cutWithin(text, part)
	}
	return seam
}

// around returns the number of bytes that are examined on each side of a place.
func (e *pipelineEncoder) around() int {
	n := cutContext
	for _, f := range []*addedFinder{e.t.plain, e.t.normalized} {
		if f != nil {
			n = max(n, f.longest+cutContext)
		}
	}
	return n
}

// cutKind classifies a place in text.
type cutKind uint8

const (
	cutNone   cutKind = iota // the two sides are not independent
	cutPiece                 // a piece ends here
	cutInside                // the model joins nothing across the place
)

func (e *pipelineEncoder) cutsAt(text []byte, place int) cutKind {
	t := e.t
	left, right := e.sides(text, place)
	if left == nil || e.quickNo(left, right) {
		return cutNone
	}
	if left, right = e.normalizedApart(left, right); left == nil {
		return cutNone
	}
	for i, step := range t.splits {
		if _, marks := step.(*prefix); marks && t.fresh && i > 0 {
			break // a piece that a later step ends would get no mark
		}
		if step.cuts(left, right) {
			return cutPiece
		}
		if !step.apart(left, right) {
			return cutNone
		}
		left, right = step.see(nil, left), step.see(nil, right)
	}
	if !t.seamless || len(left) == 0 || len(right) == 0 {
		return cutNone
	}
	a, _ := utf8.DecodeLastRune(left)
	b, _ := utf8.DecodeRune(right)
	if t.overBytes { // the model does the last step
		a, b = byteChars[left[len(left)-1]], byteChars[right[0]]
	}
	if t.model.joins(a, b) {
		return cutNone
	}
	return cutInside
}

// sides returns the text on both sides of a place that decides whether it may be cut there.
func (e *pipelineEncoder) sides(text []byte, place int) (left, right []byte) {
	n := e.around()
	from, to := max(0, place-n), min(len(text), place+n)
	for from > 0 && !utf8.RuneStart(text[from]) {
		from--
	}
	return text[from:place], text[place:to]
}

// normalizedApart returns the two sides of a place normalized, or nil if normalizers or
// added tokens depend on both.
func (e *pipelineEncoder) normalizedApart(left, right []byte) (_, _ []byte) {
	t := e.t
	for len(right) > 0 { // the context may end within a character
		r, n := utf8.DecodeLastRune(right)
		if r != utf8.RuneError || n > 1 {
			break
		}
		right = right[:len(right)-1]
	}
	if len(right) == 0 || !t.plain.separate(left, right) {
		return nil, nil
	}
	turn := 0
	for _, step := range t.normalizers {
		if !step.separate(left, right) {
			return nil, nil
		}
		l, errL := step.apply(e.scratch[turn][:0], left, false, false)
		r, errR := step.apply(e.scratch[turn+1][:0], right, false, false)
		if errL != nil || errR != nil || len(l) == 0 || len(r) == 0 {
			return nil, nil
		}
		changedL, changedR := !sharesMemory(l, left), !sharesMemory(r, right)
		if changedL {
			e.scratch[turn] = l
		}
		if changedR {
			e.scratch[turn+1] = r
		}
		if changedL != changedR { // the buffers alternate on both sides
			if !changedL {
				e.scratch[turn] = append(e.scratch[turn][:0], l...)
				l = e.scratch[turn]
			} else {
				e.scratch[turn+1] = append(e.scratch[turn+1][:0], r...)
				r = e.scratch[turn+1]
			}
		}
		if changedL || changedR {
			turn = 2 - turn
		}
		left, right = l, r
	}
	if !t.normalized.separate(left, right) {
		return nil, nil
	}
	return left, right
}

// quickNo rejects most places quickly: without normalizers the two characters decide.
func (e *pipelineEncoder) quickNo(left, right []byte) bool {
	if len(e.t.normalizers) > 0 || e.t.fast == nil || len(left) == 0 {
		return false
	}
	return !e.t.splits[0].cuts(left, right)
}

// modelType returns the type of a model. Files from before 2021 do not name it; then the
// model's fields decide, in Hugging Face's order.
func modelType(part modelPart) (string, error) {
	var read map[string]json.RawMessage
	if len(part.fields) == 0 || json.Unmarshal(part.fields, &read) != nil || read == nil {
		return "", errors.New("not a tokenizer.json: it has no model")
	}
	if kind := typeOf(part.fields); kind != "" {
		return kind, nil
	}
	for key, value := range map[string]string{"vocab": part.vocab, "merges": part.merges} {
		if value != "" {
			read[key] = nil
		}
	}
	has := func(keys ...string) bool {
		for _, key := range keys {
			if _, ok := read[key]; !ok {
				return false
			}
		}
		return true
	}
	switch {
	case has("vocab", "merges"):
		return "BPE", nil
	case has("vocab", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word"):
		return "WordPiece", nil
	case has("vocab", "unk_token"):
		return "WordLevel", nil
	case has("vocab"):
		return "Unigram", nil
	}
	return "", errors.New("not a tokenizer.json: its model has no type, and no vocab by which to tell it")
}
