package lm

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// flat is a tensor in a recording.
type flat struct {
	Shape  []int64   `json:"shape"`
	Values []float64 `json:"values"`
}

func TestAdaptiveSoftmaxAgreesWithPyTorch(t *testing.T) {
	text, err := os.ReadFile("testdata/adaptive_softmax.json")
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Vocab     int64           `json:"vocab"`
		Cutoffs   []int64         `json:"cutoffs"`
		Divisor   float64         `json:"div_value"`
		Hidden    flat            `json:"hidden"`
		Target    []int64         `json:"target"`
		Weights   map[string]flat `json:"weights"`
		Losses    []float64       `json:"losses"`
		Loss      float64         `json:"loss"`
		Gradients map[string]flat `json:"gradients"`
		LogProb   []float64       `json:"log_prob_row0"`
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want []float64) {
		t.Helper()
		for i := range want {
			if len(got) != len(want) || math.Abs(got[i]-want[i]) > 2e-6*(1+math.Abs(want[i])) {
				t.Fatalf("%s: number %d of %d is %v, PyTorch has %v", what, i, len(got), got[min(i, len(got)-1)], want[i])
			}
		}
	}
	err = torch.Do(func(s *torch.Scope) error {
		p := Builder{path: "out.", model: &building{scope: s, device: gotch.CPU}}
		l := adaptiveOf(p, Constant(0), append(r.Cutoffs, r.Vocab), r.Hidden.Shape[1], int64(r.Divisor))
		tensor := func(f flat) *ts.Tensor {
			return s.To(torch.FromSlice(s, f.Values, f.Shape...), gotch.Float, gotch.CPU)
		}
		for _, param := range p.model.params {
			s.NoGrad(func() { s.CopyInto(param.Tensor, tensor(r.Weights[param.Name[len("out."):]])) })
		}
		hidden := tensor(r.Hidden)
		s.RequireGrad(hidden, true)
		loss := l.Loss(s, hidden, torch.FromSlice(s, r.Target, int64(len(r.Target))), torch.CrossEntropyOptions{})
		s.Backward(loss.Mean)
		square := 0.0
		for _, v := range r.Losses {
			square += v * v / float64(len(r.Losses))
		}
		near("loss and mean square", []float64{loss.Nats, s.Item(loss.Mean), loss.MeanSquare}, []float64{r.Loss, r.Loss, square})
		near("losses", torch.ToSlice[float64](s, loss.PerToken), r.Losses)
		near("gradient of the hidden states", torch.ToSlice[float64](s, s.Grad(hidden)), r.Gradients["hidden"].Values)
		for _, param := range p.model.params {
			near("gradient of "+param.Name, torch.ToSlice[float64](s, s.Grad(param.Tensor)), r.Gradients[param.Name[len("out."):]].Values)
		}
		near("log-probabilities", torch.ToSlice[float64](s, s.Select(l.LogProbs(s, s.Detach(hidden)), 0, 0)), r.LogProb)
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}
