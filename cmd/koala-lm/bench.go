package main

import (
	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/configs"
)

type benchOptions struct {
	app      *app
	settings settingsFlags
	compute  computeFlags
	data     string
	vocab    int
	steps    int
	warmup   int
	format   string
	changed  func(flag string) bool
}

func newBenchCmd(a *app) *cobra.Command {
	opts := &benchOptions{app: a}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the speed and the memory of training",
		Long: `Measure training steps: tokens a second, milliseconds by phase (forward, loss,
backward, optimizer) and the peak of resident memory. Without --data the tokens
are random, of a vocabulary of --vocab. Nothing is recorded.`,
		Example: `  koala-lm bench
  koala-lm bench --config gpt-char-cpu --vocab 65 --steps 100
  koala-lm bench --data prepared/wt2 --set optimizer.kind=koala++ --format json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.changed = cmd.Flags().Changed
			return runBench(opts)
		},
	}
	f := cmd.Flags()
	opts.settings.addSettings(cmd)
	f.StringVarP(&opts.data, "data", "d", "", "dataset `folder` to train on")
	f.IntVar(&opts.vocab, "vocab", 33278, "size of the vocabulary without --data; WikiText-2's by default")
	f.IntVar(&opts.steps, "steps", 30, "how many steps to measure")
	f.IntVar(&opts.warmup, "warmup", 5, "how many steps to make before")
	addFormatFlag(cmd, &opts.format, "table", "json")
	opts.compute.add(cmd)
	return cmd
}

func runBench(opts *benchOptions) error {
	switch {
	case opts.data != "" && opts.changed("vocab"):
		return usagef("--data has a vocabulary of its own: --vocab cannot be given beside it")
	case opts.vocab < 2 || opts.vocab > 10_000_000:
		return usagef("--vocab must be from 2 to 10000000, not %d", opts.vocab)
	case opts.steps < 1 || opts.warmup < 0:
		return usagef("--steps must be at least 1 and --warmup at least 0, not %d and %d", opts.steps, opts.warmup)
	}
	if err := opts.compute.check(); err != nil {
		return err
	}
	var b configs.Builder
	if len(opts.settings.configs) == 0 {
		b.Preset(configs.DefaultPreset)
	}
	settings, err := opts.settings.resolve(&b)
	if err != nil {
		return err
	}
	r := &request.Bench{
		Common: opts.compute.common(opts.app), Settings: settings,
		Vocab: opts.vocab, Steps: opts.steps, Warmup: opts.warmup, Format: opts.format,
	}
	if opts.data != "" {
		if r.Data, err = absolute(opts.data); err != nil {
			return err
		}
		r.Vocab = 0
		if err := checkData(r.Data, settings); err != nil {
			return err
		}
	}
	return request.Exec("bench", r)
}
