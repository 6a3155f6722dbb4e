package lm_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/safetensors"
	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// recording is a recorded training of a small model by PyTorch (testdata/README.md).
type recording struct {
	Vocab  int64     `json:"vocab"`
	Batch  int       `json:"batch"`
	Window int       `json:"window"`
	Steps  int       `json:"steps"`
	IDs    [][]int64 `json:"ids"`
	// Probe is, for each tensor, the flat index of the recorded entry of the
	// gradient.
	Probe map[string]int `json:"probe"`
	Runs  map[string]struct {
		Settings map[string]float64 `json:"settings"`
		Float32  struct {
			Loss      []float64           `json:"loss"`
			LossVar   []float64           `json:"loss_var"`
			GradNorm  []float64           `json:"grad_norm"`
			Gradients map[int]gradientsOf `json:"gradients"`
		} `json:"float32"`
	} `json:"runs"`
}

// gradientsOf holds a step's gradients: each tensor's norm and probed entry.
type gradientsOf map[string][2]float64

func readRecording(t *testing.T, name string) recording {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// loadWeights overwrites a model's parameters with the tensors of a safetensors
// file.
func loadWeights(t *testing.T, m lm.Model, path string) {
	t.Helper()
	file, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	err = torch.Do(func(s *torch.Scope) error {
		for _, p := range m.Params() {
			info, ok := file.Lookup(p.Name)
			if !ok {
				t.Fatalf("%s has no %s", path, p.Name)
			}
			values := make([]float32, torch.Count(p.Tensor))
			if err := file.Read(info.Name, unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), 4*len(values))); err != nil {
				return err
			}
			s.NoGrad(func() { s.CopyInto(p.Tensor, torch.FromSlice(s, values, info.Shape...)) })
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// windows serves a recording's batches.
type windows struct {
	recording recording
	timeMajor bool
	at        int
}

func (w *windows) Next() (data.Batch, error) {
	r := w.recording
	b := data.Batch{
		Inputs: make([]int64, r.Batch*r.Window), Targets: make([]int64, r.Batch*r.Window),
		B: r.Batch, GlobalBatch: r.Batch, T: r.Window, TimeMajor: w.timeMajor, ResetState: w.at == 0, Predictions: r.Batch * r.Window,
	}
	for row, ids := range r.IDs {
		for i := range r.Window {
			at := row*r.Window + i
			if w.timeMajor {
				at = i*r.Batch + row
			}
			b.Inputs[at], b.Targets[at] = ids[w.at*r.Window+i], ids[w.at*r.Window+i+1]
		}
	}
	w.at++
	return b, nil
}

func (w *windows) Cursor() data.Cursor    { return data.Cursor{Index: w.at} }
func (w *windows) Seek(data.Cursor) error { return nil }
func (w *windows) Steps() int             { return w.recording.Steps + 1 }

// watcher records the events of every step.
type watcher struct {
	lm.NoObserver
	steps []lm.Step
}

func (w *watcher) Stepped(s lm.Step) error { w.steps = append(w.steps, s); return nil }

// prober reads the gradients of each step before the optimizer changes them.
type prober struct {
	koala.Optimizer
	look func(step int)
	step int
}

func (p *prober) UpdateFrom(r koala.Reading) (koala.StepInfo, error) {
	p.look(p.step)
	p.step++
	return p.Optimizer.UpdateFrom(r)
}

// gradients returns the current gradients of the parameters.
func gradients(t *testing.T, m lm.Model, probe map[string]int) gradientsOf {
	t.Helper()
	all := gradientsOf{}
	err := torch.Do(func(s *torch.Scope) error {
		for _, p := range m.Params() {
			g := torch.ToSlice[float64](s, s.Grad(p.Tensor))
			if !s.OK() {
				break
			}
			square := 0.0
			for _, v := range g {
				square += v * v
			}
			all[p.Name] = [2]float64{math.Sqrt(square), g[probe[p.Name]]}
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// optimizerFor maps a recording's settings to an optimizer. AdamW decays
// matrices alone.
func optimizerFor(t *testing.T, kind *koalaspec.Kind, settings map[string]float64, m lm.Model) koala.Optimizer {
	t.Helper()
	values := setting.Values{"decay_norms": false}
	for key, v := range settings {
		if kind.Has(key) {
			values[key] = v
		}
	}
	optimizer, err := lm.NewOptimizer(kind, values, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = optimizer.Close() })
	return optimizer
}

// TestTrainingAgreesWithPyTorch: from PyTorch's weights and batches, the same
// losses and gradient norms for 100 steps, and at five of them the same gradient
// of each tensor. (PyTorch's own float32 is within 3e-6 of its float64 in the
// former, 8e-6 in the latter.)
func TestTrainingAgreesWithPyTorch(t *testing.T) {
	models := map[string]lm.Config{
		"lstm": {Kind: lm.LSTM, Vocab: 200, Layers: 2, Embed: 32, Hidden: 32, Tied: true},
		"gpt2": {
			Kind: lm.Transformer, Vocab: 200, Layers: 2, Embed: 32, Hidden: 128, Tied: true, Heads: 4, KVHeads: 4, Context: 16,
			Norm: lm.LayerNorm, Position: lm.Learned, MLP: lm.GELU,
		},
		"llama": {
			Kind: lm.Transformer, Vocab: 200, Layers: 2, Embed: 32, Hidden: 64, Tied: true, Heads: 4, KVHeads: 2, Context: 16,
			Norm: lm.RMSNorm, Position: lm.Rotary, MLP: lm.SwiGLU,
		},
	}
	for name, config := range models {
		r := readRecording(t, name)
		for _, kind := range []*koalaspec.Kind{koalaspec.SGD, koalaspec.AdamW, koalaspec.KoalaV} {
			want := r.Runs[kind.Name]
			t.Run(name+"/"+kind.Name, func(t *testing.T) {
				m, err := lm.New(config, 1, gotch.CPU)
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				loadWeights(t, m, filepath.Join("testdata", name+".safetensors"))
				seen := &watcher{}
				trainer := &lm.Trainer{
					Config: lm.TrainConfig{Train: spec.Train{Steps: int64(r.Steps)}, Schedule: spec.Schedule{Kind: "constant"}},
					Model:  m, Optimizer: &prober{Optimizer: optimizerFor(t, kind, want.Settings, m), look: func(step int) {
						if recorded, ok := want.Float32.Gradients[step]; ok {
							compareGradients(t, step, gradients(t, m, r.Probe), recorded)
						}
					}},
					Train: &windows{recording: r, timeMajor: m.TimeMajor()}, Device: gotch.CPU,
					Observers: []lm.Observer{seen},
				}
				if err := trainer.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				for i, step := range seen.steps {
					compare(t, i, "loss", step.Nats, want.Float32.Loss[i])
					compare(t, i, "gradient norm", step.Optimizer.GradNorm, want.Float32.GradNorm[i])
					if t.Failed() {
						break
					}
				}
			})
		}
	}
}

// compareGradients compares an entry with the tolerance of its tensor's norm, since
// the entry may be small compared with the others. Late gradients have drifted
// because PyTorch's clipping adds 1e-6 to the norm.
func compareGradients(t *testing.T, step int, got, want gradientsOf) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("step %d: %d tensors have a gradient, in PyTorch %d", step, len(got), len(want))
	}
	relative := 1e-5
	if step > 9 {
		relative = 3e-5
	}
	for name, w := range want {
		g := got[name]
		if tolerance := relative * w[0]; math.Abs(g[0]-w[0]) > tolerance || math.Abs(g[1]-w[1]) > tolerance {
			t.Errorf("step %d: gradient of %s: norm and probed entry %.9g, PyTorch has %.9g", step, name, g, w)
		}
	}
}

func compare(t *testing.T, step int, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-5*math.Abs(want) {
		t.Errorf("step %d: %s %.9g, PyTorch has %.9g", step, what, got, want)
	}
}
