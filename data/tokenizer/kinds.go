package tokenizer

import (
	"slices"
	"strings"
)

// Kinds are the tokenizers that a name stands for, in the order in which help
// lists them. A kind is one file and one line here.
var Kinds = []Kind{wordKind, bpeKind, byteKind, charKind}

// Kind is a kind of tokenizer that is known by a name.
type Kind struct {
	Name     string
	About    string   // one line for help
	Words    bool     // each token is a word or a line end
	MinVocab int      // the least vocabulary that can be asked for
	Flags    []string // flags of prepare that mean something to it

	// NewTrainer starts learning such a tokenizer from text. It is nil for a kind
	// that needs none, which Fixed then is.
	NewTrainer func(opts TrainOptions) (Trainer, error)
	Fixed      Tokenizer
}

// TrainOptions say what to learn. The zero value of a field is the default of the
// kind.
type TrainOptions struct {
	Size     int    // the largest number of ids
	MinCount int    // what is seen less often is left out
	Lower    bool   // everything in lower case
	Split    string // how text is cut into pieces: a name of Splits, or an expression
}

// A Trainer learns a tokenizer from a text that several goroutines count.
type Trainer interface {
	// NewCounter returns a counter for one goroutine. It is not called while
	// another call runs.
	NewCounter() Counter
	// Cut returns where a long text may be cut to be counted in parts, or 0.
	Cut(text []byte) int
	// Train makes the tokenizer of what all counters have counted, and uses them up.
	Train() (Tokenizer, error)
}

// A Counter counts text for one goroutine.
type Counter interface {
	// Add counts text up to a cut or to the end of its document. at is the place of
	// the text in all of the training text, in bytes.
	Add(text []byte, at int64)
}

// FindKind returns the kind with a name; "" is the first.
func FindKind(name string) (Kind, bool) {
	if name == "" {
		return Kinds[0], true
	}
	i := slices.IndexFunc(Kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, false
	}
	return Kinds[i], true
}

// KindNames lists the names of the kinds.
func KindNames() string {
	var names []string
	for _, k := range Kinds {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

// Takes tells whether a flag of prepare means something to the kind.
func (k Kind) Takes(flag string) bool { return slices.Contains(k.Flags, flag) }
