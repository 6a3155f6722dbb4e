package main

import (
	"context"
	"fmt"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/run"
)

const (
	// dynamicSegment is the number of tokens between two steps of dynamic
	// evaluation (Krause et al. 2018).
	dynamicSegment = 5
	// gradientBatches is the number of training batches over which dynamic
	// evaluation averages squared gradients.
	gradientBatches = 100
)

// scoreAdaptively scores a text with a model that adapts to it.
func scoreAdaptively(ctx context.Context, r request.Eval, model *trained, text scoredText, device gotch.Device) (lm.Result, error) {
	if !model.model.CarriesState() {
		return lm.Result{}, fmt.Errorf("--cache and --dynamic need a model that carries its state, and %s is a %s", model.name, model.model.Config().Kind)
	}
	var a lm.Adaptation
	segment := model.settings.Train.BPTT
	if c := r.Cache; c != nil {
		a.Cache = &lm.NeuralCache{Size: c.Size, Theta: c.Theta, Share: c.Share}
	}
	if d := r.Dynamic; d != nil {
		segment = dynamicSegment
		a.Dynamic = &lm.Dynamic{LR: d.LR, Decay: d.Decay, Batches: gradientBatches}
		trainedOn, err := data.Open(model.dataset)
		if err != nil {
			return lm.Result{}, fmt.Errorf("--dynamic needs the dataset that the model was trained on: %w", err)
		}
		defer trainedOn.Close()
		if err := model.fits(trainedOn); err != nil {
			return lm.Result{}, err
		}
		tokens, _ := trainedOn.Split("train")
		if a.Train, err = run.TrainBatches(model.settings, tokens); err != nil {
			return lm.Result{}, err
		}
	}
	batches, err := data.NewContiguous(text.tokens, 1, segment, data.Evaluation())
	if err != nil {
		return lm.Result{}, err
	}
	return lm.EvaluateAdaptively(ctx, model.model, batches, a, device)
}
