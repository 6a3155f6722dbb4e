package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/tracking"
)

type reportListOptions struct {
	*reportOptions
	limit int
}

func newReportListCmd(shared *reportOptions) *cobra.Command {
	opts := &reportListOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List runs, the newest first",
		Example: `  koala-lm report list
  koala-lm report list --limit 0 --format csv > runs.csv`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runReportList(cmd.Context(), opts) },
	}
	cmd.Flags().IntVar(&opts.limit, "limit", 50, "list at most this many runs, 0 for all")
	return cmd
}

func runReportList(ctx context.Context, opts *reportListOptions) error {
	if opts.limit < 0 {
		return usagef("--limit must not be negative, got %d", opts.limit)
	}
	store, err := opts.open()
	if err != nil {
		return err
	}
	defer store.Close()
	// One more than asked for tells whether any were left out.
	query := tracking.Query{}
	if opts.limit > 0 {
		query.Limit = opts.limit + 1
	}
	runs, err := store.Runs(ctx, query)
	if err != nil {
		return err
	}
	if len(runs) == 0 {
		opts.app.notef("no runs in %s", store.Path())
	}
	if opts.limit > 0 && len(runs) > opts.limit {
		runs = runs[:opts.limit]
		defer opts.app.notef("these are the first %d; --limit 0 lists all", opts.limit)
	}
	prefix, err := store.PrefixLength(ctx, runs)
	if err != nil {
		return err
	}
	return report.List{Runs: runs, Prefix: prefix, Now: time.Now()}.Write(opts.output())
}
