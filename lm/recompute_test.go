package lm_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"

	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// Gradient checkpointing changes no bit of any Transformer: dropout draws the same
// numbers, tensors before a block may be frozen, and the batches of a step add up.
func TestGradientCheckpointing(t *testing.T) {
	for name, model := range shapes {
		if model.Kind != lm.Transformer {
			continue
		}
		for _, precision := range []string{spec.Float32, spec.BFloat16} {
			for _, d := range []gotch.Device{gotch.CPU, device} {
				for _, freeze := range [][]string{nil, {embeddingOf(model)}} {
					t.Run(fmt.Sprint(name, " ", precision, " ", d.Name, " ", freeze), func(t *testing.T) {
						j := job{model: model, kind: koalaspec.AdamW, config: lm.TrainConfig{Train: spec.Train{Steps: 5, Accumulate: 2, Precision: precision}}, whole: 4, freeze: freeze}
						want := j.trainOn(t, d)
						j.config.GradientCheckpointing = true
						got := j.trainOn(t, d)
						sameLosses(t, "checkpointed", want.losses(), got.losses(), 0)
						if !cmp.Equal(want.weights, got.weights) {
							t.Error("it ends with other weights")
						}
					})
				}
			}
		}
	}
}

// embeddingOf is the pattern of the names of a Transformer's token embedding.
func embeddingOf(c lm.Config) string {
	if c.GPT2() {
		return "*.wte.*"
	}
	return "*.embed_tokens.*"
}
