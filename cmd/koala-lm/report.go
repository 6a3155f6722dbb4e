package main

import (
	"cmp"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/tracking"
)

// defaultStore is where runs are recorded unless --store or KOALA_LM_STORE say
// otherwise.
const defaultStore = "runs/koala.db"

// storePath is the store to use given what --store says.
func storePath(flag string) string {
	return cmp.Or(flag, os.Getenv("KOALA_LM_STORE"), defaultStore)
}

// reportOptions are what the verbs of report share.
type reportOptions struct {
	app    *app
	store  string
	format string
}

func newReportCmd(a *app) *cobra.Command {
	opts := &reportOptions{app: a}
	list := newReportListCmd(opts)
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Ask the store about runs",
		Long: `Ask the store about runs. Without a verb it lists them.

A RUN is named by its id, the start of its id, its name (the newest of that
name), "latest" (the newest of all) or "best" (the lowest validation perplexity).

On a terminal results are tables, in a pipe lines of tab-separated exact values;
--format asks for one of them.`,
		Example: `  koala-lm report
  koala-lm report show latest
  koala-lm report list --format json`,
		Args: noArguments,
		RunE: list.RunE,
	}
	cmd.Flags().AddFlagSet(list.Flags())
	flags := cmd.PersistentFlags()
	flags.StringVar(&opts.store, "store", "", "store file (default $KOALA_LM_STORE or "+defaultStore+")")
	formats := []string{"auto", "table", "json", "csv", "md", "tsv"}
	opts.format = "auto"
	flags.Var(&enumFlag{&opts.format, formats}, "format", "how to print the result")
	// The only error is a flag that does not exist or has its completion already.
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	cmd.AddCommand(
		list, newReportShowCmd(opts), newReportCompareCmd(opts), newReportBestCmd(opts), newReportQueryCmd(opts),
		newReportTagCmd(opts), newReportNoteCmd(opts), newReportRmCmd(opts), newReportGCCmd(opts),
		newReportSweepCmd(opts), newReportCurveCmd(opts), newReportHTMLCmd(opts), newReportExportCmd(opts),
	)
	for _, verb := range cmd.Commands() {
		if strings.Contains(verb.Use, "RUN") {
			verb.ValidArgsFunction = opts.completeRuns
		}
	}
	return cmd
}

// completeRuns offers the store's runs to the shell.
func (o *reportOptions) completeRuns(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return runNames(cmd.Context(), storePath(o.store)), cobra.ShellCompDirectiveNoFileComp
}

// open opens the store for reading.
func (o *reportOptions) open() (*tracking.Store, error) {
	return tracking.OpenCurrent(storePath(o.store))
}

// output is standard output in the format asked for.
func (o *reportOptions) output() report.Output {
	io := o.app.io
	out := report.Output{W: io.Out, Format: report.Format(o.format), Color: io.Color}
	if o.format == "auto" {
		out.Format = report.Separated
		if io.OutIsTerminal {
			out.Format = report.Aligned
		}
	}
	if io.OutIsTerminal {
		out.Width = io.Width
		out.Unicode = isUTF8(os.Getenv)
	}
	return out
}

// isUTF8 reports whether the locale says that the terminal shows UTF-8.
func isUTF8(getenv func(string) string) bool {
	locale := strings.ToUpper(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	return strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
}
