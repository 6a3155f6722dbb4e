package spec_test

import (
	"strings"
	"testing"

	"github.com/koala-lm/koala-lm/lm/spec"
)

func lstm() spec.Model {
	return spec.Model{Kind: spec.LSTM, Vocab: 100, Layers: 2, Embed: 8, Hidden: 16}
}

func gpt() spec.Model {
	return spec.Model{
		Kind: spec.Transformer, Vocab: 100, Layers: 2, Embed: 8, Hidden: 32, Heads: 2, KVHeads: 2, Context: 16,
		Norm: spec.LayerNorm, Position: spec.Learned, MLP: spec.GELU,
	}
}

// Check names every invalid value, and ignores the fields that a kind does not have.
func TestCheck(t *testing.T) {
	for _, test := range []struct {
		name   string
		model  func() spec.Model
		change func(m *spec.Model)
		want   []string // parts of the error; nil for no error
	}{
		{"lstm", lstm, func(m *spec.Model) {}, nil},
		{"lstm with a Transformer's nonsense", lstm, func(m *spec.Model) { m.Heads, m.Norm = -1, "batch" }, nil},
		{"gpt", gpt, func(m *spec.Model) {}, nil},
		{"no such kind", lstm, func(m *spec.Model) { m.Kind = "mamba" }, []string{`model.kind is "mamba": it must be one of lstm, gru, transformer`}},
		{"no vocabulary", lstm, func(m *spec.Model) { m.Vocab = 0 }, []string{"vocabulary has 0 entries"}},
		{"two at once", lstm, func(m *spec.Model) { m.Layers, m.Dropout.Input = 0, 1 }, []string{
			"model.layers is 0: it must be a whole number from 1 to 1000", "model.dropout.input is 1: it must be a number of at least 0 and less than 1"}},
		{"heads that do not divide", gpt, func(m *spec.Model) { m.Heads = 3 }, []string{"model.heads 3 must divide model.embed 8", "model.kv_heads 2 must divide model.heads 3"}},
		{"no heads", gpt, func(m *spec.Model) { m.Heads = 0 }, []string{"model.heads is 0"}},
		{"odd heads with rotary positions", gpt, func(m *spec.Model) { m.Position, m.Heads, m.KVHeads = spec.Rotary, 8, 8 }, []string{"heads of even width"}},
		{"tied adaptive softmax", lstm, func(m *spec.Model) { m.Softmax, m.Tied = spec.Adaptive, true }, []string{"model.tied must be false with model.softmax adaptive"}},
		{"cutoffs past the vocabulary", lstm, func(m *spec.Model) { m.Softmax, m.Cutoffs = spec.Adaptive, []int64{10, 100} }, []string{"model.cutoffs [10 100]"}},
		{"a vocabulary that the usual cutoffs do not fit", lstm, func(m *spec.Model) { m.Softmax, m.Vocab = spec.Adaptive, 2 }, []string{"model.cutoffs [1 3]"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := test.model()
			test.change(&m)
			err := m.Check()
			if test.want == nil && err != nil {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one that says %q", err, want)
				}
			}
		})
	}
}

// A registered kind has settings and defaults, even in a new family.
func TestRegister(t *testing.T) {
	spec.Register(spec.Kind{Name: "toy", Family: "toys", CarriesState: true})
	m := spec.Model{Kind: "toy"}
	list := m.Settings()
	get := spec.Lookup(list)
	if got := get(spec.FamilyKey); got != "toys" {
		t.Errorf("family %v", got)
	}
	for i := range list {
		s := &list[i]
		if s.Key == "model.kind" || !s.Applies(get) {
			continue
		}
		if v := s.Default.Value(get); !s.Set(v) {
			t.Errorf("the default of %s, %v, is not %s", s.Key, v, s.Domain)
		}
	}
	m.Vocab = 10 // the dataset's size
	if err := m.Check(); err != nil {
		t.Error(err)
	}
	if m.Layers != 2 || m.Heads != 0 || m.Context != 0 {
		t.Errorf("%+v: want the general defaults, and none of a Transformer", m)
	}
	var train spec.Train
	all := append(list, train.Settings()...)
	for i := range all {
		if s := &all[i]; s.Key == "train.bptt" && !s.Applies(spec.Lookup(all)) {
			t.Error("a model that carries state has no train.bptt")
		}
	}
}
