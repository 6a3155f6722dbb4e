package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/report"
)

type reportBestOptions struct {
	*reportOptions
	selection
	by      string
	last    bool
	groupBy []string
}

func newReportBestCmd(shared *reportOptions) *cobra.Command {
	opts := &reportBestOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "best",
		Short: "Rank runs, or groups of runs, by their best value of a metric",
		Long: `Rank runs by their results in a metric. A run's result is its best value; a run
that diverged (its last value is not finite) has none.

With --group-by, the runs that share these settings are one group, ranked by the
mean of their results; the standard deviation shows what is chance. A group counts
its runs that diverged, failed or crashed, and those without a value yet. It ranks
after the groups that lost no run: its mean is over the lucky seeds. Runs on
different datasets are never in one group.

` + whereHelp,
		Example: `  koala-lm report best
  koala-lm report best --by val_ppl --group-by optimizer.kind,optimizer.lr
  koala-lm report best --by test_ppl --where "model.kind == 'lstm'"`,
		RunE: func(cmd *cobra.Command, _ []string) error { return asUsage(runReportBest(cmd.Context(), opts)) },
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.by, "by", metric.ValidPPL, "rank by this `metric`")
	flags.BoolVar(&opts.last, "last", false, "show the last values beside the best")
	flags.StringSliceVar(&opts.groupBy, "group-by", nil, "`names` whose values the runs of a group share")
	flags.StringVar(&opts.where, "where", "", "only runs for which this `condition` holds")
	flags.IntVar(&opts.limit, "limit", 20, "at most this many, 0 for all")
	opts.addFormat(cmd)
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
	best.Last = opts.last
	if best.Missing > 0 {
		defer opts.app.notef("%s without a value of %s", plural(best.Missing, "run"), best.By)
	}
	if best.More {
		defer opts.app.notef("the first %d; --limit 0 lists all", opts.limit)
	}
	if best.Len() == 0 {
		opts.app.notef("no run matches")
	}
	return best.Write(opts.output())
}
