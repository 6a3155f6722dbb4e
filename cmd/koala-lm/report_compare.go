package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/tracking"
)

type reportCompareOptions struct {
	*reportOptions
	selection
	runs []string
}

func newReportCompareCmd(shared *reportOptions) *cobra.Command {
	opts := &reportCompareOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "compare [RUN...]",
		Short: "Compare runs: the settings that differ, the metrics beside them",
		Long: `Compare runs: the settings that differ, and the metrics beside them.

` + whereHelp,
		Example: `  koala-lm report compare latest best
  koala-lm report compare --where "'sweep:lr' in tags" --sort val_ppl`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.runs = args
			return asUsage(runReportCompare(cmd.Context(), opts))
		},
	}
	opts.selection.addFlags(cmd, 20)
	opts.addFormat(cmd)
	return cmd
}

func runReportCompare(ctx context.Context, opts *reportCompareOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	if len(opts.runs) == 0 && opts.where == "" {
		return usagef("name the runs to compare, or select them with --where")
	}
	return opts.withRuns(ctx, opts.open, opts.runs, opts.selection, func(store *tracking.Store, runs []tracking.RunSummary) error {
		if len(runs) == 0 {
			opts.app.notef("no run matches")
			return nil
		}
		if warning := report.MixedDatasets(runs); warning != "" {
			opts.app.notef("%s", warning)
		}
		prefix, err := store.PrefixLength(ctx, runs)
		if err != nil {
			return err
		}
		return report.Compare{Runs: runs, Prefix: prefix, Now: time.Now()}.Write(opts.output())
	})
}
