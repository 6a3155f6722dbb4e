package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/report"
)

func newReportShowCmd(opts *reportOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "show RUN",
		Short: "Show all that is recorded of a run",
		Example: `  koala-lm report show latest
  koala-lm report show best --format json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runReportShow(cmd.Context(), opts, args[0]) },
	}
}

func runReportShow(ctx context.Context, opts *reportOptions, ref string) error {
	store, err := opts.open()
	if err != nil {
		return err
	}
	defer store.Close()
	run, err := store.Run(ctx, ref)
	if err != nil {
		return err
	}
	return report.Show{Run: run, Now: time.Now()}.Write(opts.output())
}
