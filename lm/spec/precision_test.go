package spec_test

import (
	"strings"
	"testing"

	"github.com/koala-lm/koala-lm/lm/spec"
)

// The rule takes bfloat16 where it was measured to be faster, and only there. The numbers
// in the reasons are counted by hand: a GPT of width d has 12 d^2 elements in the matrices
// of a block, with 16 d rows and columns, so that N tokens make 12 d^2 N / (12 d^2 + 16 d N)
// multiply-adds for each number; the output layer of an LSTM is a product of N x d by d x V.
func TestChoosePrecision(t *testing.T) {
	gpt := func(layers int, embed, context, vocab int64) spec.Model {
		return spec.Model{Kind: spec.Transformer, Vocab: vocab, Layers: layers, Embed: embed, Hidden: 4 * embed, Heads: 2, KVHeads: 2,
			Context: context, Norm: spec.LayerNorm, Position: spec.Learned, MLP: spec.GELU, Tied: true}
	}
	lstm := func(embed, hidden, vocab int64) spec.Model {
		return spec.Model{Kind: spec.LSTM, Vocab: vocab, Layers: 2, Embed: embed, Hidden: hidden, Tied: true}
	}
	adaptive := lstm(650, 650, 33278)
	adaptive.Tied, adaptive.Softmax = false, spec.Adaptive
	capable, old, gpu := spec.Processor{BFloat16: true}, spec.Processor{}, spec.Processor{GPU: true, BFloat16: true}
	for _, test := range []struct {
		name   string
		model  spec.Model
		tokens int64
		on     spec.Processor
		want   string
		reason string // part of it
	}{
		{"gpt 4 x 128", gpt(4, 128, 64, 65), 12 * 64, capable, spec.Float32, "84 multiply-adds"},
		{"gpt 4 x 128, 8,000 ids", gpt(4, 128, 64, 8000), 12 * 64, capable, spec.Float32, "97 multiply-adds"},
		{"gpt 6 x 256", gpt(6, 256, 128, 65), 16 * 128, capable, spec.BFloat16, "174 multiply-adds"},
		{"gpt 6 x 384", gpt(6, 384, 256, 65), 8 * 256, capable, spec.BFloat16, "250 multiply-adds"},
		{"gpt 6 x 384, one short text", gpt(6, 384, 256, 65), 64, capable, spec.Float32, "52 multiply-adds"},
		{"gpt 6 x 384 on a GPU", gpt(6, 384, 256, 65), 8 * 256, gpu, spec.Float32, "GPU"},
		{"gpt 6 x 384 without instructions", gpt(6, 384, 256, 65), 8 * 256, old, spec.Float32, "no instructions"},
		{"gpt-2", gpt(12, 768, 1024, 50257), 1024, capable, spec.BFloat16, "387 multiply-adds"},
		// 700 * 8000 * 200 / (8000 * 200 + 700 * 8200)
		{"lstm 2 x 200", lstm(200, 200, 8000), 700, capable, spec.Float32, "153 multiply-adds"},
		{"lstm 2 x 650", lstm(650, 650, 33278), 700, capable, spec.BFloat16, "334 multiply-adds"},
		{"lstm 2 x 650, characters", lstm(650, 650, 65), 700, capable, spec.Float32, "1% of the multiply-adds"},
		{"lstm 2 x 650, adaptive softmax", adaptive, 700, capable, spec.Float32, "of the multiply-adds"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, reason := test.model.ChoosePrecision(test.tokens, test.on)
			if got != test.want || !strings.Contains(reason, test.reason) {
				t.Errorf("%s: %s; want %s: %s", got, reason, test.want, test.reason)
			}
		})
	}
}
