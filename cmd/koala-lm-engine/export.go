package main

import (
	"context"
	"fmt"
	"io"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/request"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/lm/huggingface"
)

// export writes a model for other tools.
func export(_ context.Context, text string, stdout, stderr io.Writer) error {
	var r request.Export
	if err := request.Parse(text, &r); err != nil {
		return err
	}
	return torch.Main(r.Threads, func() error {
		model, err := openTrained(r.Model, gotch.CPU, stderr)
		if err != nil {
			return err
		}
		defer model.Close()
		switch r.To {
		case "safetensors":
			err = checkpoint.WriteWeights(r.Out, model.Model)
		case "huggingface":
			tok, tokErr := model.tokenizer()
			if tokErr != nil {
				return tokErr
			}
			err = huggingface.Export(r.Out, model.Model, tok, r.Force)
		default:
			err = fmt.Errorf("export: %q is not known: it is huggingface or safetensors", r.To)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(stdout, r.Out)
		return err
	})
}
