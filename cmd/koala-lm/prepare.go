package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/corpus"
	"github.com/koala-lm/koala-lm/data/prepare"
	"github.com/koala-lm/koala-lm/data/tokenizer"
)

type prepareOptions struct {
	app *app
	prepare.Options
	valid, test string
	invalid     string
	mix         []string
	verify      string
	show        string
	format      string
	changed     func(flag string) bool
}

func newPrepareCmd(a *app) *cobra.Command {
	opts := &prepareOptions{app: a}
	cmd := &cobra.Command{
		Use:   "prepare [PATH...]",
		Short: "Turn text into a dataset folder",
		Long: `prepare reads text, divides it into train, valid and test, learns a tokenizer
from train, and writes a dataset folder that train and eval read.

A PATH is a file, a folder, a glob, or - for standard input. Files are .txt
.tokens .md .raw .jsonl .json .csv .tsv .parquet, each also as .gz .zst .bz2 .xz,
and .zip and .tar.* that hold them; a record is a document, --field or --template
its text. A file of another name that is given itself is text. A folder keeps its
splits if it has a train file (train.txt, wiki.train.tokens, ...) or files of train
and of another split in it (data/train-*.parquet, train/ and test/). Other text is divided: whole documents, drawn at random, if there are at
least 100 of them, otherwise at line ends, the head to train, then valid, then
test. Without a PATH the text is --corpus godoc: the English documentation in the
source of the installed Go (for word tokens with punctuation apart, as WikiText
has it). --corpus markov is made by a source whose perplexity is known.

--valid and --test take a fraction of the text (0.05), or the largest number of
tokens (20000). 0 makes no such split.`,
		Example: `  koala-lm prepare wikitext-2/ --out prepared/wt2
  koala-lm prepare book.txt --out prepared/book --valid 0.1 --test 0.1
  koala-lm prepare --corpus godoc --vocab-size 8000 --valid 20000 --test 20000
  koala-lm prepare --verify prepared/wt2`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Paths = args
			opts.Stdin = a.io.In
			opts.changed = cmd.Flags().Changed
			return runPrepare(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.Out, "out", "o", "", "the dataset `folder` to make (default prepared/<name of the text>)")
	f.StringVar(&opts.Corpus, "corpus", "", "a corpus known by `name`: "+strings.Join(corpus.Names(), ", "))
	f.Int64Var(&opts.Tokens, "tokens", 0, "the `size` of corpus markov, words and line ends (default 1000000)")
	f.StringSliceVar(&opts.Sums, "sha256", nil, "the `sum` that a downloaded file is expected to have, where its list gives none")
	f.StringVar(&opts.valid, "valid", "0.05", "`share` of valid: a fraction, or the largest number of tokens")
	f.StringVar(&opts.test, "test", "0.05", "`share` of test, likewise")
	f.StringSliceVar(&opts.ValidFiles, "valid-file", nil, "`path` of the text of valid")
	f.StringSliceVar(&opts.TestFiles, "test-file", nil, "`path` of the text of test")
	f.StringVar(&opts.Field, "field", "", "the `name` of the field that holds the text of records, such as meta.text; of a list, each element's (default text)")
	f.StringArrayVar(&opts.mix, "mix", nil, "mix texts: a `PATH=WEIGHT` each; bytes are in the proportion of the weights, documents in an order that --seed gives")
	f.BoolVar(&opts.Dedupe, "dedupe", false, "keep one copy of documents with the same text; documents in valid or test are removed from train")
	f.Float64Var(&opts.Sample, "sample", 1, "use this `fraction` of the text: documents drawn by --seed, or the head of fewer than 100 documents")
	f.Int64Var(&opts.MaxTokens, "max-tokens", 0, "the largest `number` of tokens of train (default no limit)")
	f.StringVar(&opts.Template, "template", "", "make the text of several fields: `pattern` such as \"{title}\\n\\n{text}\"")
	f.StringVar(&opts.Format, "input-format", "", "the `format` of the files, whatever their names: "+strings.Join(corpus.Formats, ", "))
	f.StringVar(&opts.Encoding, "encoding", "", "the `encoding` of text, such as utf-16, latin1 or shift_jis (default utf-8)")
	f.BoolVar(&opts.SkipBad, "skip-bad", false, "pass over records that cannot be read, and count them")
	f.Uint64Var(&opts.Seed, "seed", 1, "seed of the order in which documents are drawn for valid and test, and of corpus markov")
	f.StringVar(&opts.Tokenizer, "tokenizer", "word", tokenizer.KindNames()+", or the `file` of one: tokenizer.json, .model, .tiktoken, tekken.json, vocab.json with merges.txt, vocab.txt, rwkv_vocab*.txt, or a model's folder")
	f.IntVar(&opts.VocabSize, "vocab-size", 0, "the largest `number` of ids (default: every word or character; bpe 8192, unigram 8000, wordpiece 30522)")
	f.IntVar(&opts.MinCount, "min-count", 0, "words or characters seen less often in train are <unk>, pairs are not merged (default `number`: 1; bpe 2; wordpiece 1)")
	f.StringVar(&opts.Split, "split", "", "how text is cut before merges are learned (bpe): gpt2, gpt4, gpt4o, llama3, qwen2 or an `expression` (default gpt2)")
	f.BoolVar(&opts.Lower, "lower", false, "put everything in lower case (word, wordpiece)")
	f.StringArrayVar(&opts.SpecialTokens, "special-token", nil, "a special `token` of a trained tokenizer, beside its own (bpe, unigram, wordpiece)")
	f.StringVar(&opts.TrainBy, "train-by", "", "train bpe, unigram or wordpiece on lines, as tokenizers trains on files, or on `documents`, as it trains on an iterator (default lines)")
	f.StringSliceVar(&opts.TokenizerText, "tokenizer-text", nil, "`path` of a text to train the tokenizer on, instead of train")
	f.BoolVar(&opts.SpecialInText, "special-in-text", false, "special tokens that the text spells out are those tokens, not text")
	f.StringVar(&opts.Separator, "separator", "", "the `token` between documents, or none (default: the tokenizer's own, such as <|endoftext|>)")
	f.StringVar(&opts.BOS, "bos", "", "the `token` at the start of each document (default none)")
	f.StringVar(&opts.EOS, "eos", "", "the `token` at the end of each document; with --bos or --eos there is a separator only if --separator names it")
	f.StringVar(&opts.invalid, "invalid", "error", "what to do with `bytes` that are not UTF-8: error or replace")
	f.IntVar(&opts.Workers, "workers", 0, "number of `threads` (default: all processors)")
	f.BoolVar(&opts.DryRun, "dry-run", false, "write nothing, and print the planned dataset and statistics of its text")
	f.BoolVar(&opts.Force, "force", false, "replace an existing dataset")
	f.StringVar(&opts.verify, "verify", "", "check every file of the dataset `folder`, and do nothing else")
	f.StringVar(&opts.show, "show", "", "print the contents of the dataset `folder`, and do nothing else")
	addFormatFlag(cmd, &opts.format, "table", "json")
	return cmd
}

// Near this memory the garbage collector runs more often. It is no bound: what is in use
// depends on the vocabulary and on the pieces of text of the workers.
const (
	vocabularyMemory = 160 << 20
	workerMemory     = 32 << 20
)

func runPrepare(ctx context.Context, opts *prepareOptions) error {
	if opts.verify != "" || opts.show != "" {
		return runInspect(opts)
	}
	if err := opts.resolve(); err != nil {
		return &usageError{err}
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		workers := cmp.Or(opts.Workers, runtime.GOMAXPROCS(0))
		debug.SetMemoryLimit(vocabularyMemory + int64(workers)*workerMemory)
	}
	progress := newPrepareProgress(opts.app)
	opts.Progress = progress
	info, err := prepare.Run(ctx, opts.Options)
	progress.close()
	if err != nil {
		return err
	}
	if opts.format == "json" {
		enc := json.NewEncoder(opts.app.io.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(info)
	}
	return printPrepared(opts.app.io.Out, opts.Out, info)
}

// resolve turns the flags into the options of a preparation.
func (o *prepareOptions) resolve() (err error) {
	if o.Valid, err = parseShare("--valid", o.valid); err != nil {
		return err
	}
	if o.Test, err = parseShare("--test", o.test); err != nil {
		return err
	}
	for _, text := range o.mix {
		part, err := prepare.ParseMix(text)
		if err != nil {
			return err
		}
		o.Mix = append(o.Mix, part)
	}
	o.SharesGiven = o.changed("valid") || o.changed("test")
	// If files are given for one split only, the other split is absent.
	if held := o.changed("valid-file") || o.changed("test-file"); held {
		for _, split := range []struct {
			flag  string
			share *prepare.Share
		}{{"valid", &o.Valid}, {"test", &o.Test}} {
			if o.changed(split.flag) && o.changed(split.flag+"-file") {
				return fmt.Errorf("--%s and --%s-file exclude each other", split.flag, split.flag)
			}
			if !o.changed(split.flag) {
				*split.share = 0
			}
		}
	}
	if !slices.Contains([]string{"error", "replace"}, o.invalid) {
		return fmt.Errorf("--invalid is %q, want error or replace", o.invalid)
	}
	if o.changed("min-count") && o.MinCount < 1 {
		return fmt.Errorf("--min-count is %d, want at least 1", o.MinCount)
	}
	if o.changed("workers") && o.Workers < 1 {
		return fmt.Errorf("--workers is %d, want at least 1", o.Workers)
	}
	if o.changed("vocab-size") && o.VocabSize < 1 {
		return fmt.Errorf("--vocab-size is %d, want a positive number", o.VocabSize)
	}
	if o.changed("tokens") && o.Tokens < 1 {
		return fmt.Errorf("--tokens is %d, want a positive number", o.Tokens)
	}
	if o.Sample <= 0 {
		return fmt.Errorf("--sample is %v, want a fraction from 0 to 1", o.Sample)
	}
	if o.Sample == 1 {
		o.Sample = 0
	}
	if o.changed("max-tokens") && o.MaxTokens < 1 {
		return fmt.Errorf("--max-tokens is %d, want a positive number", o.MaxTokens)
	}
	o.ReplaceInvalid = o.invalid == "replace"
	if o.Out == "" && !o.changed("out") {
		o.Out = filepath.Join("prepared", o.defaultName())
	}
	return o.Check()
}

// parseShare reads a fraction or a number of tokens.
func parseShare(flag, text string) (prepare.Share, error) {
	number, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is %q, want a fraction from 0 to 1, or a whole number of tokens", flag, text)
	}
	return prepare.Share(number), nil
}

// defaultName is the default name of a dataset: the name of its corpus, or of its
// first path without extensions.
func (o *prepareOptions) defaultName() string {
	if o.Corpus != "" {
		return o.Corpus
	}
	if len(o.Mix) > 0 {
		return "mix"
	}
	if len(o.Paths) == 0 {
		return "godoc"
	}
	name, _, _ := strings.Cut(filepath.Base(filepath.Clean(o.Paths[0])), ".")
	if name = strings.Trim(name, "-*?[]/"); name == "" {
		return "text"
	}
	return name
}

// printPrepared describes the prepared dataset.
func printPrepared(w io.Writer, dir string, info data.Info) error {
	fmt.Fprintf(w, "%s: %s tokenizer, %s ids\n", dir, info.Tokenizer.Kind, humanize.Comma(int64(info.Tokenizer.Vocab)))
	for _, name := range data.SplitNames {
		split, ok := info.Splits[name]
		if !ok {
			continue
		}
		line := fmt.Sprintf("  %-5s  %14s tokens", name, humanize.Comma(split.Tokens))
		if info.Tokenizer.Unknown != nil && split.Tokens > 0 {
			line += fmt.Sprintf("  %5.2f%% unknown", 100*float64(split.Unknowns)/float64(split.Tokens))
		}
		fmt.Fprintln(w, line)
	}
	for _, name := range data.SplitNames { // of a dry run
		text, ok := info.Text[name]
		if !ok {
			continue
		}
		fmt.Fprintf(w, "  %-5s  %s documents of %s to %s bytes (median %s), %s duplicates; %s words, %s different, %.2f tokens a word\n", name,
			humanize.Comma(text.Documents), humanize.Comma(text.Shortest), humanize.Comma(text.Longest), humanize.Comma(text.Median), humanize.Comma(text.Duplicates),
			humanize.Comma(text.Words), humanize.Comma(text.Types), float64(info.Splits[name].Tokens)/max(1, float64(text.Words)))
		for _, script := range slices.SortedFunc(maps.Keys(text.Scripts), func(a, b string) int { return cmp.Compare(text.Scripts[b], text.Scripts[a]) }) {
			fmt.Fprintf(w, "         %s %.1f%%\n", script, 100*text.Scripts[script])
		}
	}
	if info.Dropped > 0 {
		fmt.Fprintf(w, "  %s duplicates were dropped\n", humanize.Comma(info.Dropped))
	}
	if info.Skipped > 0 {
		fmt.Fprintf(w, "  %s records were skipped\n", humanize.Comma(info.Skipped))
	}
	if info.Corpus != nil && info.Corpus.Floor != nil {
		fmt.Fprintf(w, "  the source's own perplexity is %.2f; no model of its words gets below it\n", math.Exp(*info.Corpus.Floor))
	}
	return nil
}
