package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/tracking"
)

// openForWriting opens a store that is there: editing makes none.
func (o *reportOptions) openForWriting() (*tracking.Store, error) {
	store, err := o.open()
	if err != nil {
		return nil, err
	}
	path := store.Path()
	store.Close()
	return tracking.Open(path)
}

func newReportTagCmd(opts *reportOptions) *cobra.Command {
	var remove []string
	cmd := &cobra.Command{
		Use:   "tag RUN [TAG...]",
		Short: "Add tags to a run, or remove them",
		Example: `  koala-lm report tag latest baseline
  koala-lm report tag best candidate --remove baseline`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && len(remove) == 0 {
				return usagef("name the tags to add, or to --remove")
			}
			return opts.editRun(cmd.Context(), args[0], func(store *tracking.Store, id string) error {
				return store.Tag(cmd.Context(), id, args[1:], remove)
			})
		},
	}
	cmd.Flags().StringArrayVar(&remove, "remove", nil, "remove this tag (repeatable)")
	return cmd
}

func newReportNoteCmd(opts *reportOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "note RUN TEXT",
		Short: "Replace a run's note; an empty text removes it",
		Example: `  koala-lm report note latest "too high a learning rate"
  koala-lm report note latest ""`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return opts.editRun(cmd.Context(), args[0], func(store *tracking.Store, id string) error {
				return store.Note(cmd.Context(), id, args[1])
			})
		},
	}
}

// editRun changes the run that ref names.
func (o *reportOptions) editRun(ctx context.Context, ref string, edit func(*tracking.Store, string) error) error {
	store, err := o.openForWriting()
	if err != nil {
		return err
	}
	defer store.Close()
	id, err := store.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	return edit(store, id)
}

type reportRmOptions struct {
	*reportOptions
	selection
	runs []string
	yes  bool
}

func newReportRmCmd(shared *reportOptions) *cobra.Command {
	opts := &reportRmOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "rm [RUN...]",
		Short: "Remove runs from the store",
		Long: `Remove runs from the store, with all their metrics. Runs that are still being
trained are not removed. Checkpoints stay until report gc.

` + whereHelp,
		Example: `  koala-lm report rm 01k5x8
  koala-lm report rm --where "status == 'crashed' && steps < 100" --yes`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.runs = args
			return asUsage(runReportRm(cmd.Context(), opts))
		},
	}
	cmd.Flags().StringVar(&opts.where, "where", "", "only runs for which this holds")
	cmd.Flags().BoolVar(&opts.yes, "yes", false, "do not ask")
	return cmd
}

func runReportRm(ctx context.Context, opts *reportRmOptions) error {
	if len(opts.runs) == 0 && opts.where == "" {
		return usagef("name the runs to remove, or choose them by --where")
	}
	return opts.withRuns(ctx, opts.openForWriting, opts.runs, opts.selection, func(store *tracking.Store, runs []tracking.RunSummary) error {
		if len(runs) == 0 {
			opts.app.notef("no run is chosen")
			return nil
		}
		if !opts.yes {
			agreed, err := opts.confirm(runs)
			if err != nil || !agreed {
				return err
			}
		}
		for _, run := range runs {
			if err := store.Remove(ctx, run.ID); err != nil {
				return err
			}
			fmt.Fprintln(opts.app.io.Out, run.ID)
		}
		return nil
	})
}

// confirm asks on a terminal; where nobody can answer, --yes is needed.
func (o *reportRmOptions) confirm(runs []tracking.RunSummary) (bool, error) {
	if !o.app.io.InIsTerminal {
		return false, usagef("removing runs needs --yes where nobody can be asked")
	}
	what := fmt.Sprintf("%d runs, %q to %q", len(runs), runs[0].Name, runs[len(runs)-1].Name)
	if len(runs) == 1 {
		what = fmt.Sprintf("run %s, %q", runs[0].ID, runs[0].Name)
	}
	fmt.Fprintf(o.app.io.ErrOut, "remove %s? [y/N] ", what)
	answer, err := bufio.NewReader(o.app.io.In).ReadString('\n')
	if err != nil && answer == "" {
		return false, nil // the end of the input is no consent
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
