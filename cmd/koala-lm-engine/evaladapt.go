package main

import (
	"context"
	"fmt"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/lm"
)

const (
	// dynamicSegment is the number of tokens between two steps of dynamic
	// evaluation: that of Krause et al.
	dynamicSegment = 5
	// gradientBatches is how much of the training text tells it what gradients are
	// like.
	gradientBatches = 100
)

// scoreAdaptively scores a text with a model that adapts to it.
func scoreAdaptively(ctx context.Context, r request.Eval, model *trained, text scoredText, device gotch.Device) (lm.Result, error) {
	if !model.settings.Model.Recurrent() {
		return lm.Result{}, fmt.Errorf("--cache and --dynamic are for recurrent models, and %s is a %s", model.name, model.settings.Model.Kind)
	}
	var a lm.Adaptation
	segment := model.settings.SequenceLength()
	if c := r.Cache; c != nil {
		a.Cache = &lm.NeuralCache{Size: c.Size, Theta: c.Theta, Share: c.Share}
	}
	if d := r.Dynamic; d != nil {
		segment = dynamicSegment
		a.Dynamic = &lm.Dynamic{LR: d.LR, Decay: d.Decay, Batches: gradientBatches}
		trainedOn, err := data.Open(model.dataset)
		if err != nil {
			return lm.Result{}, fmt.Errorf("--dynamic needs the text that the model was trained on: %w", err)
		}
		defer trainedOn.Close()
		if err := model.fits(trainedOn); err != nil {
			return lm.Result{}, err
		}
		tokens, _ := trainedOn.Split("train")
		if a.Train, err = trainBatches(model.settings, tokens); err != nil {
			return lm.Result{}, err
		}
	}
	batches, err := data.NewContiguous(text.tokens, 1, segment, data.Evaluation())
	if err != nil {
		return lm.Result{}, err
	}
	return lm.EvaluateAdaptively(ctx, model.model, batches, a, device)
}
