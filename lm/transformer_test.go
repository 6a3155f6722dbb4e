package lm_test

import (
	"strings"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
)

func TestImpossibleTransformersAreErrors(t *testing.T) {
	good := shapes["llama"]
	for want, change := range map[string]func(c *lm.Config){
		"model.heads 3 must divide model.embed 16":   func(c *lm.Config) { c.Heads, c.KVHeads = 3, 3 },
		"model.kv_heads 3 must divide model.heads 4": func(c *lm.Config) { c.KVHeads = 3 },
		"heads of even width":                        func(c *lm.Config) { c.Heads, c.KVHeads = 16, 16 },
		"model.heads is 0":                           func(c *lm.Config) { c.Heads = 0 },
		"model.context is 0":                         func(c *lm.Config) { c.Context = 0 },
		`model.norm is "batch"`:                      func(c *lm.Config) { c.Norm = "batch" },
	} {
		c := good
		change(&c)
		m, err := lm.New(c, 1, gotch.CPU)
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that says %q", err, want)
		}
	}
}

func TestTooLongForTheContext(t *testing.T) {
	m := newModel(t, shapes["gpt2"])
	err := torch.Do(func(s *torch.Scope) error {
		m.Forward(s, torch.FromSlice(s, make([]int64, 11), 1, 11), nil, lm.Evaluate)
		return s.Err()
	})
	if want := "11 tokens do not fit a context of 10"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

// TestTheFutureIsNotSeen: a later token does not change an earlier state.
func TestTheFutureIsNotSeen(t *testing.T) {
	for name, config := range shapes {
		m := newModel(t, config)
		err := torch.Do(func(s *torch.Scope) error {
			want := torch.ToSlice[float64](s, forward(s, t, m, [][]int64{{1, 2, 3, 4}}))
			var got []float64
			s.NoGrad(func() {
				ids := torch.FromSlice(s, []int64{1, 2, 3, 4, 9}, 1, 5)
				if m.TimeMajor() {
					ids = torch.FromSlice(s, []int64{1, 2, 3, 4, 9}, 5, 1)
				}
				state, err := m.NewState(1)
				if err != nil {
					t.Fatal(err)
				}
				defer state.Close()
				got = torch.ToSlice[float64](s, s.Select(m.Forward(s, ids, state, lm.Evaluate).States, 0, 3))
			})
			if i := firstApart(got, want, 1e-5); i >= 0 {
				t.Errorf("%s: state %d is %g, want %g", name, i, got[i], want[i])
			}
			return s.Err()
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func TestDropoutIsOffInEvaluation(t *testing.T) {
	for name, config := range shapes {
		m := newModel(t, config)
		config.Dropout = lm.Dropout{}
		plain := newModel(t, config)
		err := torch.Do(func(s *torch.Scope) error {
			text := [][]int64{{5, 1, 0, 3}}
			if i := firstApart(predict(s, t, m, text), predict(s, t, plain, text), 0); i >= 0 {
				t.Errorf("%s: evaluation with dropout set differs from that without", name)
			}
			return s.Err()
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}
