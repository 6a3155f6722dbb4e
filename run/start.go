package run

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/visible"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/lm/huggingface"
)

// CheckpointFolder is the folder of a run's checkpoints.
func CheckpointFolder(runs, id string) string { return filepath.Join(runs, id, "checkpoints") }

// A start is the point at which training starts: a resumed run's checkpoint, or step
// 0 without one.
type start struct{ checkpoint *checkpoint.File }

// step is the number of steps that were already done.
func (s start) step() int64 {
	if s.checkpoint == nil {
		return 0
	}
	return s.checkpoint.State.Progress.Step
}

func (s start) close() {
	if s.checkpoint != nil {
		_ = s.checkpoint.Close() // it was only read
	}
}

// restore puts the trainer into the job's starting state.
func (job Job) restore(trainer *lm.Trainer, dataset *data.Dataset) (start, error) {
	switch {
	case job.Resume != "":
		return job.resume(trainer, dataset)
	case job.Fork != "":
		return start{}, job.fork(trainer, dataset)
	case job.Init != "":
		tok, err := dataset.Tokenizer()
		if err != nil {
			return start{}, err
		}
		return start{}, huggingface.InitFrom(job.Init, trainer.Model, tok)
	}
	return start{}, nil
}

// resume restores the newest checkpoint of the run, on the same data. A run without
// a checkpoint starts at step 0.
func (job Job) resume(trainer *lm.Trainer, dataset *data.Dataset) (start, error) {
	f, err := latest(job.Runs, job.Resume, job.Stderr)
	if errors.Is(err, checkpoint.ErrNone) {
		fmt.Fprintf(job.Stderr, "koala-lm: run %s has no checkpoint yet: it starts at step 0\n", job.Resume)
		return start{}, nil
	}
	if err != nil {
		return start{}, err
	}
	if f.State.Origin.Fingerprint != dataset.Fingerprint() {
		err = fmt.Errorf("checkpoint %s was trained on another dataset than %s: --fork starts a run on it from these weights", f.Path, dataset.Name())
	} else {
		err = f.Restore(trainer)
	}
	if err != nil {
		return start{}, errors.Join(err, f.Close())
	}
	return start{f}, nil
}

// fork loads the weights of another run's newest checkpoint. The dataset must have
// the tokenizer that the weights were trained with.
func (job Job) fork(trainer *lm.Trainer, dataset *data.Dataset) error {
	f, err := latest(job.Runs, job.Fork, job.Stderr)
	if err != nil {
		return fmt.Errorf("fork run %s: %w", job.Fork, err)
	}
	defer f.Close()
	if f.State.Origin.Tokenizer != dataset.Info().Tokenizer.SHA256 {
		return fmt.Errorf("checkpoint %s was trained with another tokenizer than the dataset %s has: prepare the data with --tokenizer FILE, the tokenizer.json in %s",
			f.Path, dataset.Name(), f.Dataset())
	}
	return f.LoadWeights(trainer.Model)
}

// latest opens a run's newest intact checkpoint, and names damaged ones on stderr.
func latest(runs, id string, stderr io.Writer) (*checkpoint.File, error) {
	f, damaged, err := checkpoint.Latest(CheckpointFolder(runs, id))
	if err != nil {
		return nil, err
	}
	for _, d := range damaged {
		visible.Fprintf(stderr, "koala-lm: %v; the one before it is used, of step %d\n", d, f.State.Progress.Step)
	}
	return f, nil
}
