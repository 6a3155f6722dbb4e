package koala

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// The test checks, for every kind, which parameters decay and at which rate: a kind
// with decoupled weight decay leaves out biases and norm gains.
func TestGroups(t *testing.T) {
	var params []Param
	for _, p := range []struct {
		name  string
		role  spec.Role
		shape []int64
	}{
		{"embedding", spec.Embedding, []int64{2, 3}}, {"matrix", "", []int64{3, 1}}, {"gain", "", []int64{3}},
		{"output", spec.Output, []int64{1, 3}}, {"bias", spec.Vector, []int64{3}},
	} {
		size := int64(1)
		for _, n := range p.shape {
			size *= n
		}
		params = append(params, Param{Name: p.name, Role: p.role, Tensor: newParam(t, gotch.Float, make([]float64, size), p.shape...)})
	}
	type settings struct{ LR, Decay float64 }
	of := func(t *testing.T, kind *spec.Kind, v setting.Values) map[string]settings {
		t.Helper()
		groups, err := Groups(kind, v, params)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]settings{}
		for _, g := range groups {
			for _, p := range g.Params {
				got[p.Name] = settings{g.LR, g.WeightDecay}
			}
		}
		return got
	}
	for _, kind := range spec.Kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			vectors := 0.1
			if kind.DecoupledDecay {
				vectors = 0
			}
			for name, c := range map[string]struct {
				values setting.Values
				want   map[string]settings
			}{
				"default": {nil, map[string]settings{
					"embedding": {1, 0.1}, "matrix": {1, 0.1}, "output": {1, 0.1}, "gain": {1, vectors}, "bias": {1, vectors}}},
				"norms": {setting.Values{"decay_norms": true}, map[string]settings{
					"embedding": {1, 0.1}, "matrix": {1, 0.1}, "output": {1, 0.1}, "gain": {1, 0.1}, "bias": {1, 0.1}}},
				"embeddings": {setting.Values{"decay_embeddings": false}, map[string]settings{
					"embedding": {1, 0}, "matrix": {1, 0.1}, "output": {1, 0.1}, "gain": {1, vectors}, "bias": {1, vectors}}},
				"rates": {setting.Values{"lr_embeddings": 0.5, "lr_norms": 2}, map[string]settings{
					"embedding": {0.5, 0.1}, "matrix": {1, 0.1}, "output": {0.5, 0.1}, "gain": {2, vectors}, "bias": {2, vectors}}},
			} {
				t.Run(name, func(t *testing.T) {
					if d := cmp.Diff(c.want, of(t, kind, with(c.values, "weight_decay", 0.1))); d != "" {
						t.Errorf("-want +got:\n%s", d)
					}
				})
			}
		})
	}
}

// Weight decay reaches the step: a gain keeps its value under zero gradients, a
// matrix does not.
func TestDecoupledDecayLeavesGains(t *testing.T) {
	for _, kind := range spec.Kinds() {
		if !kind.DecoupledDecay {
			continue
		}
		t.Run(kind.Name, func(t *testing.T) {
			forms(t, func(t *testing.T, operators bool) {
				run := func(decay float64) (matrix, gain []float64) {
					m, g := newParam(t, gotch.Double, []float64{1, 2, 3, 4}, 2, 2), newParam(t, gotch.Double, []float64{1, 2}, 2)
					values := setting.Values{"weight_decay": decay, "lr": 0.1}
					groups, err := Groups(kind, values, Params(m, g))
					if err != nil {
						t.Fatal(err)
					}
					opt := newOptimizer(t, kind, groups, values)
					useOperators(opt, operators)
					for range 3 {
						if err := opt.Predict(); err != nil {
							t.Fatal(err)
						}
						setGrad(t, m, []float64{1, -1, 0.5, 0.25})
						setGrad(t, g, []float64{1, -1})
						if _, err := opt.Update(Measurement{Loss: 2, MeanSquare: 5}); err != nil {
							t.Fatal(err)
						}
					}
					return valuesOf(t, m), valuesOf(t, g)
				}
				matrix, gain := run(0)
				decayed, same := run(0.1)
				if cmp.Equal(matrix, decayed) {
					t.Error("the matrix does not decay")
				}
				if !cmp.Equal(gain, same) {
					t.Errorf("the gain decays from %v to %v", gain, same)
				}
			})
		})
	}
}
