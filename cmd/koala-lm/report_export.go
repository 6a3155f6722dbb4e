package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/tracking"
)

type reportExportOptions struct {
	*reportOptions
	selection
	runs []string
	outFlags
	to      string
	metrics []string
}

func newReportExportCmd(shared *reportOptions) *cobra.Command {
	opts := &reportExportOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "export [RUN...]",
		Short: "Export every logged value, or the whole store",
		Long: `Export every logged value of runs: as CSV or JSON lines with run, name, metric,
step, tokens, time, seconds and value, or as a folder of event files for
TensorBoard. --to sqlite copies a snapshot of the whole store while others write.

In CSV, a text that a spreadsheet would read as a formula gets a ' before it.

` + whereHelp,
		Example: `  koala-lm report export > all.csv
  koala-lm report export latest --metric val_ppl --to jsonl --out ppl.jsonl
  koala-lm report export --to tensorboard --out events && tensorboard --logdir events
  koala-lm report export --to sqlite --out backup.db`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.runs = args
			return asUsage(runReportExport(cmd.Context(), opts))
		},
	}
	flags := cmd.Flags()
	addEnumFlag(cmd, &opts.to, "to", "csv", "what to write", "csv", "jsonl", "tensorboard", "sqlite")
	opts.outFlags.add(cmd, "write to this `file`, or for tensorboard folder (default standard output)")
	flags.StringSliceVar(&opts.metrics, "metric", nil, "only these `metrics`")
	flags.StringVar(&opts.where, "where", "", "only runs for which this `condition` holds")
	return cmd
}

func runReportExport(ctx context.Context, opts *reportExportOptions) error {
	if opts.out == "" && (opts.to == "tensorboard" || opts.to == "sqlite") {
		return usagef("--to %s needs --out", opts.to)
	}
	if opts.to == "sqlite" && (len(opts.runs) > 0 || opts.where != "" || len(opts.metrics) > 0) {
		return usagef("--to sqlite copies the whole store: it takes no run, --where or --metric")
	}
	check := func() error { return opts.outFlags.check(storePath(opts.store)) }
	if opts.to == "tensorboard" {
		check = opts.checkFolder
	}
	if err := check(); err != nil {
		return err
	}
	if opts.to == "sqlite" {
		store, err := opts.open()
		if err != nil {
			return err
		}
		defer store.Close()
		return store.Backup(ctx, opts.out)
	}
	return opts.withRuns(ctx, opts.open, opts.runs, opts.selection, func(store *tracking.Store, runs []tracking.RunSummary) error {
		if err := opts.checkMetrics(ctx, store); err != nil {
			return err
		}
		if len(runs) == 0 {
			opts.app.notef("no run matches")
		}
		return opts.export(ctx, store, runs)
	})
}

func (o *reportExportOptions) export(ctx context.Context, store *tracking.Store, runs []tracking.RunSummary) error {
	if o.to == "tensorboard" {
		return o.outFlags.writeFolder(func(folder string) error {
			return report.ExportTensorBoard(ctx, folder, store, runs, o.metrics)
		})
	}
	lines := func(w io.Writer) error {
		if o.to == "jsonl" {
			return report.ExportJSONLines(ctx, w, store, runs, o.metrics)
		}
		return report.ExportCSV(ctx, w, store, runs, o.metrics)
	}
	if o.out == "" {
		return lines(o.app.io.Out)
	}
	return o.outFlags.write(lines)
}

// checkMetrics refuses a metric that no run has: a typing error must not become
// an empty file.
func (o *reportExportOptions) checkMetrics(ctx context.Context, store *tracking.Store) error {
	for _, metric := range o.metrics {
		if _, err := store.Name(ctx, "metrics."+metric); err != nil {
			return fmt.Errorf("metric %w: %w", tracking.ErrBadQuestion, err)
		}
	}
	return nil
}
