package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/lm"
)

// eval scores a split or a text.
func eval(ctx context.Context, text string, stdout, stderr io.Writer) error {
	var r request.Eval
	if err := request.Parse(text, &r); err != nil {
		return err
	}
	return withTrained(ctx, r.Common, r.Model, stderr, func(model *trained, device gotch.Device) error {
		scored, err := textToScore(r, model)
		if err != nil {
			return err
		}
		defer scored.close()
		if scored.tokens.Len() < 2 {
			return fmt.Errorf("a text of %d tokens has nothing to predict", scored.tokens.Len())
		}
		started := time.Now()
		result, err := score(ctx, r, model, scored, device)
		if err != nil {
			return err
		}
		printed := newEvalResult(r, model, scored, result, time.Since(started))
		if printed.Loss != nil && math.IsNaN(float64(*printed.Loss)) {
			return errors.New("eval: the model's loss is not a number (NaN): its weights are damaged, or its training diverged")
		}
		return printed.write(stdout, r.Format)
	})
}

// score returns the model's loss over a text.
func score(ctx context.Context, r request.Eval, model *trained, text scoredText, device gotch.Device) (lm.Result, error) {
	if r.Cache != nil || r.Dynamic != nil {
		return scoreAdaptively(ctx, r, model, text, device)
	}
	// Batches are those of training's evaluations, unless the request overrides
	// them.
	reading := lm.Reading{Batch: model.settings.Eval.Batch, Length: model.settings.Train.BPTT, Stride: r.Stride, WithinDocuments: model.settings.Train.DocumentMask}
	if r.Batch > 0 {
		reading.Batch = r.Batch
	}
	batches, err := reading.Batches(model.model, text.tokens)
	if err != nil {
		return lm.Result{}, err
	}
	return lm.EvaluateText(ctx, model.model, batches, device)
}
