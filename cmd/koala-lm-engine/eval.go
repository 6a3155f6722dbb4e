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
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/report"
)

// eval scores a split or texts.
func eval(ctx context.Context, text string, stdout, stderr io.Writer) error {
	var r request.Eval
	if err := request.Parse(text, &r); err != nil {
		return err
	}
	return withTrained(ctx, r.Common, r.Model, stderr, func(model *trained, device gotch.Device) error {
		texts := r.Texts
		if len(texts) == 0 {
			texts = []string{""} // the split
		}
		for i, path := range texts {
			if i > 0 && r.Format == "table" {
				fmt.Fprintln(stdout)
			}
			if err := evalText(ctx, r, model, path, device, stdout); err != nil {
				return err
			}
		}
		return nil
	})
}

// evalText scores the text of a path, or the split if there is none, and writes the result.
func evalText(ctx context.Context, r request.Eval, model *trained, path string, device gotch.Device, stdout io.Writer) error {
	text, err := textToScore(r, model, path)
	if err != nil {
		return err
	}
	defer text.close()
	if text.tokens.Len() < 2 {
		return fmt.Errorf("%s: a text of %d tokens has nothing to predict", text.name, text.tokens.Len())
	}
	started := time.Now()
	result, parts, err := score(ctx, r, model, text, device)
	if err != nil {
		return err
	}
	e := newEvalResult(r, model, text, result, time.Since(started))
	if e.Loss != nil && math.IsNaN(float64(*e.Loss)) {
		return errors.New("eval: the model's loss is not a number (NaN): its weights are damaged, or its training diverged")
	}
	e.evalParts = parts
	if r.Baseline {
		if e.Unigram, e.NGram, err = baselines(ctx, text.dataset, r.Split); err != nil {
			return err
		}
	}
	return e.write(stdout, r.Format)
}

// baselines returns the perplexities of models that count: of tokens alone, and of n-grams.
func baselines(ctx context.Context, d *data.Dataset, split string) (unigram, ngram *report.Number, err error) {
	if d == nil {
		return nil, nil, fmt.Errorf("--baseline needs a dataset, whose train split it counts")
	}
	one, err := d.UnigramPPL(split)
	if err != nil {
		return nil, nil, err
	}
	ppl, err := d.KneserNeyPPL(ctx, data.MaxOrder, split)
	five := ppl[split]
	return (*report.Number)(&one), (*report.Number)(&five), err
}

// score returns the model's loss over a text, and its parts that the request asks for.
func score(ctx context.Context, r request.Eval, model *trained, text scoredText, device gotch.Device) (lm.Result, evalParts, error) {
	if r.Cache != nil || r.Dynamic != nil {
		result, err := scoreAdaptively(ctx, r, model, text, device)
		return result, evalParts{}, err
	}
	// Batches are those of training's evaluations, unless the request overrides
	// them.
	reading := lm.Reading{
		Batch: model.settings.Eval.Batch, Length: model.settings.Train.BPTT, Stride: r.Stride,
		WithinDocuments: model.settings.Train.DocumentMask,
	}
	if r.Batch > 0 {
		reading.Batch = r.Batch
	}
	batches, err := reading.Batches(model.model, text.tokens)
	if err != nil {
		return lm.Result{}, evalParts{}, err
	}
	if len(r.By) > 0 {
		return scoreParts(ctx, r, model, text, reading, batches, device)
	}
	result, err := lm.EvaluateText(ctx, model.model, batches, device)
	return result, evalParts{}, err
}
