package main

import (
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/koala-lm/koala-lm/data"
)

// runInspect is prepare --verify and prepare --show: both read a dataset that
// is there.
func runInspect(opts *prepareOptions) (err error) {
	if len(opts.Paths) > 0 || opts.verify != "" && opts.show != "" {
		return usagef("--verify and --show take a dataset folder and nothing else")
	}
	dir := opts.verify + opts.show
	d, err := data.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if _, err := d.Tokenizer(); err != nil {
		return err
	}
	if opts.verify != "" {
		_, err = fmt.Fprintf(opts.app.io.Out, "%s: whole\n", dir)
		return err
	}
	return show(opts, d)
}

// show prints the numbers of a dataset.
func show(opts *prepareOptions, d *data.Dataset) error {
	out, info := opts.app.io.Out, d.Info()
	fmt.Fprintf(out, "%s: %s tokenizer, %s ids, fingerprint %.12s\n", d.Dir(), info.Tokenizer.Kind, humanize.Comma(int64(d.Vocab())), d.Fingerprint())
	for _, name := range data.SplitNames {
		split, ok := info.Splits[name]
		if !ok {
			continue
		}
		ppl, err := d.UnigramPPL(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-5s  %12s tokens  %.2f bytes a token  %s  unigram ppl %.1f\n", name,
			humanize.Comma(split.Tokens), float64(split.Bytes)/float64(split.Tokens), unknownRate(info, split), ppl)
	}
	return nil
}
