package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/tracking"
)

type reportListOptions struct {
	*reportOptions
	selection
	columns string
	watch   bool
}

func newReportListCmd(shared *reportOptions) *cobra.Command {
	opts := &reportListOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List runs, the newest first",
		Long: `List runs, the newest first.

` + whereHelp + `

--format json prints an array of objects: id, name, status, started, seconds,
steps, tokens, settings (by dotted key), metrics (last values), best (best
values), tags, note, reason, ended, dataset, host, cpu, device, threads, parent.
Fields are only ever added. With --columns the objects have those names alone.`,
		Example: `  koala-lm report list
  koala-lm report list --where "optimizer.kind == 'koala-v' && val_ppl < 120" --sort val_ppl
  koala-lm report list --columns id,name,optimizer.lr,best.val_ppl
  koala-lm report list --columns +train.seed --watch
  koala-lm report list --limit 0 --format csv > runs.csv`,
		RunE: func(cmd *cobra.Command, _ []string) error { return asUsage(runReportList(cmd.Context(), opts)) },
	}
	opts.selection.addFlags(cmd, 50)
	cmd.Flags().StringVar(&opts.columns, "columns", "", "show these `names` instead of the default columns; a leading + adds them")
	cmd.Flags().BoolVar(&opts.watch, "watch", false, "show the list again every two seconds while a run trains")
	opts.addFormat(cmd)
	return cmd
}

func runReportList(ctx context.Context, opts *reportListOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	store, err := opts.open()
	if err != nil {
		return err
	}
	defer store.Close()
	list := func(out report.Output) (goesOn bool, err error) {
		runs, err := listRuns(ctx, store, out, opts)
		return slices.ContainsFunc(runs, isRunning), err
	}
	if opts.watch {
		return opts.watchIt(ctx, list)
	}
	_, err = list(opts.output())
	return err
}

func listRuns(ctx context.Context, store *tracking.Store, out report.Output, opts *reportListOptions) ([]tracking.RunSummary, error) {
	columns, err := report.ParseColumns(ctx, store, opts.columns, time.Now())
	if err != nil {
		return nil, err
	}
	// One run more than the limit shows whether the limit leaves any out.
	query := opts.query()
	if opts.columns != "" || out.Format != report.JSON {
		query.Parts = columns.Parts()
	}
	if opts.limit > 0 {
		query.Limit++
	}
	runs, err := store.Runs(ctx, query)
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		opts.app.notef("no run matches in %s", store.Path())
	}
	if opts.limit > 0 && len(runs) > opts.limit {
		runs = runs[:opts.limit]
		defer opts.app.notef("only the first %d; --limit 0 lists all", opts.limit)
	}
	prefix, err := store.PrefixLength(ctx, runs)
	if err != nil {
		return nil, err
	}
	return runs, report.List{Runs: runs, Columns: columns, Chosen: opts.columns != "", Prefix: prefix}.Write(out)
}

func isRunning(run tracking.RunSummary) bool { return run.Status == tracking.Running }
