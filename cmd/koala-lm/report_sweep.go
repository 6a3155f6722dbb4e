package main

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/sweep"
)

type reportSweepOptions struct {
	*reportOptions
	name  string
	file  string
	set   []string
	plots string
	last  bool
	reach string
}

func newReportSweepCmd(shared *reportOptions) *cobra.Command {
	opts := &reportSweepOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "sweep NAME",
		Short: "Show the results of a sweep's searches",
		Long: `Show the results of each search of a sweep: its best point; the mean result of
that point's seeds after equally many tokens and after equal time; the cost of a
step; and the range of values with a result near the best.

A run's result is its best val_ppl; a run that diverged has none. The best point of
a search has the lowest mean result, among the points with the most seeds. A point
that lost a seed, because it diverged or failed, comes after those that did not.
Equal time is the time of the cheapest search: its steps times the cost of one.
That cost is the median of the logged times: the optimizer's part over the runs of
the search, the rest over all runs with the same model and batches. --reach NAME
shows the steps, and their time, until a search is at the best result of NAME, a
search or the start of several searches' names. --plots draws three pictures into a
folder, and Markdown shows them.`,
		Example: `  koala-lm report sweep study-lstm
  koala-lm report sweep lr --format md --plots pictures > lr.md`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("report sweep wants the NAME of one sweep")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.name = args[0]
			if err := refuseEmpty(cmd, "plots", "file", "reach"); err != nil {
				return err
			}
			if len(opts.set) > 0 && opts.file == "" {
				return usagef("--set says how the sweep's file was started: give the --file too")
			}
			return asUsage(runReportSweep(cmd.Context(), opts))
		},
	}
	cmd.Flags().StringVar(&opts.file, "file", "", "only the trials that this sweep `file` asks for now")
	cmd.Flags().StringArrayVar(&opts.set, "set", nil, "with --file: the --set of the sweep, as `key=value` (repeatable)")
	cmd.Flags().BoolVar(&opts.last, "last", false, "show the last values beside the best")
	cmd.Flags().StringVar(&opts.reach, "reach", "", "show when each search reaches the best result of the searches with this `name` or start of a name")
	cmd.Flags().StringVar(&opts.plots, "plots", "", "draw the pictures into this `folder`, as SVG")
	opts.addFormat(cmd)
	return cmd
}

func runReportSweep(ctx context.Context, opts *reportSweepOptions) error {
	store, err := opts.open()
	if err != nil {
		return err
	}
	defer store.Close()
	var file *sweep.File
	if opts.file != "" {
		if file, err = sweep.Read(opts.file); err != nil {
			return err
		}
		for _, assignment := range opts.set {
			if err := file.Set(assignment, "--set"); err != nil {
				return err
			}
		}
	}
	results, err := report.NewSweep(ctx, store, opts.name, file)
	if err != nil {
		return err
	}
	results.Last, results.Reach = opts.last, opts.reach
	if err := results.CheckReach(); err != nil {
		return &usageError{err}
	}
	if opts.plots != "" {
		if err := drawCharts(results.Charts(), opts.plots); err != nil {
			return err
		}
	}
	return results.Write(opts.output(), opts.plots)
}

func drawCharts(charts []report.SweepChart, folder string) error {
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	for _, c := range charts {
		err := atomicfile.Write(filepath.Join(folder, c.Name+".svg"), func(w io.Writer) error { return c.WriteSVG(w) })
		if err != nil {
			return err
		}
	}
	return nil
}
