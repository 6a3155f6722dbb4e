package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/report"
)

type reportShowOptions struct {
	*reportOptions
	watch bool
}

func newReportShowCmd(shared *reportOptions) *cobra.Command {
	opts := &reportShowOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "show RUN",
		Short: "Show the whole record of a run",
		Example: `  koala-lm report show latest
  koala-lm report show best --format json`,
		Args: exactArguments("one RUN, such as latest"),
		RunE: func(cmd *cobra.Command, args []string) error { return runReportShow(cmd.Context(), opts, args[0]) },
	}
	cmd.Flags().BoolVar(&opts.watch, "watch", false, "show the run again every two seconds while it trains")
	opts.addFormat(cmd)
	return cmd
}

func runReportShow(ctx context.Context, opts *reportShowOptions, ref string) error {
	store, err := opts.open()
	if err != nil {
		return err
	}
	defer store.Close()
	show := func(out report.Output) (goesOn bool, err error) {
		run, err := store.Run(ctx, ref)
		if err != nil {
			return false, err
		}
		return isRunning(run.RunSummary), report.Show{Run: run, Now: time.Now(), Brief: opts.watch}.Write(out)
	}
	if opts.watch {
		return opts.watchIt(ctx, show)
	}
	_, err = show(opts.output())
	return err
}
