package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/tracking"
)

type reportHTMLOptions struct {
	*reportOptions
	selection
	outFlags
	runs []string
}

func newReportHTMLCmd(shared *reportOptions) *cobra.Command {
	opts := &reportHTMLOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "html [RUN...]",
		Short: "Write a page of runs: table, curves, settings, environments",
		Long: `Write one self-contained HTML file, which opens from disk without a network: a
sortable table of the runs, interactive curves, the settings that differ, and each
run's dataset, environment, events and samples.

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
	opts.outFlags.add(cmd, "write the page to this `file`")
	return cmd
}

func runReportHTML(ctx context.Context, opts *reportHTMLOptions) error {
	if err := opts.selection.check(); err != nil {
		return err
	}
	if opts.out == "" {
		return usagef("name the file to write with --out")
	}
	if err := opts.outFlags.check(storePath(opts.store)); err != nil {
		return err
	}
	return opts.withRuns(ctx, opts.open, opts.runs, opts.selection, func(store *tracking.Store, runs []tracking.RunSummary) error {
		if len(runs) == 0 {
			return errors.New("no run matches: the page would be empty")
		}
		return opts.write(func(w io.Writer) error {
			return report.WriteHTML(ctx, w, store, runs, opts.cut, time.Now())
		})
	})
}
