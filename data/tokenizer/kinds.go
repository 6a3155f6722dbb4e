package tokenizer

import (
	"slices"
	"strings"
)

// Kinds are the tokenizers that are selected by name, in the order of help. A kind
// is one file and one line here.
var Kinds = []Kind{wordKind, bpeKind, unigramKind, wordPieceKind, byteKind, charKind}

// Kind is a kind of tokenizer that is selected by name.
type Kind struct {
	Name     string
	About    string   // one line for help
	Words    bool     // each token is a word or a line end
	MinVocab int      // the smallest possible vocabulary
	Flags    []string // flags of prepare that apply to it

	// NewTrainer returns a trainer of the kind. It is nil for a kind that is not
	// trained: Fixed is then its tokenizer.
	NewTrainer func(opts TrainOptions) (Trainer, error)
	Fixed      Tokenizer
}

// TrainOptions configure training. A field's zero value selects the kind's default.
type TrainOptions struct {
	Size     int    // the largest number of ids
	MinCount int    // words, characters or pairs with a lower count are left out
	Lower    bool   // convert to lower case
	Split    string // how text is cut into pieces: a name of Splits, or an expression

	Documents bool     // pieces may span lines, as in Hugging Face's train_from_iterator over documents; else lines are read one by one, as from files
	Special   []string // special tokens that follow the kind's own
}

// A Trainer learns a tokenizer from a text. Several goroutines count the text.
type Trainer interface {
	// NewCounter returns a counter for one goroutine. Calls must not overlap with
	// other calls.
	NewCounter() Counter
	// Cut returns a place at which a long text may be cut for counting in parts, or
	// 0.
	Cut(text []byte, part Part) int
	// Train makes the tokenizer from all counters' counts. The counters must not be
	// used afterwards.
	Train() (Tokenizer, error)
}

// A Counter counts text for one goroutine.
type Counter interface {
	// Add counts a text that ends at a cut or at the end of its document. at is the
	// text's offset in the whole training text, in bytes; part, where it lies in its
	// document.
	Add(text []byte, at int64, part Part)
}

// FindKind returns the kind called name; "" is the first kind.
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

// Takes reports whether a flag of prepare applies to the kind.
func (k Kind) Takes(flag string) bool { return slices.Contains(k.Flags, flag) }
