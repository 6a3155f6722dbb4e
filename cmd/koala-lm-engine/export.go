package main

import (
	"context"
	"fmt"
	"io"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/lm/huggingface"
)

// export writes a model for other tools.
func export(ctx context.Context, text string, stdout, stderr io.Writer) error {
	var r request.Export
	if err := request.Parse(text, &r); err != nil {
		return err
	}
	return withTrained(ctx, r.Common, r.Model, stderr, func(model *trained, _ gotch.Device) error {
		if err := exportTo(r, model); err != nil {
			return err
		}
		_, err := fmt.Fprintln(stdout, r.Out)
		return err
	})
}

func exportTo(r request.Export, model *trained) error {
	switch r.To {
	case "safetensors":
		return checkpoint.WriteWeights(r.Out, model.model)
	case "huggingface":
		tok, err := model.tokenizer()
		if err != nil {
			return err
		}
		return huggingface.Export(r.Out, model.model, tok, r.Force)
	}
	return fmt.Errorf("export: %q is not known: it is huggingface or safetensors", r.To)
}
