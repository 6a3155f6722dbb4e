package lm

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/torch"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// The outline of a model, by which its memory is estimated, has the model's tensors, and
// each kind of optimizer has as much state for them as it says.
func TestOutline(t *testing.T) {
	recurrent := Config{Kind: LSTM, Vocab: 60, Layers: 2, Embed: 8, Hidden: 12, Tied: true, Softmax: Full}
	gpt := Config{Kind: Transformer, Vocab: 60, Layers: 2, Embed: 16, Hidden: 64, Tied: true, Softmax: Full, Heads: 4, KVHeads: 4, Context: 8,
		Norm: LayerNorm, Position: Learned, MLP: GELU}
	with := func(c Config, change func(c *Config)) Config {
		change(&c)
		return c
	}
	for name, c := range map[string]Config{
		"lstm":          recurrent,
		"lstm, untied":  with(recurrent, func(c *Config) { c.Tied = false }),
		"lstm, adapted": with(recurrent, func(c *Config) { c.Tied, c.Softmax = false, Adaptive }),
		"gru":           with(recurrent, func(c *Config) { c.Kind = GRU }),
		"gpt":           gpt,
		"gpt, untied":   with(gpt, func(c *Config) { c.Tied = false }),
		"gpt, adapted":  with(gpt, func(c *Config) { c.Tied, c.Softmax = false, Adaptive }),
		"llama": with(gpt, func(c *Config) {
			c.Norm, c.Position, c.MLP, c.KVHeads = RMSNorm, Rotary, SwiGLU, 2
		}),
		"llama, much else": with(gpt, func(c *Config) {
			c.Norm, c.Position, c.MLP = RMSNorm, Rotary, "gated-gelu"
			c.Architecture = spec.Architecture{HeadWidth: 6, QKNorm: true, Biases: spec.QKVBiases}
		}),
		"layer norm, rotary": with(gpt, func(c *Config) { c.Position = Rotary }),
		"parallel":           with(gpt, func(c *Config) { c.Architecture.Parallel = true }),
	} {
		t.Run(name, func(t *testing.T) {
			m, err := New(c, 1, gotch.CPU)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			outline, _, known := c.Outline(spec.Pass{})
			if !known {
				t.Fatal("there is no outline")
			}
			describe := func(role string, shape, parts []int64, dim int) string {
				return fmt.Sprint(role, " ", shape, " ", append([]int64{}, parts...), " ", dim)
			}
			var got, want []string
			var params []*koalaspec.Param
			for _, o := range outline {
				got = append(got, describe(o.Role, o.Shape, o.Parts, o.PartsDim))
				params = append(params, koalaspec.OfShape(koalaspec.Role(o.Role), o.Shape, o.Parts, o.PartsDim))
			}
			for _, p := range m.Params() {
				dim := p.PartsDim
				if len(p.Parts) == 0 {
					dim = 0
				}
				want = append(want, describe(string(p.Role), torch.Shape(p.Tensor), p.Parts, dim))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("tensors (-model +outline):\n%s", diff)
			}
			for _, kind := range koalaspec.Kinds() {
				said, _, err := kind.StateElements(nil, params)
				if err != nil {
					t.Fatal(err)
				}
				optimizer, err := NewOptimizer(kind, nil, m)
				if err != nil {
					t.Fatal(err)
				}
				state, err := optimizer.State()
				if err != nil {
					t.Fatal(err)
				}
				complete, err := kind.Complete(nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				has, later := int64(0), int64(0)
				for _, tensor := range state.Tensors {
					has += torch.Count(tensor)
				}
				for _, declared := range kind.New(complete).State().Tensors {
					if declared.Optional {
						later += CountParams(m)
					}
				}
				if said != has+later {
					t.Errorf("%s: the state has %d elements and gets %d, not %d", kind.Name, has, later, said)
				}
				if err := optimizer.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// The products of a step are counted, those of the output layer apart.
func TestMultiplications(t *testing.T) {
	for _, c := range []struct {
		name         string
		config       Config
		body, output int64
	}{
		{"lstm", Config{Kind: LSTM, Vocab: 60, Layers: 2, Embed: 8, Hidden: 12, Tied: true, Softmax: Full},
			4*12*(8+12) + 4*8*(12+8), 60 * 8}, // four gates of inputs and states; the last layer has embed units
		{"gpt", Config{Kind: Transformer, Vocab: 60, Layers: 2, Embed: 16, Hidden: 64, Tied: true, Softmax: Full, Heads: 4, KVHeads: 4,
			Context: 10, Norm: LayerNorm, Position: Learned, MLP: GELU},
			2 * (12*16*16 + 2*16*10), 60 * 16}, // 12 squares a block, and scores and values of 10 tokens
	} {
		t.Run(c.name, func(t *testing.T) {
			if body, output := c.config.Multiplications(10); body != c.body || output != c.output {
				t.Errorf("%d and %d, want %d and %d", body, output, c.body, c.output)
			}
		})
	}
}
