package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/tracking"
)

type reportCurveOptions struct {
	*reportOptions
	selection
	report.CurveOptions
	outFlags
	runs []string
}

func newReportCurveCmd(shared *reportOptions) *cobra.Command {
	opts := &reportCurveOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "curve [RUN...]",
		Short: "Draw metrics of runs over their steps, tokens, time or a setting",
		Long: `Draw metrics of runs: on a terminal, as SVG or PNG with --out, or as the points in
a pipe. A point of a long run is the mean of 64 steps, with their range.

With --group-by, the runs that share these settings become their mean with a band
of one standard deviation; runs that diverged or failed are left out and counted,
and --limit has no default. With a setting as --x, such as optimizer.lr, each run is
a point: its best value against its value of the setting.

The Kalman filter's numbers have short names: ` + koalaNames() + `.
step_matrices, step_embeddings and step_norms are the distances that a step moved
these groups of parameters, for every optimizer.

` + whereHelp,
		Example: `  koala-lm report curve latest --metric train_loss --smooth 0.9
  koala-lm report curve latest --metric gain,innovation --log-y
  koala-lm report curve latest best --metric val_ppl --x time --out ppl.svg
  koala-lm report curve --where "'study' in tags" --group-by optimizer.kind --log-y --out study.png
  koala-lm report curve --where "'sweep:lr' in tags" --x optimizer.lr --group-by optimizer.kind --log-x`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.runs = args
			if err := refuseEmpty(cmd, "x", "out"); err != nil {
				return err
			}
			if opts.out != "" && cmd.Flags().Changed("format") {
				return usagef("--out writes a picture, of the kind that its name ends in: --format is for the points on standard output")
			}
			if (len(opts.GroupBy) > 0 || !slices.Contains(report.CurveAxes, opts.X)) && !cmd.Flags().Changed("limit") {
				opts.limit = 0 // a mean must include all runs
			}
			return asUsage(runReportCurve(cmd.Context(), opts))
		},
	}
	opts.selection.addFlags(cmd, 20)
	flags := cmd.Flags()
	flags.StringSliceVar(&opts.Metrics, "metric", []string{metric.ValidPPL}, "draw this `metric`, or several with commas between them")
	flags.StringVar(&opts.X, "x", "step", "the horizontal `axis`: step, tokens, time, or a setting")
	// The only error is a flag that does not exist or has its completion already.
	_ = cmd.RegisterFlagCompletionFunc("x", cobra.FixedCompletions(report.CurveAxes, cobra.ShellCompDirectiveNoFileComp))
	flags.BoolVar(&opts.LogX, "log-x", false, "logarithmic horizontal axis")
	flags.BoolVar(&opts.LogY, "log-y", false, "logarithmic vertical axis")
	flags.Float64Var(&opts.Smooth, "smooth", 0, "`weight` of the past in a moving average: 0 none, 0.9 much, below 1")
	flags.StringSliceVar(&opts.GroupBy, "group-by", nil, "`names` whose values the runs of a group share")
	opts.outFlags.add(cmd, "write the picture to this `file`, .svg or .png")
	opts.addFormat(cmd)
	return cmd
}

// koalaNames lists the short names of the filter's numbers.
func koalaNames() string {
	var names []string
	for _, name := range metric.Koala {
		names = append(names, metric.Short(name))
	}
	return strings.Join(names, ", ")
}

func (o *reportCurveOptions) check() error {
	if o.Smooth < 0 || o.Smooth >= 1 {
		return usagef("--smooth must be at least 0 and below 1, got %v", o.Smooth)
	}
	if extension := strings.ToLower(filepath.Ext(o.out)); o.out != "" && extension != ".svg" && extension != ".png" {
		return usagef("--out must end in .svg or .png, got %q", o.out)
	}
	if len(o.runs) == 0 && o.where == "" {
		o.runs = []string{"latest"}
	}
	if err := o.outFlags.check(storePath(o.store)); err != nil {
		return err
	}
	return o.selection.check()
}

func runReportCurve(ctx context.Context, opts *reportCurveOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	return opts.withRuns(ctx, opts.open, opts.runs, opts.selection, func(store *tracking.Store, runs []tracking.RunSummary) error {
		if len(runs) == 0 {
			return errors.New("no run matches")
		}
		if warning := report.MixedDatasets(runs); warning != "" {
			opts.app.notef("%s", warning)
		}
		curves, err := report.NewCurves(ctx, store, runs, opts.CurveOptions)
		if err != nil {
			return err
		}
		return opts.draw(curves)
	})
}

// draw writes the picture to --out, or the curves or points to standard output.
func (o *reportCurveOptions) draw(curves *report.Curves) error {
	if o.out == "" {
		return curves.Write(o.output())
	}
	picture := curves.Chart()
	write := picture.WriteSVG
	if strings.EqualFold(filepath.Ext(o.out), ".png") {
		write = picture.WritePNG
	}
	return o.write(write)
}
