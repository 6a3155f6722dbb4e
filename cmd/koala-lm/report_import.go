package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/tracking"
)

func newReportImportCmd(opts *reportOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE...",
		Short: "Copy the runs of other stores into this one",
		Long: `Copy the runs of other stores into this one, with all their metrics: machines can
each write a store of their own, and bring the runs together afterwards. Of a run
that both stores have, the later record stays: the one with more sessions, or with
the later sign of life. Imported again, a store adds only what is new. Checkpoints
are not copied.`,
		Example: `  koala-lm report import node1.db node2.db
  koala-lm report import /mnt/gpu/runs/koala.db --store all.db`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("report import wants the FILE of another store")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, file := range args {
				if err := runReportImport(cmd.Context(), opts, file); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func runReportImport(ctx context.Context, opts *reportOptions, file string) (err error) {
	if sameFile(file, storePath(opts.store)) {
		return usagef("%s is this store itself: name another one, or with --store the store to copy into", file)
	}
	from, err := tracking.OpenCurrent(file)
	if errors.Is(err, tracking.ErrNoStore) {
		return fmt.Errorf("import: there is no store at %s", file)
	} else if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	store, err := tracking.Open(storePath(opts.store))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	done, err := store.Import(ctx, from)
	if err != nil {
		return err
	}
	opts.app.notef("%s: %s added, %d updated, %d unchanged", file, plural(done.Added, "run"), done.Updated, done.Unchanged)
	for _, id := range done.Busy {
		opts.app.notef("run %s is left as it is: a process still trains it; import it again when it has ended", id)
	}
	return nil
}
