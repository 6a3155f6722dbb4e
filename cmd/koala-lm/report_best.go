package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/report"
)

type reportBestOptions struct {
	*reportOptions
	selection
	by      string
	groupBy []string
}

func newReportBestCmd(shared *reportOptions) *cobra.Command {
	opts := &reportBestOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "best",
		Short: "Rank runs, or groups of them, by a metric's best value",
		Long: `Rank runs by the best value of a metric. With --group-by the runs that share
these settings are one group, ranked by their mean: its standard deviation tells
what is chance. Runs on different datasets are never in one group.

` + whereHelp,
		Example: `  koala-lm report best
  koala-lm report best --by val_ppl --group-by optimizer.kind,optimizer.lr
  koala-lm report best --by test_ppl --where "model.kind == 'lstm'"`,
		RunE: func(cmd *cobra.Command, _ []string) error { return asUsage(runReportBest(cmd.Context(), opts)) },
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.by, "by", "val_ppl", "the metric")
	flags.StringSliceVar(&opts.groupBy, "group-by", nil, "names whose values runs of a group share")
	flags.StringVar(&opts.where, "where", "", "only runs for which this holds")
	flags.IntVar(&opts.limit, "limit", 20, "at most this many, 0 for all")
	return cmd
}

func runReportBest(ctx context.Context, opts *reportBestOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	store, err := opts.open()
	if err != nil {
		return err
	}
	defer store.Close()
	best, err := report.NewBest(ctx, store, opts.query(), opts.by, opts.groupBy, time.Now())
	if err != nil {
		return err
	}
	if opts.limit > 0 && best.Limit(opts.limit) {
		defer opts.app.notef("the first %d; --limit 0 lists all", opts.limit)
	}
	return best.Write(opts.output())
}
