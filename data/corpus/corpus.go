// Package corpus finds text and reads it: files of several formats, plain,
// compressed or in archives, folders that keep their own splits, and corpora
// known by name. It hands out documents and knows nothing of tokens.
package corpus

import (
	"context"
	"io"

	"github.com/koala-lm/koala-lm/data"
)

// A Sink takes the documents of a source one after another. A document may be
// of any length and is written in pieces.
type Sink interface {
	// Begin starts a document; place says where its text is from, such as
	// "notes.jsonl:12", for messages about it.
	Begin(place string) error
	io.Writer
	End() error
}

// A Source is something that documents are read from: one file, one archive,
// standard input, or a corpus made by the program.
type Source interface {
	// Read writes every document to the sink and says what was read.
	Read(ctx context.Context, sink Sink) (data.SourceInfo, error)
	// Size is the number of bytes that will be read, or -1 if that is not
	// known before.
	Size() int64
}

// A Plan is what was found: sources that are still to be divided, or, in split
// layout, sources of each split. Only one of the two is set.
type Plan struct {
	Loose  []Source
	Splits map[string][]Source // train, valid, test
	Parts  []int               // where in Loose each text of a mix ends
	Held   map[string][]Source // valid and test that were named beside Loose
	Corpus *data.CorpusInfo    // of a corpus known by name
}

// Options say how files are read.
type Options struct {
	Field          string       // the path of the field of records that holds the text; "" is "text"
	Template       *Template    // makes the text of several fields instead
	Format         string       // what files hold, one of Formats; "" is what their names say
	Encoding       string       // of text, such as utf-16 or latin1; "" is UTF-8
	Skipped        func(string) // is told of each record that is passed over; nil: such a record is an error
	Stdin          io.Reader    // what the path "-" reads
	ReplaceInvalid bool         // bytes that are not UTF-8 are left for the sink to replace
	Progress       func(int64)  // is told of every so many bytes of the sources that were read; may be nil
}

func (o Options) field() string {
	if o.Field == "" {
		return "text"
	}
	return o.Field
}
