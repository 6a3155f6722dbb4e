package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/lm"
)

// eval scores a split or a text.
func eval(ctx context.Context, text string, stdout, stderr io.Writer) error {
	var r request.Eval
	if err := request.Parse(text, &r); err != nil {
		return err
	}
	return withTrained(r.Common, r.Model, stderr, func(model *trained, device gotch.Device) error {
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
		return newEvalResult(r, model, scored, result, time.Since(started)).write(stdout, r.Format)
	})
}

// score is the model's loss over a text.
func score(ctx context.Context, r request.Eval, model *trained, text scoredText, device gotch.Device) (lm.Result, error) {
	if r.Cache != nil || r.Dynamic != nil {
		return scoreAdaptively(ctx, r, model, text, device)
	}
	batches, err := batchesToScore(r, model, text.tokens)
	if err != nil {
		return lm.Result{}, err
	}
	return lm.EvaluateText(ctx, model.model, batches, device)
}

// batchesToScore cuts a text as training's evaluations do, unless the request says
// otherwise.
func batchesToScore(r request.Eval, model *trained, tokens *data.Tokens) (data.Batcher, error) {
	s := model.settings
	batch := s.Eval.Batch
	if r.Batch > 0 {
		batch = r.Batch
	}
	batch = min(batch, tokens.Len()-1)
	switch {
	case s.Model.Recurrent() && r.Stride > 0:
		return nil, fmt.Errorf("--stride is for Transformers: %s carries its state through the whole text", model.name)
	case s.Model.Recurrent():
		return data.NewContiguous(tokens, batch, s.SequenceLength(), data.Evaluation())
	case r.Stride > s.SequenceLength():
		return nil, fmt.Errorf("--stride %d is longer than the model's context of %d tokens", r.Stride, s.SequenceLength())
	case r.Stride > 0:
		return data.NewSequential(tokens, batch, s.SequenceLength(), data.Evaluation(), data.Stride(r.Stride))
	}
	return data.NewSequential(tokens, batch, s.SequenceLength(), data.Evaluation())
}
