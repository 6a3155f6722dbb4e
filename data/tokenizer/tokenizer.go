// Package tokenizer turns text into ids and back.
//
// Every kind implements Tokenizer: words that white space separates, bytes,
// characters, byte-level BPE, and what other tools left behind as a Hugging
// Face tokenizer.json. All of them are written as such a file and read back
// from it by Parse, so one file is the whole description of a tokenizer.
package tokenizer

import "io"

// Names of the two kinds of special tokens that this package adds itself.
const (
	EndOfText    = "<|endoftext|>" // stands between documents (all kinds but word)
	UnknownToken = "<unk>"         // stands for what the vocabulary does not hold
	EndOfLine    = "<eos>"         // ends each line (word)
)

// A Tokenizer maps text to ids in [0, Vocab) and back. It is safe for
// concurrent use: what Encode remembers between calls lives in an Encoder.
type Tokenizer interface {
	// Kind names the kind: word, byte, char, or the type of a tokenizer.json's model.
	Kind() string
	// Words tells whether each token is a word or a line end, as CountWords counts
	// them.
	Words() bool
	// Vocab is the number of ids.
	Vocab() int
	// Token is the entry of the vocabulary with this id, as tokenizer.json
	// writes it, or "" for an id that is not in it.
	Token(id uint32) string
	// ID finds a token of the vocabulary as tokenizer.json writes it.
	ID(token string) (id uint32, ok bool)
	// Unknown is the id of the unknown token, if there is one.
	Unknown() (id uint32, ok bool)
	// Separator is the id that stands between documents, if there is one.
	Separator() (id uint32, ok bool)
	// NewEncoder returns an encoder for use by one goroutine.
	NewEncoder() Encoder
	// AppendText appends the text of one token to dst. prev is the token
	// before it, or -1 at the start, because some kinds write a space
	// between two tokens. The bytes of one token need not be whole UTF-8.
	AppendText(dst []byte, prev int64, id uint32) []byte
	// WriteJSON writes the tokenizer in the layout of Hugging Face's
	// tokenizer.json.
	WriteJSON(w io.Writer) error
}

// A Part says which part of a document a text is. Some tokenizers write a mark at
// the start of a document, or take white space from its ends.
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
	// Encode appends the ids of a text to dst: of a whole document, or of a part
	// that Cut made. It fails if the text has something that the tokenizer has no
	// token for.
	Encode(dst []uint32, text []byte, part Part) ([]uint32, error)
	// Cut returns an n for which text[:n] and the rest, whatever follows text, may
	// be encoded apart and give the same ids as together: the largest that it
	// finds. It is 0 if there is no such place.
	Cut(text []byte) int
}

// Encode returns the ids of a text. Programs that encode much keep an Encoder.
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
