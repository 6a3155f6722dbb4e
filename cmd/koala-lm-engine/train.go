package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/dustin/go-humanize"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/request"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/tracking"
	"github.com/koala-lm/koala-lm/tracking/environment"
)

// train runs one training run from a request to its end in the store.
func train(ctx context.Context, text string, stdout, stderr io.Writer) error {
	var r request.Train
	if err := request.Parse(text, &r); err != nil {
		return err
	}
	dataset, err := data.Open(r.Data)
	if err != nil {
		return err
	}
	defer dataset.Close()
	return torch.Main(r.Threads, func() error { return trainOn(ctx, r, dataset, stderr) })
}

func trainOn(ctx context.Context, r request.Train, dataset *data.Dataset, stderr io.Writer) (err error) {
	device, err := torch.ParseDevice(string(r.Device))
	if err != nil {
		return err
	}
	tokens, ok := dataset.Split("train")
	if !ok {
		return fmt.Errorf("%s has no train split", r.Data)
	}
	model, err := lm.New(modelConfig(r.Settings.Model, dataset.Vocab()), uint64(r.Settings.Train.Seed), device)
	if err != nil {
		return err
	}
	defer model.Close()
	optimizer, err := newOptimizer(r.Settings, model)
	if err != nil {
		return err
	}
	defer optimizer.Close()
	batches, err := trainBatches(r.Settings, tokens)
	if err != nil {
		return err
	}
	trainer := &lm.Trainer{
		Config: trainConfig(r.Settings), Model: model, Optimizer: optimizer, Train: batches, Device: device,
		Valid: evalBatches(r.Settings, dataset, "valid"), Test: evalBatches(r.Settings, dataset, "test"),
	}

	store, err := tracking.Open(r.Store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	run, err := startRun(ctx, store, r, dataset, torch.DeviceName(device))
	if err != nil {
		return err
	}
	bar := newProgress(stderr, r.Quiet, trainer.TotalSteps(), 0)
	trainer.Observers = []lm.Observer{&recorder{run: run, info: dataset.Info(), warn: stderr}, bar}
	bar.say("run %s: %s with %s, %s parameters, on %s, threads: %d", run.ID(), r.Settings.Model.Kind, r.Settings.Optimizer.Kind,
		humanize.Comma(lm.CountParams(model)), torch.DeviceName(device), torch.Threads())

	// A panic must not leave the run "running".
	status, reason := tracking.Failed, "the process panicked"
	defer func() { err = errors.Join(err, run.Finish(status, reason)) }()
	err = trainer.Run(ctx)
	bar.close()
	status, reason = outcome(err)
	return err
}

// outcome is how a run ended, and why, for the store.
func outcome(err error) (tracking.Status, string) {
	switch {
	case err == nil:
		return tracking.Finished, ""
	case errors.Is(err, lm.ErrInterrupted):
		return tracking.Interrupted, ""
	}
	return tracking.Failed, err.Error()
}

// startRun records the run with all that it takes to ask about it later.
func startRun(ctx context.Context, store *tracking.Store, r request.Train, dataset *data.Dataset, device string) (*tracking.Run, error) {
	settings := map[string]any{}
	for _, kv := range r.Settings.Flat() {
		settings[kv.Key] = kv.Value
	}
	info := dataset.Info()
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
		Versions: map[string]string{"koala-lm": r.Build, "go": runtime.Version(), "libtorch": torch.LibtorchVersion()},
	})
}
