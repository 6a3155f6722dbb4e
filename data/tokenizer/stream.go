package tokenizer

import "unicode/utf8"

// A Stream decodes one token at a time, for text that is shown while it is
// generated. It holds bytes back until they are whole characters.
type Stream struct {
	tokenizer Tokenizer
	prev      int64
	held      []byte
}

// NewStream starts a stream that continues after the token prev, or at the
// start of a text if prev is negative.
func NewStream(t Tokenizer, prev int64) *Stream {
	return &Stream{tokenizer: t, prev: prev}
}

// Next returns the text that the token id completes.
func (s *Stream) Next(id uint32) string {
	s.held = s.tokenizer.AppendText(s.held, s.prev, id)
	s.prev = int64(id)
	n := len(s.held)
	for back := 1; back <= utf8.UTFMax-1 && back <= n; back++ {
		if b := s.held[n-back]; utf8.RuneStart(b) {
			if !utf8.FullRune(s.held[n-back:]) {
				n -= back
			}
			break
		}
	}
	text := string(s.held[:n])
	s.held = append(s.held[:0], s.held[n:]...)
	return text
}

// Rest returns the held bytes, which do not form a whole character.
func (s *Stream) Rest() string {
	text := string(s.held)
	s.held = s.held[:0]
	return text
}
