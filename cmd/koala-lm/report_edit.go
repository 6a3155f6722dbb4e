package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/tracking"
)

// openForWriting opens an existing store: an edit creates none.
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
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("report tag wants a RUN and the tags to add")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && len(remove) == 0 {
				return usagef("name the tags to add, or to --remove")
			}
			for _, tag := range args[1:] {
				if err := checkTag(tag); err != nil {
					return err
				}
				if strings.Contains(tag, ",") {
					return usagef("tag %q must be without commas, which separate tags in lists", tag)
				}
			}
			return opts.editRun(cmd.Context(), args[0], func(store *tracking.Store, id string) error {
				return store.Tag(cmd.Context(), id, args[1:], remove)
			})
		},
	}
	cmd.Flags().StringArrayVar(&remove, "remove", nil, "remove this `tag` (repeatable)")
	return cmd
}

func newReportNoteCmd(opts *reportOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "note RUN TEXT",
		Short: "Replace a run's note; an empty text removes it",
		Example: `  koala-lm report note latest "too high a learning rate"
  koala-lm report note latest ""`,
		Args: exactArguments("a RUN and the text of the note in quotes"),
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
	runs   []string
	yes    bool
	dryRun bool
}

func newReportRmCmd(shared *reportOptions) *cobra.Command {
	opts := &reportRmOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "rm [RUN...]",
		Short: "Remove runs from the store",
		Long: `Remove runs from the store, with all their metrics. rm first lists the runs that
it would remove and asks; --yes removes them without asking. It refuses a run that a
process still trains. Checkpoints stay until report gc deletes them.

` + whereHelp,
		Example: `  koala-lm report rm 01k5x8
  koala-lm report rm --where "status == 'crashed' && steps < 100" --yes`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.runs = args
			return asUsage(runReportRm(cmd.Context(), opts))
		},
	}
	cmd.Flags().StringVar(&opts.where, "where", "", "only runs for which this `condition` holds")
	cmd.Flags().BoolVar(&opts.yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&opts.dryRun, "dry-run", false, "list the runs and remove none")
	return cmd
}

func runReportRm(ctx context.Context, opts *reportRmOptions) error {
	if len(opts.runs) == 0 && opts.where == "" {
		return usagef("name the runs to remove, or select them with --where")
	}
	return opts.withRuns(ctx, opts.openForWriting, opts.runs, opts.selection, func(store *tracking.Store, runs []tracking.RunSummary) error {
		if len(runs) == 0 {
			opts.app.notef("no run matches")
			return nil
		}
		err := opts.show(ctx, store, runs)
		if opts.yes && errors.Is(err, syscall.EPIPE) {
			err = nil // nobody has to read the list
		}
		if err != nil || opts.dryRun {
			return err
		}
		for _, run := range runs { // then none is removed
			if err := run.CheckEnded(); err != nil {
				return fmt.Errorf("remove run %s: %w", run.ID, err)
			}
		}
		if !opts.yes {
			agreed, err := opts.confirm(ctx, len(runs))
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
		opts.app.notef("removed %s; `koala-lm report gc` deletes their folders", plural(len(runs), "run"))
		return nil
	})
}

// show lists the runs to remove, with their number and the number of all runs.
func (o *reportRmOptions) show(ctx context.Context, store *tracking.Store, runs []tracking.RunSummary) error {
	const most = 20
	all, err := store.Values(ctx, tracking.Query{}, tracking.Name{Key: "id"})
	if err != nil {
		return err
	}
	columns, err := report.ParseColumns(ctx, store, "id,name,status,steps,started", time.Now())
	if err != nil {
		return err
	}
	prefix, err := store.PrefixLength(ctx, runs)
	if err != nil {
		return err
	}
	out := o.output()
	out.W, out.Format, out.Color = o.app.io.ErrOut, report.Aligned, o.app.io.ErrColor
	if o.app.quiet && (o.yes || !o.app.io.InIsTerminal) {
		out.W = io.Discard
	}
	list := report.List{Runs: runs[:min(most, len(runs))], Columns: columns, Prefix: prefix}
	if err := list.Write(out); err != nil {
		return err
	}
	if len(runs) > most {
		fmt.Fprintf(out.W, "and %d more\n", len(runs)-most)
	}
	_, err = fmt.Fprintf(out.W, "%d of the store's %s\n", len(runs), plural(len(all), "run"))
	return err
}

// confirm asks on a terminal. Without a terminal, --yes is required. Ctrl-C ends the
// command.
func (o *reportRmOptions) confirm(ctx context.Context, n int) (bool, error) {
	if !o.app.io.InIsTerminal {
		return false, usagef("removing runs needs --yes where nobody can be asked")
	}
	fmt.Fprintf(o.app.io.ErrOut, "remove %s? [y/N] ", plural(n, "run"))
	answers := make(chan string, 1)
	go func() {
		// The end of the input counts as no.
		answer, _ := bufio.NewReader(o.app.io.In).ReadString('\n')
		answers <- answer
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(o.app.io.ErrOut)
		return false, context.Cause(ctx)
	case answer := <-answers:
		answer = strings.ToLower(strings.TrimSpace(answer))
		return answer == "y" || answer == "yes", nil
	}
}
