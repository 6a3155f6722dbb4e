package lm_test

import (
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// toy is a kind of model in one file: features that forget exponentially,
// h_t = decay h_t-1 + embedding(id_t).
type toy struct {
	lm.Weights
	config    lm.Config
	device    gotch.Device
	embedding *ts.Tensor // [V, D]
	output    lm.OutputLayer
}

const toyDecay = 0.5

func init() {
	lm.Register(spec.Kind{Name: "toy", About: "features that forget exponentially", Family: "toys", CarriesState: true}, newToy)
}

func newToy(c lm.Config, seed uint64, device gotch.Device) (lm.Model, error) {
	m := &toy{config: c, device: device}
	var err error
	m.Weights, err = lm.Build(seed, device, func(p lm.Builder) {
		m.embedding = p.In("embedding").Embedding("weight", lm.Normal(0.5), c.Vocab, c.Embed)
		head := p.In("head")
		m.output = lm.NewSoftmax(head.Output("weight", lm.Normal(0.1), c.Vocab, c.Embed), head.Vector("bias", lm.Constant(0), c.Vocab))
	})
	return m, err
}

func (m *toy) Config() lm.Config      { return m.config }
func (m *toy) Output() lm.OutputLayer { return m.output }
func (m *toy) CarriesState() bool     { return true }
func (m *toy) Context() int64         { return 0 }
func (m *toy) TimeMajor() bool        { return true }

func (m *toy) NewState(batch int64) (*lm.RecurrentState, error) {
	return lm.NewRecurrentState(batch, []int64{m.config.Embed}, 1, m.device)
}

func (m *toy) NewDecoder(texts int) (lm.Decoder, error) {
	return lm.NewStateDecoder(m, texts, m.device)
}

func (m *toy) Forward(s *torch.Scope, in lm.Input, state *lm.RecurrentState, _ lm.Mode) lm.Features {
	x, h := s.Embedding(m.embedding, in.IDs), state.Layer(0)[0]
	var all []*ts.Tensor
	for t := range torch.Shape(in.IDs)[0] {
		h = s.Add(s.Scale(h, toyDecay), s.Select(x, 0, t))
		all = append(all, h)
	}
	state.Set(s, 0, h)
	return lm.Features{States: s.Reshape(s.Stack(0, all...), -1, m.config.Embed)}
}

// A kind that one file adds can be trained, evaluated, restored and decoded, without
// a change elsewhere.
func TestKindInOneFile(t *testing.T) {
	shape := lm.Config{Kind: "toy", Vocab: 11, Layers: 1, Embed: 16, Hidden: 16}
	newRun := func() *lm.Trainer {
		trainer := newTrainer(t, lm.TrainConfig{Train: spec.Train{Steps: 60, Seed: 1}, Eval: spec.Eval{Every: 30}}, koalaspec.SGD)
		m, err := lm.New(shape, 1, gotch.CPU)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		if trainer.Optimizer, err = lm.NewOptimizer(koalaspec.SGD, nil, m); err != nil {
			t.Fatal(err)
		}
		trainer.Model = m
		return trainer
	}
	whole := newRun()
	j := runTrainer(t, whole)
	if first, last := j.steps[0].Nats, j.evaluations[len(j.evaluations)-1].Result.Nats; !(last < first-1) {
		t.Errorf("the loss was %.3f and is %.3f", first, last)
	}

	half := newRun()
	half.Config.Steps = 30
	saved := &snapshots{}
	half.Observers = []lm.Observer{saved}
	if err := half.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	rest := newRun()
	if err := rest.Restore(saved.last); err != nil {
		t.Fatal(err)
	}
	if resumed := runTrainer(t, rest); firstApart(float64s(resumed.weights), float64s(j.weights), 0) >= 0 {
		t.Error("resumed at step 30 it ends with other weights")
	}

	text := generate(t, whole.Model, lm.Generation{Tokens: 20}, lm.Text{Prompt: []int64{0, 7}})[0]
	for i, id := range text {
		if want := int64((i + 2) * 7 % 11); id != want { // the rule of counting
			t.Fatalf("token %d of %v is not %d", i, text, want)
		}
	}
}

func float64s(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}
