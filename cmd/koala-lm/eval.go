package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
)

type evalOptions struct {
	app     *app
	model   modelFlags
	compute computeFlags
	data    string
	split   string
	texts   []string
	by      []string
	base    bool
	stride  int
	batch   int
	format  string
	cache   request.Cache
	dynamic bool
	follow  request.Dynamic
	changed func(flag string) bool
}

func newEvalCmd(a *app) *cobra.Command {
	opts := &evalOptions{app: a}
	cmd := &cobra.Command{
		Use:   "eval RUN|CHECKPOINT [TEXT...]",
		Short: "Measure a model's perplexity on a split or a text",
		Long: `Measure a model's loss in nats a token, its perplexity by token and by word, and
its bits a byte: on a split of the run's dataset or of another prepared with the
same tokenizer, or on TEXT files, each encoded with the run's tokenizer and scored
by itself (- reads standard input).

--by document, position or token adds the losses of each document, of each number
of tokens that a token is predicted from, or of each token to --format json.
--baseline adds the perplexity of a 5-gram model of the train split (modified
Kneser-Ney, Chen & Goodman 1999): what counting alone achieves.

A recurrent model can adapt to the text while it is scored, from the tokens
before each token alone: with --cache, words that lately followed hidden states
like the present one become likelier (Grave et al. 2017); with --dynamic, the
model trains on the text that it has scored (Krause et al. 2018), slowly.

For a run, eval uses its best checkpoint, or the last one if it was never evaluated.`,
		Example: `  koala-lm eval latest
  koala-lm eval latest --cache 2000
  koala-lm eval sgd --split test --format json
  koala-lm eval gpt --data prepared/wt2 --stride 32
  koala-lm eval latest --baseline
  koala-lm eval best book.txt letters.txt --by token --format json`,
		Args: modelArgs(&opts.model, 1, math.MaxInt, "a RUN or a CHECKPOINT, and perhaps text files"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.changed = cmd.Flags().Changed
			opts.texts = args[1:]
			return runEval(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	opts.model.add(cmd)
	f.StringVarP(&opts.data, "data", "d", "", "dataset `folder` (default: the run's own)")
	addEnumFlag(cmd, &opts.split, "split", "valid", "split to measure on", "valid", "test", "train")
	f.IntVar(&opts.stride, "stride", 0, "a Transformer's windows each score this many `tokens` more (default: its context)")
	f.IntVar(&opts.batch, "batch", 0, "sequences scored side by side (default: the run's eval.batch); a recurrent model starts each from a zero state")
	f.StringSliceVar(&opts.by, "by", nil, "add the losses by `part`: "+strings.Join(evalParts, ", ")+"; with --format json")
	f.BoolVar(&opts.base, "baseline", false, "score a 5-gram model of the train split too")
	f.IntVar(&opts.cache.Size, "cache", 0, "remember the last `N` words in a neural cache")
	f.Float64Var(&opts.cache.Theta, "cache-theta", 0.3, "how sharply the cache distinguishes hidden states")
	f.Float64Var(&opts.cache.Share, "cache-share", 0.1, "the cache's share of each probability")
	f.BoolVar(&opts.dynamic, "dynamic", false, "train on the text while it is scored")
	f.Float64Var(&opts.follow.LR, "dynamic-lr", 0.002, "learning rate of --dynamic")
	f.Float64Var(&opts.follow.Decay, "dynamic-decay", 0.02, "pull of --dynamic back to the trained weights")
	addFormatFlag(cmd, &opts.format, "table", "json")
	opts.compute.add(cmd)
	return cmd
}

func runEval(ctx context.Context, opts *evalOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	model, run, err := opts.model.resolve(ctx)
	if err != nil {
		return err
	}
	if kind := kindOf(run); opts.stride > 0 && kind.CarriesState {
		return fmt.Errorf("--stride needs a model that reads windows, and run %s carries its state: it is of kind %s", run.ID, kind.Name)
	}
	r := &request.Eval{
		Common: opts.compute.common(opts.app), Model: model,
		Stride: opts.stride, Batch: opts.batch, Format: opts.format, By: opts.by, Baseline: opts.base,
	}
	if opts.cache.Size > 0 {
		r.Cache = &opts.cache
	}
	if opts.dynamic {
		r.Dynamic = &opts.follow
	}
	switch {
	case len(opts.texts) > 0:
		for _, text := range opts.texts {
			if text != "-" {
				if _, err := os.Stat(text); err != nil {
					return fmt.Errorf("text: %w", err)
				}
				if text, err = absolute(text); err != nil {
					return err
				}
			}
			r.Texts = append(r.Texts, text)
		}
	case opts.data != "" || run != nil:
		r.Split, r.Data = opts.split, opts.data
		if r.Data == "" {
			if r.Data, err = datasetOf(run.RunSummary, r.Model.Store, ""); err != nil {
				return err
			}
		}
		if r.Data, err = absolute(r.Data); err != nil {
			return err
		}
		if err := splitOf(r.Data, r.Split); err != nil {
			return err
		}
	default:
		return usagef("a checkpoint given by path has no dataset of its own: give --data DIR or a text file")
	}
	return request.Exec("eval", r)
}

// evalParts are the values of --by.
var evalParts = []string{"document", "position", "token"}

func (opts *evalOptions) check() error {
	for _, part := range opts.by {
		if !slices.Contains(evalParts, part) {
			return usagef("--by is %q: it must be one of %s", part, strings.Join(evalParts, ", "))
		}
	}
	switch {
	case len(opts.texts) > 0 && (opts.changed("data") || opts.changed("split")):
		return usagef("a text file and --data or --split cannot be measured on at once")
	case len(opts.texts) > 0 && opts.base:
		return usagef("--baseline counts a dataset's train split, and scores a split of that dataset: it cannot be given beside a text file")
	case len(opts.by) > 0 && opts.format != "json":
		return usagef("--by needs --format json")
	case len(opts.by) > 0 && (opts.cache.Size > 0 || opts.dynamic):
		return usagef("--by cannot be given beside --cache or --dynamic")
	case opts.stride < 0 || opts.changed("stride") && opts.stride == 0:
		return usagef("--stride must be at least 1, not %d", opts.stride)
	case opts.batch < 0 || opts.changed("batch") && opts.batch == 0:
		return usagef("--batch must be at least 1, not %d", opts.batch)
	}
	if err := opts.checkAdaptation(); err != nil {
		return err
	}
	return opts.compute.check()
}

func (opts *evalOptions) checkAdaptation() error {
	for flag, of := range map[string]string{"cache-theta": "cache", "cache-share": "cache", "dynamic-lr": "dynamic", "dynamic-decay": "dynamic"} {
		if opts.changed(flag) && !opts.changed(of) {
			return usagef("--%s has no effect without --%s", flag, of)
		}
	}
	finite := func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
	switch {
	case opts.cache.Size < 0 || opts.cache.Size > 1_000_000:
		return usagef("--cache must be from 1 to 1000000, or 0 for none, not %d", opts.cache.Size)
	case !finite(opts.cache.Theta):
		return usagef("--cache-theta must be a number, not %v", opts.cache.Theta)
	case !(opts.cache.Share >= 0 && opts.cache.Share <= 1):
		return usagef("--cache-share must be from 0 to 1, not %v", opts.cache.Share)
	case !(opts.follow.LR >= 0) || !finite(opts.follow.LR):
		return usagef("--dynamic-lr must be a number of at least 0, not %v", opts.follow.LR)
	case !(opts.follow.Decay >= 0) || !finite(opts.follow.Decay):
		return usagef("--dynamic-decay must be a number of at least 0, not %v", opts.follow.Decay)
	case (opts.cache.Size > 0 || opts.dynamic) && opts.batch > 1:
		return usagef("a model adapts to one sequence at a time: --batch %d cannot be given beside --cache or --dynamic", opts.batch)
	}
	return nil
}
