package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/lm"
)

// Config says where and how a Keeper keeps checkpoints.
type Config struct {
	Folder string
	Keep   int // how many of the last, beside the best; at least 1
	Origin Origin

	// Before runs before a checkpoint's file appears, in the goroutine that writes
	// it: it brings to disk what a run that resumes from the checkpoint needs. After
	// an error the checkpoint is not written. Nil does nothing.
	Before func() error

	// Failed gets the error of a checkpoint that could not be written. The run ends
	// with the error that it returns; with nil, training continues, and the earlier
	// checkpoints stay.
	Failed func(err error) error

	// Untidy gets the error of a checkpoint that was written, but whose link could
	// not be made, or beside which old ones could not be removed.
	Untidy func(err error)
}

// A Keeper writes a run's checkpoints: a copy of the state is made at once, and
// written by another goroutine while training goes on. It observes a training loop,
// in whose goroutine its methods are called.
type Keeper struct {
	lm.NoObserver
	config  Config
	image   image
	writing chan result // of the write that is under way; nil if none is
	failure error       // of the last write, nil if it went well
	best    int64       // step of the best checkpoint in the folder, 0 if none is
	saved   int64       // step of the last whole one, 0 if none is
}

// result is what came of a write.
type result struct {
	failed error // the checkpoint is not there
	untidy error // it is, and something about its folder is not as it should be
}

// NewKeeper makes the folder, and clears what a killed process left unfinished in
// it. from is the checkpoint that the run goes on from, nil for a new run.
func NewKeeper(c Config, from *File) (*Keeper, error) {
	if err := os.MkdirAll(c.Folder, 0o755); err != nil {
		return nil, fmt.Errorf("folder of checkpoints: %w", err)
	}
	if err := atomicfile.RemovePartial(c.Folder); err != nil {
		return nil, fmt.Errorf("folder of checkpoints: %w", err)
	}
	k := &Keeper{config: c}
	if from == nil {
		return k, nil
	}
	// The process may have been killed between writing a file and the links.
	p := from.State.Progress
	k.saved = p.Step
	if _, err := os.Stat(filepath.Join(c.Folder, fileName(p.BestStep))); err == nil && p.Best != nil {
		k.best = p.BestStep
	}
	if err := k.links(); err != nil {
		return nil, err
	}
	return k, nil
}

// Stepped reports, once, a write that failed meanwhile.
func (k *Keeper) Stepped(lm.Step) error {
	select {
	case r := <-k.writing:
		return k.wrote(r)
	default:
		return nil
	}
}

// Checkpoint copies the state and starts writing it.
func (k *Keeper) Checkpoint(snap *lm.Snapshot, best bool) error {
	if err := k.wait(); err != nil {
		return err
	}
	if err := k.image.take(snap, k.config.Origin); err != nil {
		return err
	}
	writing := make(chan result, 1)
	k.writing = writing
	go func() { writing <- k.write(snap.Progress.Step, best) }()
	return nil
}

// Close waits for the last write. Its error says that the last state is not on
// disk, and what is.
func (k *Keeper) Close() error {
	if err := k.wait(); err != nil {
		return err
	}
	if k.failure == nil {
		return nil
	}
	if k.saved == 0 {
		return fmt.Errorf("the run is not saved: %w", k.failure)
	}
	return fmt.Errorf("the run is saved only up to step %d: %w", k.saved, k.failure)
}

// Saved returns the step of the last whole checkpoint, 0 if there is none. It is
// for after Close.
func (k *Keeper) Saved() int64 { return k.saved }

// wait ends the write that is under way.
func (k *Keeper) wait() error {
	if k.writing == nil {
		return nil
	}
	return k.wrote(<-k.writing)
}

// wrote takes in the result of a write.
func (k *Keeper) wrote(r result) error {
	k.writing = nil
	k.failure = r.failed
	if r.untidy != nil && k.config.Untidy != nil {
		k.config.Untidy(r.untidy)
	}
	if r.failed == nil || k.config.Failed == nil {
		return nil
	}
	return k.config.Failed(r.failed)
}

// write writes the image, in the other goroutine: nothing else touches the keeper
// until its result is there.
func (k *Keeper) write(step int64, best bool) result {
	if k.config.Before != nil {
		if err := k.config.Before(); err != nil {
			return result{failed: err}
		}
	}
	if err := k.restoreFolder(); err != nil {
		return result{failed: err}
	}
	if err := atomicfile.Write(filepath.Join(k.config.Folder, fileName(step)), k.image.write); err != nil {
		return result{failed: err}
	}
	k.saved = step
	if best {
		k.best = step
	}
	err := k.links()
	if err == nil {
		err = prune(k.config.Folder, step, k.config.Keep, k.best)
	}
	return result{untidy: err}
}

// restoreFolder makes the folder again if somebody has removed it, and with it all
// checkpoints.
func (k *Keeper) restoreFolder() error {
	if _, err := os.Stat(k.config.Folder); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	k.best = 0
	return os.MkdirAll(k.config.Folder, 0o755)
}

// links brings the links up to date.
func (k *Keeper) links() error {
	if k.best > 0 {
		if err := link(k.config.Folder, BestName, k.best); err != nil {
			return err
		}
	}
	return link(k.config.Folder, LastName, k.saved)
}
