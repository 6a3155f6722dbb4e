package main

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/tracking"
)

type reportGCOptions struct {
	*reportOptions
	runs   string
	dryRun bool
}

func newReportGCCmd(shared *reportOptions) *cobra.Command {
	opts := &reportGCOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Clean up: folders of removed runs, crashes, free space",
		Long: `Clean up. The folders of runs that were removed from this store are deleted (of
no others: what gc does not know it leaves alone), runs whose processes are gone
are recorded as crashed, and free space in the store goes back to the disk.`,
		Example: `  koala-lm report gc --dry-run
  koala-lm report gc`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runReportGC(cmd.Context(), opts) },
	}
	cmd.Flags().StringVar(&opts.runs, "runs", "", runsHelp)
	cmd.Flags().BoolVar(&opts.dryRun, "dry-run", false, "say what would be done and do nothing")
	return cmd
}

func runReportGC(ctx context.Context, opts *reportGCOptions) error {
	store, err := opts.openForWriting()
	if err != nil {
		return err
	}
	defer store.Close()
	garbage, err := store.FindGarbage(ctx)
	if err != nil {
		return err
	}
	root := runsPath(opts.runs, storePath(opts.store))
	folders, err := garbage.Folders(root)
	if err != nil {
		return err
	}
	opts.describe(garbage, folders)
	if opts.dryRun {
		return nil
	}
	return store.Collect(ctx, garbage, root)
}

func (o *reportGCOptions) describe(g tracking.Garbage, folders []string) {
	done := func(verb string) string {
		if o.dryRun {
			return "would " + verb
		}
		return verb
	}
	out := o.app.io.Out
	for _, folder := range folders {
		fmt.Fprintf(out, "%s %s\n", done("delete"), folder)
	}
	for _, run := range g.Crashed {
		fmt.Fprintf(out, "%s %s as crashed: %s\n", done("record"), run.ID, run.Reason)
	}
	if g.Bytes > 0 {
		fmt.Fprintf(out, "%s %s of the store\n", done("free"), humanize.IBytes(uint64(g.Bytes)))
	}
}
