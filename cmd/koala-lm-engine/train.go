package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/lm/spec"
	"github.com/koala-lm/koala-lm/tracking"
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
	return torch.Main(threads(r), func() error {
		if r.FindLR {
			return findLR(ctx, r, dataset, stdout, stderr)
		}
		return trainOn(ctx, r, dataset, stderr)
	})
}

func trainOn(ctx context.Context, r request.Train, dataset *data.Dataset, stderr io.Writer) (err error) {
	team, err := newTeam(ctx, r, stderr)
	if err != nil {
		return err
	}
	defer func() { err = team.leave(err) }()
	if !team.leads() {
		stderr = io.Discard
	}
	device, err := team.device(string(r.Device))
	if err != nil {
		return err
	}
	trainer, err := newTrainer(r, dataset, device, team.share()...)
	if err != nil {
		return err
	}
	defer closeTrainer(trainer)
	if team != nil {
		trainer.Group = team
	}
	from, err := start(r, trainer, dataset, stderr)
	if err != nil {
		return err
	}
	if from != nil {
		defer from.Close()
	}
	if team != nil {
		facts, err := commonFacts(r, trainer, dataset, from)
		if err != nil {
			return err
		}
		if err := team.join(ctx, facts, device); err != nil {
			return err
		}
	}
	if !team.leads() {
		return trainer.Run(ctx)
	}
	return trainAndRecord(ctx, r, trainer, dataset, from, stderr)
}

// trainAndRecord trains, and tells the store and the terminal how it goes.
func trainAndRecord(ctx context.Context, r request.Train, trainer *lm.Trainer, dataset *data.Dataset, from *checkpoint.File, stderr io.Writer) (err error) {
	store, err := tracking.Open(r.Store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	device := trainer.Device
	run, err := takeUp(ctx, store, r, dataset, from, torch.DeviceName(device))
	if err != nil {
		return err
	}
	// A panic must not leave the run "running".
	status, reason := tracking.Failed, "the process panicked"
	defer func() { err = errors.Join(err, run.Finish(status, reason)) }()
	bar := newProgress(stderr, r.Quiet, trainer.TotalSteps(), stepOf(from))
	if trainer.Config.Precision == spec.BFloat16 && !torch.FastBFloat16(device) {
		bar.warn("this CPU has no instructions for bfloat16: train.precision float32 is faster on it")
	}
	many := ""
	if n := r.Ranks(); n > 1 {
		many = fmt.Sprintf("%d processes, ", n)
	}
	bar.say("run %s: %s with %s, %s parameters, on %s, %sthreads: %d", run.ID(), r.Settings.Model.Kind, r.Settings.Optimizer.Kind,
		humanize.Comma(lm.CountParams(trainer.Model)), torch.DeviceName(device), many, torch.Threads())
	if from != nil {
		bar.say("going on after step %s", humanize.Comma(stepOf(from)))
	}
	trainer.Observers = []lm.Observer{&recorder{run: run, info: dataset.Info(), warn: bar.warn}, bar}
	err = trainAndKeep(ctx, r, trainer, run, dataset, from, bar)
	if err == nil {
		if failed := recordSample(ctx, run, trainer, dataset); failed != nil {
			bar.warn("no sample is kept with the run: %v", failed)
		}
	}
	bar.close()
	status, reason = outcome(err)
	return err
}

// newTrainer makes a trainer and what it trains, for closeTrainer to free.
func newTrainer(r request.Train, dataset *data.Dataset, device gotch.Device, share ...data.BatchOption) (*lm.Trainer, error) {
	tokens, ok := dataset.Split("train")
	if !ok {
		return nil, fmt.Errorf("%s has no train split", r.Data)
	}
	batches, err := trainBatches(r.Settings, tokens, share...)
	if err != nil {
		return nil, err
	}
	model, err := lm.New(modelConfig(r.Settings.Model, dataset.Vocab()), uint64(r.Settings.Train.Seed), device)
	if err != nil {
		return nil, err
	}
	optimizer, err := newOptimizer(r.Settings, model)
	if err != nil {
		model.Close()
		return nil, err
	}
	return &lm.Trainer{
		Config: trainConfig(r.Settings), Model: model, Optimizer: optimizer, Train: batches, Device: device,
		Valid: evalBatches(r.Settings, dataset, "valid", share...), Test: evalBatches(r.Settings, dataset, "test", share...),
	}, nil
}

func closeTrainer(t *lm.Trainer) {
	_ = t.Optimizer.Close() // frees memory: there is nothing to tell
	t.Model.Close()
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
