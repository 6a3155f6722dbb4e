package huggingface

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/huggingface/config"
)

// measured holds the results that testdata/make.py recorded for a folder:
// transformers' mean loss of one text, and greedy continuations of prompts of six
// tokens.
type measured struct {
	Loss  float64   `json:"loss"`
	Texts [][]int64 `json:"texts"`
}

func recorded(t *testing.T) map[string]measured {
	t.Helper()
	content, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]measured{}
	if err := json.Unmarshal(content, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// measure computes the results of make.py with our model.
func measure(t *testing.T, m lm.Model, prompts [][]int64) measured {
	t.Helper()
	const vocab, length, prompt = 29, 30, 6
	ids := make([]uint32, length)
	for i := range ids {
		ids[i] = uint32((7*i*i + 3*i) % vocab)
	}
	text := data.NewTokens(ids)
	batches, err := lm.Reading{Batch: 1}.Batches(m, text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := lm.EvaluateText(context.Background(), m, batches, gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	got := measured{Loss: r.Nats}
	for _, text := range prompts {
		d, err := m.NewDecoder(1)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		made := slices.Clone(text[:prompt])
		g := lm.Generation{Tokens: len(text) - prompt}
		err = lm.Generate(context.Background(), d, g, []lm.Text{{Prompt: text[:prompt]}}, func(_ int, token lm.Drawn) error {
			made = append(made, token.ID)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		got.Texts = append(got.Texts, made)
	}
	return got
}

func mustOpen(t *testing.T, folder string) lm.Model {
	t.Helper()
	m, _, err := Open(folder, gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// Every family has the losses and the texts of transformers: opened from the files
// of versions 4 and 5, as the start of training, and exported and opened again.
func TestFamiliesComputeAsTransformersDoes(t *testing.T) {
	for name, want := range recorded(t) {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join("testdata", name)
			check := func(what string, m lm.Model) {
				t.Helper()
				got := measure(t, m, want.Texts)
				if !(math.Abs(got.Loss-want.Loss) <= 1e-5) {
					t.Errorf("%s: the loss is %.6f, transformers has %.6f", what, got.Loss, want.Loss)
				}
				for i := range want.Texts {
					if !slices.Equal(got.Texts[i], want.Texts[i]) {
						t.Errorf("%s: text %d is\n%v, transformers has\n%v", what, i, got.Texts[i], want.Texts[i])
					}
				}
			}
			m := mustOpen(t, folder)
			check("opened", m)

			exported := filepath.Join(t.TempDir(), "exported")
			if err := Export(exported, m, words(t), false); err != nil {
				t.Fatal(err)
			}
			check("exported and opened", mustOpen(t, exported))

			fresh := newModel(t, m.Config())
			if err := Init(folder, fresh); err != nil {
				t.Fatal(err)
			}
			check("the start of training", fresh)

			if content, err := os.ReadFile(filepath.Join(folder, "config-4.json")); err == nil {
				old, err := config.Parse(content)
				if err != nil {
					t.Fatal(err)
				}
				if differs := config.Differences(m.Config(), old.Shape); len(differs) > 0 {
					t.Errorf("in the words of transformers 4 the model is another: %q", differs)
				}
			}
		})
	}
}

// Training in bfloat16 takes every family, of folders in bfloat16 and in float32: loss and
// gradients are near those of float32.
func TestFamiliesTrainInBFloat16(t *testing.T) {
	for name := range recorded(t) {
		t.Run(name, func(t *testing.T) {
			m := mustOpen(t, filepath.Join("testdata", name))
			ids := make([]int64, 2*15)
			for i := range ids {
				ids[i] = int64((7*i*i + 3*i) % 29)
			}
			var losses [2]float64
			var gradients [2][]float64
			err := torch.Do(func(s *torch.Scope) error {
				for i := range losses {
					forward := func() {
						states := m.Forward(s, lm.Input{IDs: torch.FromSlice(s, ids, 2, 15)}, nil, lm.Training).States
						loss := m.Output().Loss(s, states, torch.FromSlice(s, append(ids[1:len(ids):len(ids)], 0), 30), torch.CrossEntropyOptions{})
						losses[i] = loss.Nats
						s.Backward(loss.Mean)
					}
					if i == 0 {
						forward()
					} else {
						s.BFloat16(gotch.CPU, forward)
					}
					for _, p := range m.Params() {
						gradients[i] = append(gradients[i], torch.ToSlice[float64](s, s.Grad(p.Tensor))...)
						s.ClearGrad(p.Tensor)
					}
				}
				return s.Err()
			})
			if err != nil {
				t.Fatal(err)
			}
			apart, length := 0.0, 0.0
			for i, g := range gradients[0] {
				apart, length = apart+(g-gradients[1][i])*(g-gradients[1][i]), length+g*g
			}
			if distance := math.Sqrt(apart / length); !(math.Abs(losses[0]-losses[1]) < 0.05*losses[0]) || !(distance < 0.25) {
				t.Errorf("loss %.4f, in float32 %.4f; the gradients are apart by %.3f of their length", losses[1], losses[0], distance)
			}
		})
	}
}

// A folder's weights are refused for a model of another shape.
func TestInitRefusesAnotherShape(t *testing.T) {
	folder := "testdata/mistral"
	shape := mustOpen(t, folder).Config()
	for want, change := range map[string]func(*lm.Config){
		"model.window is 6":         func(c *lm.Config) { c.Architecture.Window = 6 },
		"model.rotary.base is 100":  func(c *lm.Config) { c.Architecture.Rotary.Base = 100 },
		"model.norm_eps is 1e-05":   func(c *lm.Config) { c.Architecture.NormEps = 1e-5 },
		"model.mlp is \"gelu\"":     func(c *lm.Config) { c.MLP = lm.GELU },
		"model.context is 64":       func(c *lm.Config) { c.Context = 64 },
		"vocabulary has 31 entries": func(c *lm.Config) { c.Vocab = 31 },
	} {
		c := shape
		change(&c)
		if err := Init(folder, newModel(t, c)); err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(want, `"`, "")) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	short := shape
	short.Context = 20 // no weight depends on it
	if err := Init(folder, newModel(t, short)); err != nil {
		t.Error(err)
	}
}
