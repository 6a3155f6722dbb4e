package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/internal/visible"
	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/tracking"
)

// defaultStore is the store without --store and KOALA_LM_STORE.
const defaultStore = "runs/koala.db"

// storePath returns the store to use for a value of --store.
func storePath(flag string) string {
	return cmp.Or(flag, os.Getenv("KOALA_LM_STORE"), defaultStore)
}

// reportOptions are the options of every verb of report.
type reportOptions struct {
	app    *app
	store  string
	format string
	cut    bool // by withRuns: --limit left runs out
}

func newReportCmd(a *app) *cobra.Command {
	opts := &reportOptions{app: a}
	list := newReportListCmd(opts)
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Show, compare, export and clean up recorded runs",
		Long: `Show, compare, export and clean up recorded runs. Without a verb, report lists
them.

RUN is an id, a unique prefix of an id, a name (the newest run of that name),
"latest" (the newest run) or "best" (the lowest validation perplexity on the dataset
of the newest run that has one).

A run's result in a metric is its best value; a run that diverged has none. Every
list, ranking and page uses this definition.

A result is a table on a terminal, and tab-separated exact values in a pipe;
--format chooses another. NaN and infinity are printed as NaN and inf, in JSON as
the strings "NaN", "Infinity" and "-Infinity".`,
		Example: `  koala-lm report
  koala-lm report show latest
  koala-lm report list --format json`,
		Args: noArguments,
		RunE: list.RunE,
	}
	cmd.Flags().AddFlagSet(list.Flags())
	cmd.PersistentFlags().StringVar(&opts.store, "store", "", "store `file` (default $KOALA_LM_STORE or "+defaultStore+")")
	cmd.AddCommand(
		list, newReportShowCmd(opts), newReportCompareCmd(opts), newReportBestCmd(opts), newReportQueryCmd(opts),
		newReportTagCmd(opts), newReportNoteCmd(opts), newReportRmCmd(opts), newReportGCCmd(opts),
		newReportSweepCmd(opts), newReportCurveCmd(opts), newReportHTMLCmd(opts), newReportExportCmd(opts), newReportImportCmd(opts), newReportServeCmd(opts),
	)
	for _, verb := range cmd.Commands() {
		if strings.Contains(verb.Use, "RUN") {
			verb.ValidArgsFunction = opts.completeRuns
		}
	}
	return cmd
}

// addFormat adds --format to a verb whose result is a table.
func (o *reportOptions) addFormat(cmd *cobra.Command) {
	addFormatFlag(cmd, &o.format, tableFormats...)
}

// completeRuns offers the store's runs to the shell.
func (o *reportOptions) completeRuns(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return runNames(cmd.Context(), storePath(o.store)), cobra.ShellCompDirectiveNoFileComp
}

// open opens the store for reading.
func (o *reportOptions) open() (*tracking.Store, error) {
	return tracking.OpenCurrent(storePath(o.store))
}

// output is standard output in the format of --format.
func (o *reportOptions) output() report.Output {
	io := o.app.io
	out := report.Output{W: io.Out, Format: report.Format(o.format), Color: io.Color}
	if o.format == "auto" {
		out.Format = report.Separated
		if io.OutIsTerminal {
			out.Format = report.Aligned
		}
	}
	if io.OutIsTerminal && out.Format != report.Aligned {
		out.W = visible.NewWriter(io.Out) // the other formats keep names as they are
	}
	if io.OutIsTerminal {
		out.Width = io.Width
		out.Unicode = isUTF8(os.Getenv)
	}
	return out
}

// isUTF8 reports whether the locale's encoding is UTF-8.
func isUTF8(getenv func(string) string) bool {
	locale := strings.ToUpper(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	return strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
}

// plural writes a count with its noun: 1 run, 2 runs.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
