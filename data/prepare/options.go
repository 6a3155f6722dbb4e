// Package prepare makes a dataset folder from text: it reads a corpus, divides
// it into splits, learns a tokenizer from train and encodes every split. Text
// passes through a file on disk, so memory does not grow with it.
package prepare

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/data/corpus"
	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// Options of a preparation. A field's zero value selects its default, if it has
// one.
type Options struct {
	Paths      []string  // files, folders, globs, "-"
	Mix        []MixPart // texts that are mixed, instead of Paths
	Corpus     string    // a corpus known by name, instead of Paths
	Tokens     int64     // length of corpus markov; 0 is a million
	Sums       []string  // SHA-256 of that corpus's files that have none in the catalog
	Cache      string    // the folder of downloads; "" is corpus.CacheDir
	ValidFiles []string  // paths of the valid split's text; Valid is then ignored
	TestFiles  []string
	Field      string    // the path of the field of records that holds the text; default "text"
	Template   string    // makes the text of several fields: "{title}\\n\\n{text}"
	Format     string    // the files' format, one of corpus.Formats; default from their names
	Encoding   string    // the text's encoding, such as utf-16 or latin1; default UTF-8
	Dedupe     bool      // keep one of several documents with the same text
	SkipBad    bool      // skip and count records that cannot be read
	Sample     float64   // the fraction of the text that is used: documents drawn from Seed; 0 is all
	MaxTokens  int64     // the largest number of tokens of train; 0 is no limit
	Stdin      io.Reader // what "-" reads

	Out    string // the folder to make
	Name   string // the dataset's name; default the last element of Out
	Force  bool   // replace an existing dataset
	DryRun bool   // write nothing; only compute what the dataset would be

	Valid, Test Share
	SharesGiven bool   // the user set Valid or Test
	Seed        uint64 // seed of drawing documents for valid and test, and of corpus markov

	Tokenizer     string   // the name of a tokenizer.Kind, or the path of a tokenizer.json; default word
	VocabSize     int      // the largest number of ids; 0 is the default of the tokenizer
	MinCount      int      // words, characters or pairs seen less often in train are left out; 0 is the default of the tokenizer
	Lower         bool     // convert to lower case (word)
	Split         string   // how text is cut before merges are learned (bpe): a name of tokenizer.Splits, or an expression
	SpecialTokens []string // special tokens of a tokenizer that is trained here, beside its own
	TrainBy       string   // what a tokenizer is trained on: lines (default) or documents
	TokenizerText []string // paths of the text that a tokenizer is trained on; default train
	SpecialInText bool     // special tokens that are spelled out in text get their ids
	BOS, EOS      string   // tokens at the start and at the end of each document; "" is none
	Separator     string   // the token between documents; "" is the tokenizer's default, or none beside BOS or EOS; "none" is no token

	ReplaceInvalid bool // replace bytes that are not UTF-8 by U+FFFD; otherwise they are an error
	Workers        int  // default: as many as there are processors

	Progress Progress // may be nil
}

// A Share is the size of a split: 0 is no split, a number up to 1 is a fraction
// of the text's bytes, and a number from 2 on is a maximum of tokens.
type Share float64

// Progress receives the progress of a preparation. Its methods are called by
// one goroutine at a time.
type Progress interface {
	// Stage starts the next stage. total is its number of bytes, -1 if unknown.
	Stage(name string, total int64)
	// Add counts n more bytes of the stage as done.
	Add(n int64)
}

type noProgress struct{}

func (noProgress) Stage(string, int64) {}
func (noProgress) Add(int64)           {}

