package lm_test

import (
	"fmt"
	"math"
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
		m.Forward(s, lm.Input{IDs: torch.FromSlice(s, make([]int64, 11), 1, 11)}, nil, lm.Evaluate)
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
				got = torch.ToSlice[float64](s, s.Select(m.Forward(s, lm.Input{IDs: ids}, state, lm.Evaluate).States, 0, 3))
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

// A batch whose texts hold several documents has the loss and the gradients of its
// documents by themselves, in every form of Transformer.
func TestDocumentsAreReadByThemselves(t *testing.T) {
	const texts, length = 3, 10
	starts := [texts][]int{{0, 4, 9}, {0}, {0, 1, 2, 8}}
	for name, config := range shapes {
		if config.Kind != lm.Transformer {
			continue
		}
		for _, scale := range []int{1, 30, 100} { // 300 tokens are too many for our own kernel
			t.Run(fmt.Sprint(name, " ", length*scale), func(t *testing.T) {
				config := without(config)
				config.Context = int64(length * scale)
				m := newModel(t, config)
				n := texts * length * scale
				ids, targets, first := make([]int64, n), make([]int64, n), make([]int64, n)
				for i := range ids {
					ids[i], targets[i] = int64(i*i+3*i)%config.Vocab, int64(i*7+i/5)%config.Vocab
				}
				var ends []int // of the documents
				for text := range texts {
					for i, at := range starts[text] {
						end := length
						if i+1 < len(starts[text]) {
							end = starts[text][i+1]
						}
						for j := at * scale; j < end*scale; j++ {
							first[text*length*scale+j] = int64(at * scale)
						}
						ends = append(ends, (text*length+end)*scale)
					}
				}
				// sum returns the sum of the losses of all tokens, and its gradients.
				type read func(ids, targets, first []int64, texts int64)
				sum := func(batches func(read)) (nats float64, gradients [][]float64) {
					err := torch.Do(func(s *torch.Scope) error {
						batches(func(ids, targets, first []int64, texts int64) {
							length := int64(len(ids)) / texts
							in := lm.Input{IDs: torch.FromSlice(s, ids, texts, length)}
							if first != nil {
								in.First = torch.FromSlice(s, first, texts, length)
							}
							states := m.Forward(s, in, nil, lm.Training).States
							loss := m.Output().Loss(s, states, torch.FromSlice(s, targets, int64(len(ids))), torch.CrossEntropyOptions{})
							nats += loss.Nats * float64(len(ids))
							s.Backward(s.Scale(loss.Mean, float64(len(ids))/float64(n)))
						})
						for _, p := range m.Params() {
							gradients = append(gradients, torch.ToSlice[float64](s, s.Grad(p.Tensor)))
							s.ClearGrad(p.Tensor)
						}
						return s.Err()
					})
					if err != nil {
						t.Fatal(err)
					}
					return nats / float64(n), gradients
				}
				together, got := sum(func(f read) { f(ids, targets, first, texts) })
				unmasked, _ := sum(func(f read) { f(ids, targets, nil, texts) })
				alone, want := sum(func(f read) {
					from := 0
					for _, end := range ends {
						f(ids[from:end], targets[from:end], nil, 1)
						from = end
					}
				})
				if math.Abs(together-alone) > 1e-5 || math.Abs(unmasked-alone) < 1e-3 {
					t.Errorf("loss %.7f, of the documents by themselves %.7f, without the mask %.7f", together, alone, unmasked)
				}
				for i, p := range m.Params() {
					if at := firstApart(got[i], want[i], 1e-5); at >= 0 {
						t.Errorf("%s: gradient %d is %g, of the documents by themselves %g", p.Name, at, got[i][at], want[i][at])
					}
				}
			})
		}
	}
}
