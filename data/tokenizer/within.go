package tokenizer

import "unicode/utf8"

// A text without a place to cut at is one long piece at its end: ideographs, spaces, a word
// of a megabyte. It is cut inside this piece, at a place where the model's encoding is
// settled (settler) and where the steps before the model make two pieces of the two sides.

// longestWithin bounds the memory for finding such a place, which is some 20 bytes for each
// byte of the piece.
const longestWithin = 4 << 20

// boundaries finds the places in a piece where the encoding of each text that goes on from
// it has a boundary, and after which the rest is encoded as if a piece began there.
type boundaries interface {
	// settle returns the number of the last one, 0 if there is none.
	settle(piece []byte) int
	place(n int) int                // in the piece
	before(n int) int               // the number of the one before
	whole(piece []byte, n int) bool // a character starts there
}

// within finds cuts inside a piece.
type within struct {
	steps *pipelineEncoder // its model is the within: it keeps the last piece
	boundaries
	text []byte
	span span
}

func (w *within) append(dst []uint32, text []byte, start, end int) ([]uint32, error) {
	w.text, w.span = text, span{start, end}
	return dst, nil
}

// isDivisible reports whether the steps before the model can make two pieces of one: a mark
// that only a first piece gets, then sets of characters, of which none is inside a piece,
// or one splitter, which says where (goesOn).
func (t *Pipeline) isDivisible() bool {
	if t.fresh {
		return false
	}
	switch m := t.model.(type) {
	case *bpe:
		if m.prefix != "" || m.suffix != "" {
			return false
		}
	case *wordPiece:
		if m.bytes == nil {
			return false
		}
	default:
		return false
	}
	splits := t.splits
	if len(splits) > 0 {
		if _, marks := splits[0].(*prefix); marks {
			splits = splits[1:]
		}
	}
	for _, step := range splits {
		s, ok := step.(*split)
		if !ok || s.set == nil && (s.fast == nil || len(splits) > 1) {
			return false
		}
	}
	return true
}

// cutWithin returns a place inside the last piece of a text, 0 if it finds none.
func (e *pipelineEncoder) cutWithin(text []byte, part Part) int {
	if e.within == nil {
		e.within = &within{steps: e.t.NewEncoder().(*pipelineEncoder)}
		e.within.steps.model = e.within
		switch m := e.t.model.(type) {
		case *bpe:
			e.within.boundaries = &settler{m: m}
		case *wordPiece:
			e.within.boundaries = &greedyBoundaries{m: m.bytes}
		}
	}
	w := e.within
	// The text up to here is normalized whatever follows.
	end := len(text) - e.around()
	for tries := 0; end > 0 && !e.independent(text, end); end-- {
		if tries++; tries == cutContext {
			return 0
		}
	}
	if end <= 0 {
		return 0
	}
	w.text = nil
	if _, err := w.steps.Encode(nil, text[:end], part&Starts); err != nil || w.span.end != len(w.text) {
		return 0
	}
	piece := w.text[w.span.start:w.span.end]
	if len(piece) < longPiece || len(piece) > longestWithin {
		return 0
	}
	n := w.settle(piece)
	// The rest of the piece must be longer than a token: else it may be one that merges do
	// not make (ignore_merges).
	for n > 0 && (w.place(n) > len(piece)-utf8.UTFMax*longestToken || !w.whole(piece, n)) {
		n = w.before(n)
	}
	// Each place of the text has one in the piece, at the same distance from the end after
	// normalization.
	at, known := len(piece), end
	for i := end - 1; i > max(0, end-cutTries) && n > 0; i-- {
		if !utf8.RuneStart(text[i]) || !e.independent(text, i) {
			continue
		}
		tail, err := e.t.normalize(w.steps.buffers, text[i:known], false, false)
		if err != nil {
			return 0
		}
		for _, step := range e.t.splits {
			tail = step.see(nil, tail)
		}
		at, known = at-len(tail), i
		for n > 0 && (w.place(n) > at || !w.whole(piece, n)) {
			n = w.before(n)
		}
		if n > 0 && w.place(n) == at && e.goesOn(w.text, w.span.start, w.span.start+at) {
			return i
		}
	}
	return 0
}

// independent reports whether added tokens and normalizers treat the two sides of a place
// alone.
func (e *pipelineEncoder) independent(text []byte, place int) bool {
	if !utf8.RuneStart(text[place]) {
		return false
	}
	left, _ := e.normalizedApart(e.sides(text, place))
	return left != nil
}

// goesOn reports whether the piece that starts at start and contains the place at is cut
// there as two pieces, whatever follows.
func (e *pipelineEncoder) goesOn(text []byte, start, at int) bool {
	for _, step := range e.t.splits {
		if s, ok := step.(*split); ok && s.fast != nil {
			return s.fast.goesOn(text, start, at)
		}
	}
	return true
}