// Check returns the errors that can be found before any work is done: wrong
// usage, not bad input.
func (o Options) Check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Out == "" && !o.DryRun {
		wrong("--out is missing: the folder to make")
	}
	if len(o.Mix) > 0 && (o.Corpus != "" || len(o.Paths) > 0) {
		wrong("--mix names the paths itself: no others, and no --corpus, may stand beside it")
	}
	if o.Corpus != "" && len(o.Paths) > 0 {
		wrong("--corpus %s and paths exclude each other", o.Corpus)
	}
	if o.Tokens < 0 {
		wrong("--tokens is %d, want a positive number", o.Tokens)
	}
	if o.Tokens != 0 && o.Corpus != "markov" {
		wrong("--tokens is the size of corpus markov, and has no meaning with other text")
	}
	if len(o.Sums) > 0 && o.Corpus == "" {
		wrong("--sha256 is the sum of a corpus's file: it has no meaning without --corpus")
	}
	if o.Template != "" {
		if _, err := corpus.ParseTemplate(o.Template); err != nil {
			wrong("--template %w", err)
		}
		if o.Field != "" {
			wrong("--field and --template exclude each other")
		}
	}
	if o.Format != "" && !slices.Contains(corpus.Formats, o.Format) {
		wrong("--format is %q, want %s", o.Format, strings.Join(corpus.Formats, ", "))
	}
	if o.Encoding != "" {
		if err := corpus.CheckEncoding(o.Encoding); err != nil {
			errs = append(errs, err)
		}
	}
	for _, share := range []struct {
		flag  string
		share Share
	}{{"--valid", o.Valid}, {"--test", o.Test}} {
		if s := share.share; s < 0 || s != s || s > 1 && s != Share(int64(s)) {
			wrong("%s is %v, want a fraction from 0 to 1, or a whole number of tokens", share.flag, s)
		}
	}
	if o.Valid.fraction()+o.Test.fraction() >= 1 {
		wrong("--valid %v and --test %v leave nothing to train on", o.Valid, o.Test)
	}
	if o.Sample < 0 || o.Sample > 1 || o.Sample != o.Sample {
		wrong("--sample is %v, want a fraction from 0 to 1", o.Sample)
	}
	if o.MaxTokens < 0 {
		wrong("--max-tokens is %d, want a positive number", o.MaxTokens)
	}
	if o.VocabSize < 0 {
		wrong("--vocab-size is %d, want a positive number", o.VocabSize)
	}
	kind, known := tokenizer.FindKind(o.Tokenizer)
	for _, given := range []struct {
		flag  string
		given bool
	}{{"vocab-size", o.VocabSize > 0}, {"min-count", o.MinCount > 1}, {"lower", o.Lower}, {"split", o.Split != ""}, {"special-token", len(o.SpecialTokens) > 0}, {"train-by", o.TrainBy != ""}} {
		if given.given && (!known || !kind.Takes(given.flag)) {
			wrong("--%s has no meaning with --tokenizer %s", given.flag, cmp.Or(o.Tokenizer, kind.Name))
		}
	}
	if known && o.VocabSize > 0 && o.VocabSize < kind.MinVocab {
		wrong("--vocab-size is %d, want at least %d", o.VocabSize, kind.MinVocab)
	}
	if o.Split != "" {
		if err := tokenizer.CheckSplit(o.Split); err != nil {
			wrong("--split: %w", err)
		}
	}
	if o.TrainBy != "" && o.TrainBy != "lines" && o.TrainBy != "documents" {
		wrong("--train-by is %q, want lines or documents", o.TrainBy)
	}
	if len(o.TokenizerText) > 0 && kind.NewTrainer == nil {
		wrong("--tokenizer-text has no meaning with --tokenizer %s, which is not trained", o.Tokenizer)
	}
	if o.MinCount < 0 {
		wrong("--min-count is %d, want at least 1", o.MinCount)
	}
	if o.Workers < 0 {
		wrong("--workers is %d, want at least 1", o.Workers)
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Progress == nil {
		o.Progress = noProgress{}
	}
	return o
}

// fraction is the share of the text, 0 for a number of tokens.
func (s Share) fraction() float64 {
	if s <= 1 {
		return float64(s)
	}
	return 0
}

// limit is the largest number of tokens, 0 if there is none.
func (s Share) limit() int64 {
	if s <= 1 {
		return 0
	}
	return int64(s)
}

// limitBytes is more text than a sensible split of limit tokens has. A longer
// text is not read to count its tokens.
func limitBytes(limit int64) int64 { return max(1<<20, 64*limit) }
