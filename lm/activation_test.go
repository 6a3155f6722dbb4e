package lm

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm/huggingface/config"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// Every activation of transformers without parameters has its values here, and every
// activation is one of them.
func TestActivations(t *testing.T) {
	content, err := os.ReadFile("testdata/activations.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded struct {
		X      []float32
		Values map[string][]float64
	}
	if err := json.Unmarshal(content, &recorded); err != nil {
		t.Fatal(err)
	}
	left := slices.Clone(spec.Activations)
	for name, want := range recorded.Values {
		t.Run(name, func(t *testing.T) {
			fields, err := json.Marshal(map[string]string{"model_type": "gpt2", "activation_function": name})
			if err != nil {
				t.Fatal(err)
			}
			m, err := config.Parse(fields)
			if err != nil {
				t.Fatal(err)
			}
			ours := m.Shape.MLP
			left = slices.DeleteFunc(left, func(a string) bool { return a == ours })
			var got []float64
			err = torch.Do(func(s *torch.Scope) error {
				got = torch.ToSlice[float64](s, activations[ours](s, torch.FromSlice(s, recorded.X, int64(len(recorded.X)))))
				return s.Err()
			})
			if err != nil {
				t.Fatal(err)
			}
			for i := range want {
				if !(math.Abs(got[i]-want[i]) <= 2e-6*(1+math.Abs(want[i]))) {
					t.Errorf("%s of %g is %g, want %g", ours, recorded.X[i], got[i], want[i])
				}
			}
		})
	}
	if len(left) > 0 {
		t.Errorf("%q are compared with nothing", left)
	}
}
