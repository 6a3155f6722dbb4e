// Package tokenizer turns text into ids and back.
//
// Every kind implements Tokenizer: words between white space, bytes, characters,
// byte-level BPE, and any Hugging Face tokenizer.json of another tool. All of them
// can be written as such a file, and Parse reads it back: the file describes a
// tokenizer completely.
package tokenizer

import "io"

// Special tokens that this package adds.
const (
	EndOfText    = "<|endoftext|>" // separates documents (all kinds but word)
	UnknownToken = "<unk>"         // replaces text that the vocabulary does not have
	EndOfLine    = "<eos>"         // ends each line (word)
)

// A Tokenizer maps text to ids in [0, Vocab) and back. It is safe for concurrent use:
// state between calls of Encode is in an Encoder.
type Tokenizer interface {
	// Kind names the kind: word, byte, char, or the type of a tokenizer.json's model.
	Kind() string
	// Words reports whether each token is a word or a line end, in CountWords' sense.
	Words() bool
	// Vocab is the number of ids.
	Vocab() int
	// Token returns the vocabulary's token with this id, as tokenizer.json spells it,
	// or "" if there is none.
	Token(id uint32) string
	// ID returns the id of a token, as tokenizer.json spells it.
	ID(token string) (id uint32, ok bool)
	// Unknown returns the id of the unknown token, if there is one.
	Unknown() (id uint32, ok bool)
	// Separator returns the id between documents, if there is one.
	Separator() (id uint32, ok bool)
	// NewEncoder returns an encoder for use by one goroutine.
	NewEncoder() Encoder
	// AppendText appends the text of one token to dst. prev is the token before it,
	// or -1 at the start, because some kinds write a space between two tokens. The
	// bytes of one token need not be valid UTF-8.
	AppendText(dst []byte, prev int64, id uint32) []byte
	// WriteJSON writes the tokenizer in the layout of Hugging Face's
	// tokenizer.json.
	WriteJSON(w io.Writer) error
}

// A Part reports whether a text is at the start and at the end of its document. Some
// tokenizers write a mark at the start of a document, or remove white space from its
// ends.
type Part uint8

const (
	Middle   Part = 0
	Starts   Part = 1 // the document starts with the text
	Ends     Part = 2 // the document ends with the text
	Document Part = Starts | Ends
)

func (p Part) starts() bool { return p&Starts != 0 }
func (p Part) ends() bool   { return p&Ends != 0 }

// An Encoder encodes text for one goroutine. It may keep a cache.
type Encoder interface {
	// Encode appends the ids of a text to dst. The text is a whole document, or a
	// part between cuts. It fails if the tokenizer has no token for some of the text.
	Encode(dst []uint32, text []byte, part Part) ([]uint32, error)
	// Cut returns the largest n that it finds for which text[:n] and the rest may be
	// encoded separately with the same ids, whatever follows text. It returns 0 if it
	// finds none. part tells whether the text starts its document.
	Cut(text []byte, part Part) int
}

// Encode returns the ids of a text. To encode many texts, use an Encoder.
func Encode(t Tokenizer, text string) ([]uint32, error) {
	return t.NewEncoder().Encode(nil, []byte(text), Document)
}

// Decode returns the text of ids.
func Decode(t Tokenizer, ids []uint32) string {
	var text []byte
	prev := int64(-1)
	for _, id := range ids {
		text = t.AppendText(text, prev, id)
		prev = int64(id)
	}
	return string(text)
}
