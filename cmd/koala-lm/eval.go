package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/internal/request"
)

type evalOptions struct {
	app     *app
	model   modelFlags
	compute computeFlags
	data    string
	split   string
	text    string
	stride  int
	batch   int
	format  string
	changed func(flag string) bool
}

func newEvalCmd(a *app) *cobra.Command {
	opts := &evalOptions{app: a}
	cmd := &cobra.Command{
		Use:   "eval RUN|CHECKPOINT [TEXT]",
		Short: "Measure a model's perplexity on a split or a text",
		Long: `Measure a model's loss in nats a token, its perplexity by token and by word, and
its bits a byte: on a split of the run's dataset or of another prepared with the
same tokenizer, or on a TEXT file, which is encoded with the run's tokenizer
(- reads standard input).

Of a run the best checkpoint is taken, or the last where no evaluation chose one.`,
		Example: `  koala-lm eval latest
  koala-lm eval sgd --split test --format json
  koala-lm eval gpt --data prepared/wt2 --stride 32
  koala-lm eval best book.txt`,
		Args: modelArgs(&opts.model, 1, 2, "a RUN or a CHECKPOINT, and perhaps a text file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.changed = cmd.Flags().Changed
			if len(args) == 2 {
				opts.text = args[1]
			}
			return runEval(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	opts.model.add(cmd)
	f.StringVarP(&opts.data, "data", "d", "", "dataset `folder` (default: the run's own)")
	addEnumFlag(cmd, &opts.split, "split", "valid", "split to measure on", "valid", "test", "train")
	f.IntVar(&opts.stride, "stride", 0, "a Transformer's windows each score this many `tokens` more (default: its context)")
	f.IntVar(&opts.batch, "batch", 0, "sequences scored side by side (default: the run's eval.batch)")
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
	if kind := kindOf(run); opts.stride > 0 && kind != "" && kind != configs.Transformer {
		return fmt.Errorf("--stride is for Transformers: run %s is of kind %s and carries its state", run.ID, kind)
	}
	r := &request.Eval{
		Common: opts.compute.common(opts.app), Model: model,
		Stride: opts.stride, Batch: opts.batch, Format: opts.format,
	}
	switch {
	case opts.text != "":
		if r.Text = opts.text; r.Text != "-" {
			if _, err := os.Stat(opts.text); err != nil {
				return fmt.Errorf("text: %w", err)
			}
			if r.Text, err = absolute(opts.text); err != nil {
				return err
			}
		}
	case opts.data != "" || run != nil:
		r.Split, r.Data = opts.split, opts.data
		if r.Data == "" {
			r.Data = run.DatasetPath
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

func (opts *evalOptions) check() error {
	switch {
	case opts.text != "" && (opts.changed("data") || opts.changed("split")):
		return usagef("a text file and --data or --split cannot be measured on at once")
	case opts.stride < 0 || opts.changed("stride") && opts.stride == 0:
		return usagef("--stride must be at least 1, not %d", opts.stride)
	case opts.batch < 0 || opts.changed("batch") && opts.batch == 0:
		return usagef("--batch must be at least 1, not %d", opts.batch)
	}
	return opts.compute.check()
}
