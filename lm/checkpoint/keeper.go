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

// Config configures a Keeper.
type Config struct {
	Folder string
	Keep   int // number of latest checkpoints to keep beside the best; at least 1
	Origin Origin

	// Before runs before a checkpoint's file appears, in the goroutine that writes
	// it. It syncs everything that a resumed run needs besides the checkpoint. After
	// an error the checkpoint is not written. Nil does nothing.
	Before func() error

	// Publish makes a whole checkpoint appear by calling publish, unless another
	// process may write the folder meanwhile. Its error without a call means that the
	// checkpoint is not written. Nil only calls publish.
	Publish func(publish func() error) error

	// Failed gets the error of a checkpoint that could not be written. The run ends
	// with the error that it returns; with nil, training continues, and the earlier
	// checkpoints stay.
	Failed func(err error) error

	// Untidy gets the error of a checkpoint that was written, if its link could not
	// be made or old checkpoints could not be removed.
	Untidy func(err error)
}

// A Keeper writes a run's checkpoints: it copies the state at once, and another
// goroutine writes the copy while training continues. The training loop calls its
// methods, all from one goroutine.
type Keeper struct {
	lm.NoObserver
	config  Config
	image   image
	writing chan result // result of the write in progress; nil without one
	failure error       // of the last write, nil if it went well
	best    int64       // step of the best checkpoint in the folder, 0 if none is
	saved   int64       // step of the last whole one, 0 if none is
}

// result is the outcome of a write.
type result struct {
	failed error // the checkpoint was not written
	untidy error // the checkpoint was written, but links or old files could not be updated
}

// NewKeeper makes the folder and removes unfinished files of a killed process. from
// is the checkpoint to resume from, or nil for a new run.
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

// Stepped reports a failed write, once.
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
	if err := k.image.take(snap, k.config.Origin); errors.Is(err, errNoMemory) {
		k.image.free()
		return k.wrote(result{failed: err})
	} else if err != nil {
		return err
	}
	writing := make(chan result, 1)
	k.writing = writing
	go func() { writing <- k.write(snap.Progress.Step, best) }()
	return nil
}

// Close waits for the last write. Its error says that the last state is not on disk,
// and which one is.
func (k *Keeper) Close() error {
	err := k.wait()
	k.image.free()
	if err != nil {
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

// Saved returns the step of the last whole checkpoint, 0 if there is none. Call it
// after Close.
func (k *Keeper) Saved() int64 { return k.saved }

// wait waits for the write in progress.
func (k *Keeper) wait() error {
	if k.writing == nil {
		return nil
	}
	return k.wrote(<-k.writing)
}

// wrote records the result of a write.
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

// write writes the image in the other goroutine. Nothing else touches the keeper
// until the result arrives.
func (k *Keeper) write(step int64, best bool) result {
	if k.config.Before != nil {
		if err := k.config.Before(); err != nil {
			return result{failed: err}
		}
	}
	if err := k.restoreFolder(); err != nil {
		return result{failed: err}
	}
	publish := k.config.Publish
	if publish == nil {
		publish = func(publish func() error) error { return publish() }
	}
	var untidy error
	err := atomicfile.WriteWhen(filepath.Join(k.config.Folder, fileName(step)), k.image.write, func(appear func() error) error {
		return publish(func() error {
			if err := appear(); err != nil {
				return err
			}
			k.saved = step
			if best {
				k.best = step
			}
			if untidy = k.links(); untidy == nil {
				untidy = prune(k.config.Folder, step, k.config.Keep, k.best)
			}
			return nil
		})
	})
	return result{failed: err, untidy: untidy}
}

// restoreFolder makes the folder again if it was removed with all checkpoints.
func (k *Keeper) restoreFolder() error {
	if _, err := os.Stat(k.config.Folder); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	k.best = 0
	return os.MkdirAll(k.config.Folder, 0o755)
}

// links updates the links.
func (k *Keeper) links() error {
	if k.best > 0 {
		if err := link(k.config.Folder, BestName, k.best); err != nil {
			return err
		}
	}
	return link(k.config.Folder, LastName, k.saved)
}
