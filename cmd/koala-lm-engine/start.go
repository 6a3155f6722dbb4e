package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/ranks"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/lm/huggingface"
)

// checkpointFolder is where a run's checkpoints are.
func checkpointFolder(runs, id string) string { return filepath.Join(runs, id, "checkpoints") }

// start puts the trainer where the request says that training starts. It returns
// the checkpoint that a resumed run goes on from, for the caller to close; nil for
// a run that starts at step 0.
func start(r request.Train, trainer *lm.Trainer, dataset *data.Dataset, stderr io.Writer) (*checkpoint.File, error) {
	switch {
	case r.Resume != "":
		f, err := latest(r.Runs, r.Resume, stderr)
		if errors.Is(err, checkpoint.ErrNone) {
			fmt.Fprintf(stderr, "koala-lm: run %s has no checkpoint yet: it starts again at step 0\n", r.Resume)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if err := goOn(f, trainer, dataset); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	case r.Fork != "":
		f, err := latest(r.Runs, r.Fork, stderr)
		if err != nil {
			return nil, fmt.Errorf("fork run %s: %w", r.Fork, err)
		}
		return nil, errors.Join(branch(f, trainer, dataset), f.Close())
	case r.Init != "":
		tok, err := dataset.Tokenizer()
		if err != nil {
			return nil, err
		}
		return nil, huggingface.InitFrom(r.Init, trainer.Model, tok)
	}
	return nil, nil
}

// goOn puts the trainer where the checkpoint was made, on the same data.
func goOn(f *checkpoint.File, trainer *lm.Trainer, dataset *data.Dataset) error {
	if f.State.Origin.Fingerprint != dataset.Fingerprint() {
		return fmt.Errorf("checkpoint %s was trained on another dataset than %s: --fork starts a run on it from these weights", f.Path, dataset.Name())
	}
	return f.Restore(trainer)
}

// branch gives the trainer the checkpoint's weights. They mean something for the
// tokens that they were trained on alone.
func branch(f *checkpoint.File, trainer *lm.Trainer, dataset *data.Dataset) error {
	if f.State.Origin.Tokenizer != dataset.Info().Tokenizer.SHA256 {
		return fmt.Errorf("checkpoint %s was trained with another tokenizer than that of %s: prepare the data with --tokenizer FILE, the tokenizer.json in %s",
			f.Path, dataset.Name(), f.State.Origin.Dataset)
	}
	return f.LoadWeights(trainer.Model)
}

// latest opens a run's newest whole checkpoint and tells of the damaged ones.
func latest(runs, id string, stderr io.Writer) (*checkpoint.File, error) {
	f, damaged, err := checkpoint.Latest(checkpointFolder(runs, id))
	if err != nil {
		return nil, err
	}
	for _, d := range damaged {
		fmt.Fprintf(stderr, "koala-lm: %v; the one before it is used, of step %d\n", d, f.State.Progress.Step)
	}
	return f, nil
}

// stepOf is the step that a run goes on from.
func stepOf(from *checkpoint.File) int64 {
	if from == nil {
		return 0
	}
	return from.State.Progress.Step
}

// origin is what the checkpoints of a run say that they belong to.
func origin(r request.Train, run string, dataset *data.Dataset) (checkpoint.Origin, error) {
	settings, err := json.Marshal(r.Settings)
	if err != nil {
		return checkpoint.Origin{}, fmt.Errorf("settings as JSON: %w", err)
	}
	return checkpoint.Origin{
		Run: run, Settings: settings, Dataset: r.Data, Fingerprint: dataset.Fingerprint(),
		Tokenizer: dataset.Info().Tokenizer.SHA256, Vocab: dataset.Vocab(), Build: r.Build,
	}, nil
}

// commonFacts are what must be the same in all ranks of a run for their steps to
// be.
func commonFacts(r request.Train, trainer *lm.Trainer, dataset *data.Dataset, from *checkpoint.File) ([]ranks.Fact, error) {
	weights, err := lm.Checksum(trainer.Model)
	if err != nil {
		return nil, err
	}
	kind := trainer.Device.Name
	if trainer.Device == gotch.CPU {
		kind = "a CPU with " + torch.CPUCapability()
	}
	facts := []ranks.Fact{
		{Name: "koala-lm", Value: r.Build}, {Name: "libtorch", Value: torch.LibtorchVersion()},
		{Name: "the device", Value: kind}, {Name: "the dataset's fingerprint", Value: dataset.Fingerprint()},
	}
	for _, kv := range r.Settings.Flat() {
		facts = append(facts, ranks.Fact{Name: kv.Key, Value: fmt.Sprint(kv.Value)})
	}
	return append(facts,
		ranks.Fact{Name: "the step to go on after", Value: fmt.Sprint(stepOf(from))},
		ranks.Fact{Name: "the checksum of the weights to start from", Value: fmt.Sprintf("%08x", weights)},
	), nil
}
