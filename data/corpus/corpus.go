// Package corpus finds text and reads it: files of several formats, plain,
// compressed or in archives, folders that keep their own splits, and corpora
// known by name. It returns documents and does not tokenize them.
package corpus

import (
	"context"
	"io"

	"github.com/koala-lm/koala-lm/data"
)

// A Sink takes the documents of a source one after another. A document may be
// of any length and is written in pieces.
type Sink interface {
	// Begin starts a document; place names its origin in messages, such as
	// "notes.jsonl:12".
	Begin(place string) error
	io.Writer
	End() error
}

// A Source supplies documents: a file, an archive, standard input, or a
// generated corpus.
type Source interface {
	// Read writes every document to the sink and returns the source's
	// description.
	Read(ctx context.Context, sink Sink) (data.SourceInfo, error)
	// Size is about the number of bytes that will be read, or -1 if it is not
	// known in advance: progress is shown as a share of it.
	Size() int64
}

// A Plan holds the sources that were found: undivided sources in Loose or, for
// a corpus with splits, the sources of each split in Splits. Only one of the
// two is set.
type Plan struct {
	Loose  []Source
	Splits map[string][]Source // train, valid, test
	Parts  []int               // for a mix, the end of each text's sources in Loose
	Held   map[string][]Source // sources of valid and test that were named in addition to Loose
	Corpus *data.CorpusInfo    // the corpus, if it was named
}

// Options say how files are read.
type Options struct {
	Field          string       // the path of the field of records that holds the text; "" is "text"
	Template       *Template    // makes the text of several fields instead
	Format         string       // the files' format, one of Formats; "" derives it from their names
	Encoding       string       // of text, such as utf-16 or latin1; "" is UTF-8
	Skipped        func(string) // called for each record that is skipped; nil makes a bad record an error
	Stdin          io.Reader    // what the path "-" reads
	ReplaceInvalid bool         // the sink replaces bytes that are not UTF-8
	Progress       func(int64)  // called with the number of bytes read since the last call; may be nil
}

func (o Options) field() string {
	if o.Field == "" {
		return "text"
	}
	return o.Field
}
