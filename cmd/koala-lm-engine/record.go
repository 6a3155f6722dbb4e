package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/tracking"
	"github.com/koala-lm/koala-lm/tracking/environment"
)

// takeUp makes this process the one that trains the run, a new or a resumed one.
func takeUp(ctx context.Context, store *tracking.Store, r request.Train, dataset *data.Dataset, from *checkpoint.File, device string) (*tracking.Run, error) {
	if r.Resume == "" {
		return startRun(ctx, store, r, dataset, device)
	}
	return store.ResumeRun(ctx, r.Resume, stepOf(from), tracking.Resume{Command: r.Command, Device: device, Threads: torch.Threads(), DatasetPath: r.Data})
}

// knownMetrics are those of the dataset itself, recorded at step 0.
func knownMetrics(dataset *data.Dataset) (map[string]float64, error) {
	known := map[string]float64{}
	for split, prefix := range splitPrefix {
		if _, ok := dataset.Split(split); !ok {
			continue
		}
		ppl, err := dataset.UnigramPPL(split)
		if err != nil {
			return nil, err
		}
		known[prefix+"unigram_ppl"] = ppl
	}
	return known, nil
}

// startRun records the run with all that it takes to ask about it later.
func startRun(ctx context.Context, store *tracking.Store, r request.Train, dataset *data.Dataset, device string) (*tracking.Run, error) {
	known, err := knownMetrics(dataset)
	if err != nil {
		return nil, err
	}
	settings := map[string]any{}
	for _, kv := range r.Settings.Flat() {
		settings[kv.Key] = kv.Value
	}
	info := dataset.Info()
	folder, err := os.Getwd()
	if err != nil {
		folder = filepath.Dir(r.Store)
	}
	return store.StartRun(ctx, tracking.NewRun{
		Name: r.Name, Note: r.Note, Tags: r.Tags, Settings: settings,
		Dataset: tracking.Dataset{
			Name: dataset.Name(), Path: r.Data, Fingerprint: dataset.Fingerprint(),
			Facts:   map[string]any{"vocab": dataset.Vocab(), "tokenizer": info.Tokenizer.Kind, "train_tokens": info.Splits["train"].Tokens},
			Metrics: known,
		},
		Git: environment.ReadGit(folder), Command: r.Command, CPU: environment.CPU(), Device: device, Threads: torch.Threads(),
		Parent:   r.Fork,
		Versions: map[string]string{"koala-lm": r.Build, "go": runtime.Version(), "libtorch": torch.LibtorchVersion()},
	})
}
