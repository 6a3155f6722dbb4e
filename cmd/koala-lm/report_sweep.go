package main

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/report"
)

type reportSweepOptions struct {
	*reportOptions
	name  string
	plots string
}

func newReportSweepCmd(shared *reportOptions) *cobra.Command {
	opts := &reportSweepOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "sweep NAME",
		Short: "What the searches of a sweep found",
		Long: `What each search of a sweep found: its best point, and what that reached over its
seeds after equally many tokens and after equal time; what a step costs; and how
near the best other values come.

Of a search the best point is that with the lowest mean of val_ppl, among those
trained with the most seeds. Equal time is that of the cheapest search: its steps
times the cost of one. That cost is the median of what was logged, of the
optimizer's part over the runs of the search, of the rest over all runs with the
same model and batches. With --plots three pictures are drawn into a folder, and
Markdown shows them.`,
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
			if err := refuseEmpty(cmd, "plots"); err != nil {
				return err
			}
			return asUsage(runReportSweep(cmd.Context(), opts))
		},
	}
	cmd.Flags().StringVar(&opts.plots, "plots", "", "draw the pictures into this `folder`, as SVG")
	return cmd
}

func runReportSweep(ctx context.Context, opts *reportSweepOptions) error {
	store, err := opts.open()
	if err != nil {
		return err
	}
	defer store.Close()
	sweep, err := report.NewSweep(ctx, store, opts.name)
	if err != nil {
		return err
	}
	if opts.plots != "" {
		if err := drawCharts(sweep.Charts(), opts.plots); err != nil {
			return err
		}
	}
	return sweep.Write(opts.output(), opts.plots)
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
