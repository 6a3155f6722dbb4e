package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/lm/spec"
	"github.com/koala-lm/koala-lm/tracking"
)

// flushPatience bounds how long a checkpoint waits for a store that takes no
// writes.
const flushPatience = 10 * time.Second

// trainAndKeep trains the run and keeps its checkpoints. An interrupted run whose
// last state could not be saved did not end well.
func trainAndKeep(ctx context.Context, r request.Train, trainer *lm.Trainer, run *tracking.Run, dataset *data.Dataset, from *checkpoint.File, bar *progress) error {
	keeper, err := newKeeper(r, run, dataset, from, bar)
	if err != nil {
		return err
	}
	trainer.Observers = append(trainer.Observers, keeper)
	err = trainer.Run(ctx)
	interrupted := errors.Is(err, lm.ErrInterrupted)
	if unsaved := keeper.Close(); unsaved != nil && (err == nil || interrupted) {
		return unsaved
	}
	if interrupted {
		return fmt.Errorf("%w after step %d and is saved: `koala-lm train --resume %s` goes on", lm.ErrInterrupted, keeper.Saved(), run.ID())
	}
	return err
}

// newKeeper keeps the run's checkpoints. What was logged up to a checkpoint is in
// the store before its file appears: a run that goes on from there logs only what
// comes after it.
func newKeeper(r request.Train, run *tracking.Run, dataset *data.Dataset, from *checkpoint.File, bar *progress) (*checkpoint.Keeper, error) {
	of, err := origin(r, run.ID(), dataset)
	if err != nil {
		return nil, err
	}
	return checkpoint.NewKeeper(checkpoint.Config{
		Folder: checkpointFolder(r.Runs, run.ID()), Keep: r.Settings.Checkpoint.Keep,
		Origin: of,
		Before: func() error {
			ctx, cancel := context.WithTimeout(context.Background(), flushPatience)
			defer cancel()
			// The recorder reports a store that refuses writes; the weights are worth
			// keeping without it. They are not ours to write after a takeover.
			if err := run.Flush(ctx); errors.Is(err, tracking.ErrTakenOver) {
				return err
			}
			return nil
		},
		Failed: func(err error) error {
			if errors.Is(err, tracking.ErrTakenOver) {
				return fmt.Errorf("checkpoint: %w", err)
			}
			if r.Settings.Checkpoint.OnError == spec.OnErrorStop {
				return fmt.Errorf("checkpoint: %w", err)
			}
			bar.warn("no checkpoint, training goes on: %v", err)
			return nil
		},
		Untidy: func(err error) { bar.warn("checkpoints: %v", err) },
	}, from)
}
