package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/tracking"
)

type reportHTMLOptions struct {
	*reportOptions
	selection
	runs []string
	out  string
}

func newReportHTMLCmd(shared *reportOptions) *cobra.Command {
	opts := &reportHTMLOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "html [RUN...]",
		Short: "Write a page of runs: table, curves, settings, environments",
		Long: `Write one HTML file that opens from disk, needs no network and no other file:
a sortable table of the runs, curves to point at, the settings that differ, and
each run's dataset, environment, events and samples.

` + whereHelp,
		Example: `  koala-lm report html --out runs.html
  koala-lm report html --where "'study' in tags" --limit 0 --out study.html`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.runs = args
			return asUsage(runReportHTML(cmd.Context(), opts))
		},
	}
	opts.selection.addFlags(cmd, 100)
	cmd.Flags().StringVar(&opts.out, "out", "", "the file to write")
	return cmd
}

func runReportHTML(ctx context.Context, opts *reportHTMLOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	if opts.out == "" {
		return usagef("name the file to write with --out")
	}
	return opts.withRuns(ctx, opts.open, opts.runs, opts.selection, func(store *tracking.Store, runs []tracking.RunSummary) error {
		return atomicfile.Write(opts.out, func(w io.Writer) error {
			return report.WriteHTML(ctx, w, store, runs, time.Now())
		})
	})
}
