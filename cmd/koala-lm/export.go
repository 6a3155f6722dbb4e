package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/lm/huggingface/config"
	"github.com/koala-lm/koala-lm/lm/spec"
	"github.com/koala-lm/koala-lm/tracking"
)

type exportOptions struct {
	app     *app
	model   modelFlags
	compute computeFlags
	to      string
	out     outFlags
}

func newExportCmd(a *app) *cobra.Command {
	opts := &exportOptions{app: a}
	cmd := &cobra.Command{
		Use:   "export RUN|CHECKPOINT --out PATH",
		Short: "Write a model so that other tools load it",
		Long: `Write a model's weights and tokenizer so that other tools load them:
  huggingface   a folder that transformers opens, of a Transformer
  safetensors   one file of weights, of any model`,
		Example: `  koala-lm export gpt --to huggingface --out gpt-hf
  koala-lm export latest --to safetensors --out lstm.safetensors`,
		Args: modelArgs(&opts.model, 1, 1, "a RUN or a CHECKPOINT"),
		RunE: func(cmd *cobra.Command, _ []string) error { return runExport(cmd.Context(), opts) },
	}
	opts.model.add(cmd)
	addEnumFlag(cmd, &opts.to, "to", "huggingface", "the layout to write", "huggingface", "safetensors")
	opts.out.add(cmd, "`folder` or file to write")
	return cmd
}

func runExport(ctx context.Context, opts *exportOptions) error {
	if opts.out.out == "" {
		return usagef("no place to write: give --out PATH")
	}
	out, err := absolute(opts.out.out)
	if err != nil {
		return err
	}
	if opts.to == "safetensors" {
		err = opts.out.check(storePath(opts.model.store))
	} else { // the engine replaces a model's folder only
		err = opts.out.checkNew()
	}
	if err != nil {
		return err
	}
	model, run, err := opts.model.resolve(ctx)
	if err != nil {
		return err
	}
	if run != nil && opts.to == "huggingface" {
		if err := checkExport(run); err != nil {
			return err
		}
	}
	// Writing files needs no accelerator.
	opts.compute.device = "cpu"
	return request.Exec("export", &request.Export{
		Common: opts.compute.common(opts.app), Model: model, To: opts.to, Out: out, Force: opts.out.force,
	})
}

// checkExport returns an error if transformers has no equivalent of the run's model.
func checkExport(run *tracking.RunDetail) error {
	var b configs.Builder
	b.Values("run "+run.ID, run.Settings)
	settings, err := b.Settings()
	if err != nil {
		return err
	}
	shape := settings.Model
	shape.Vocab = max(1, shape.Vocab) // the dataset's size, which has no effect here
	if shape.Softmax == spec.Adaptive {
		shape.Vocab = max(shape.Vocab, shape.Tails()[len(shape.Tails())-1]+1)
	}
	if _, _, err := config.Describe(shape); err != nil {
		return fmt.Errorf("run %s: %w", run.ID, err)
	}
	return nil
}
