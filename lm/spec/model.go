package spec

import (
	"errors"
	"fmt"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// Values of a Model's fields.
const (
	LayerNorm = "layer"
	RMSNorm   = "rms"
	Learned   = "learned"
	Rotary    = "rotary"
	GELU      = "gelu"
	SwiGLU    = "swiglu"

	Full     = "full"
	Adaptive = "adaptive"
)

// Model is a network's shape. Fields that its kind does not have are ignored.
type Model struct {
	Kind    string // the name of a Kind
	Vocab   int64  // size of the vocabulary; as a setting, 0: the dataset's
	Layers  int    // layers, or a Transformer's blocks
	Embed   int64  // width of the token embedding, and of a Transformer's residual stream
	Hidden  int64  // units of a recurrent layer; width of a Transformer's MLP
	Tied    bool   // the output layer shares the embedding's weights
	Softmax string // Full or Adaptive; empty: Full
	Cutoffs []int64
	Dropout Dropout

	// Fields of a Transformer.
	Heads, KVHeads int   // attention heads; heads of keys and values, fewer in grouped-query attention
	Context        int64 // largest number of tokens that it sees
	Norm           string
	Position       string
	MLP            string // one of MLPs
	Architecture   Architecture
}

// Dropout holds the probabilities, each in [0, 1), with which training zeroes
// elements.
type Dropout struct {
	Input  float64 // elements of the embedded input
	Embed  float64 // rows of the embedding
	Hidden float64 // between recurrent layers; attention weights and residual branches
	Output float64 // elements of the last recurrent layer's output
	Weight float64 // recurrent weights
	Locked bool    // one mask for all time steps (Gal & Ghahramani 2016), else one for each time step
}

// Settings declares the settings of m, bound to its fields.
func (m *Model) Settings() []setting.Setting {
	return append(m.shape(), m.Architecture.settings()...)
}

func (m *Model) shape() []setting.Setting {
	return []setting.Setting{
		setting.Bind(&m.Kind, setting.Declaration{
			Key: "model.kind", Meaning: "kind of network", Domain: setting.OneOf(KindNames()), Default: setting.Value(LSTM),
		}),
		setting.Bind(&m.Vocab, setting.Declaration{
			Key: "model.vocab", Meaning: "entries of the vocabulary; 0 is the dataset's, more adds entries that no token has",
			Domain: setting.AtLeast(0), Default: setting.Value(0),
		}),
		setting.Bind(&m.Layers, setting.Declaration{
			Key: "model.layers", Meaning: "layers, or a Transformer's blocks",
			Domain: setting.Int{Min: 1, Max: 1000}, Default: setting.Value(2).When(transformerFamily, 4),
		}),
		setting.Bind(&m.Embed, setting.Declaration{
			Key: "model.embed", Meaning: "width of the embedding, and of a Transformer's residual stream",
			Domain: setting.AtLeast(1), Default: setting.Value(200).When(transformerFamily, 128),
		}),
		setting.Bind(&m.MLP, setting.Declaration{
			Key: "model.mlp", Meaning: "non-linearity of a Transformer's MLP",
			Domain: setting.OneOf(MLPs()), Default: setting.Value(GELU), Only: transformers(),
		}),
		// SwiGLU has three matrices instead of two: two thirds of the width give the
		// same number of parameters.
		setting.Bind(&m.Hidden, setting.Declaration{
			Key: "model.hidden", Meaning: "units of a recurrent layer (when tied, the last has model.embed), or width of a Transformer's MLP",
			Domain: setting.AtLeast(1),
			Default: setting.SameAs("model.embed").When(transformerFamily,
				setting.Times(4, 1, "model.embed", 1).When(setting.Is("model.mlp", SwiGLU), setting.Times(8, 3, "model.embed", 32))),
			Idle: []setting.Idle{{
				When:   append(recurrent(), setting.Is("model.layers", 1), setting.Is("model.tied", true)),
				Reason: "the only layer has model.embed units, as the output layer shares the embedding's weights",
				Means:  setting.Amounts(setting.SameAs("model.embed")),
			}},
		}),
		setting.Bind(&m.Heads, setting.Declaration{
			Key: "model.heads", Meaning: "attention heads; divides model.embed",
			Domain: setting.AtLeast(1), Default: setting.Value(4), Only: transformers(),
		}),
		setting.Bind(&m.KVHeads, setting.Declaration{
			Key: "model.kv_heads", Meaning: "heads of keys and values (grouped-query attention); divides model.heads",
			Domain: setting.AtLeast(1), Default: setting.SameAs("model.heads"), Only: transformers(),
		}),
		setting.Bind(&m.Context, setting.Declaration{
			Key: "model.context", Meaning: "tokens that the model sees, and the length of its training sequences",
			Domain: setting.AtLeast(1), Default: setting.Value(64), Only: windowed(),
		}),
		setting.Bind(&m.Norm, setting.Declaration{
			Key: "model.norm", Meaning: "normalisation before each branch; layer brings biases with it",
			Domain: setting.OneOf{LayerNorm, RMSNorm}, Default: setting.Value(LayerNorm), Only: transformers(),
		}),
		setting.Bind(&m.Position, setting.Declaration{
			Key: "model.position", Meaning: "how positions are encoded",
			Domain: setting.OneOf{Learned, Rotary}, Default: setting.Value(Learned), Only: transformers(),
		}),
		setting.Bind(&m.Softmax, setting.Declaration{
			Key: "model.softmax", Meaning: "output layer; adaptive (Grave et al. 2017) is for large vocabularies",
			Domain: setting.OneOf{Full, Adaptive}, Default: setting.Value(Full),
		}),
		setting.Bind(&m.Tied, setting.Declaration{
			Key: "model.tied", Meaning: "share the weights of embedding and output layer",
			Domain: setting.Bool{}, Default: setting.Value(true).When(setting.Is("model.softmax", Adaptive), false),
		}),
		setting.Bind(&m.Cutoffs, setting.Declaration{
			Key: "model.cutoffs", Meaning: "first token of each tail cluster of the adaptive softmax; [] chooses by the vocabulary",
			Domain: setting.Ascending{}, Default: setting.Value([]int64{}), Only: []setting.Condition{setting.Is("model.softmax", Adaptive)},
		}),
		setting.Bind(&m.Dropout.Input, setting.Declaration{
			Key: "model.dropout.input", Meaning: "share of the embedded input's elements that is zeroed",
			Domain: setting.Below1, Default: setting.Value(0.2).When(transformerFamily, 0),
		}),
		setting.Bind(&m.Dropout.Embed, setting.Declaration{
			Key: "model.dropout.embed", Meaning: "share of the embedding's rows that is zeroed",
			Domain: setting.Below1, Default: setting.Value(0), Only: recurrent(),
		}),
		setting.Bind(&m.Dropout.Hidden, setting.Declaration{
			Key: "model.dropout.hidden", Meaning: "share of elements that is zeroed between recurrent layers, or in attention and on residual branches",
			Domain: setting.Below1, Default: setting.Value(0.2).When(transformerFamily, 0),
			Idle: []setting.Idle{{
				When:   append(recurrent(), setting.Is("model.layers", 1)),
				Reason: "there is nothing between the layers of a model with one (model.dropout.output follows it)",
				Means:  setting.Amounts(setting.Value(0)),
			}},
		}),
		setting.Bind(&m.Dropout.Output, setting.Declaration{
			Key: "model.dropout.output", Meaning: "share of elements that is zeroed after the last recurrent layer",
			Domain: setting.Below1, Default: setting.Value(0.2), Only: recurrent(),
		}),
		setting.Bind(&m.Dropout.Weight, setting.Declaration{
			Key: "model.dropout.weight", Meaning: "share of the recurrent weights that is zeroed (weight drop)",
			Domain: setting.Below1, Default: setting.Value(0), Only: recurrent(),
		}),
		setting.Bind(&m.Dropout.Locked, setting.Declaration{
			Key: "model.dropout.locked", Meaning: "one mask for all time steps, as AWD-LSTM; else elementwise, as word_language_model",
			Domain: setting.Bool{}, Default: setting.Value(false), Only: recurrent(),
			Idle: []setting.Idle{{
				When:   []setting.Condition{setting.Is("model.dropout.input", 0), setting.Is("model.dropout.hidden", 0), setting.Is("model.dropout.output", 0)},
				Reason: "no elements are dropped",
				Means:  setting.Amounts(setting.Value(false)),
			}},
		}),
	}
}

// family returns the family of a kind.
func family(kind any) any {
	name, _ := kind.(string)
	k, err := LookupKind(name)
	if err != nil {
		return nil
	}
	return string(k.Family)
}

// Lookup looks up values of settings in list, and the family of the model by
// FamilyKey.
func Lookup(list []setting.Setting) setting.Lookup {
	get := func(key string) any {
		for i := range list {
			if s := &list[i]; s.Key == key {
				return s.Get()
			}
		}
		return nil
	}
	return func(key string) any {
		if key == FamilyKey {
			return family(get("model.kind"))
		}
		return get(key)
	}
}

// KindOf returns the model's kind; the zero Kind if it is not known.
func (m Model) KindOf() Kind {
	k, _ := LookupKind(m.Kind)
	return k
}

// Check returns an error that names every invalid value.
func (m Model) Check() error {
	if _, err := LookupKind(m.Kind); err != nil {
		return err
	}
	if m.Vocab < 1 {
		return fmt.Errorf("model: the vocabulary has %d entries: it must have at least 1", m.Vocab)
	}
	for _, d := range []struct {
		word     *string
		fallback string
	}{{&m.Softmax, Full}, {&m.Architecture.Biases, AutoBiases}, {&m.Architecture.Rotary.Scaling, NoScaling}} {
		if *d.word == "" {
			*d.word = d.fallback
		}
	}
	list := m.Settings()
	problems := setting.Check(list, Lookup(list))
	if len(problems) == 0 {
		problems = m.Problems()
	}
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}

// Problems returns the errors of values that are each in range but do not fit
// together.
func (m *Model) Problems() []setting.Problem {
	var problems []setting.Problem
	if m.Softmax == Adaptive && m.Tied {
		problems = append(problems, setting.Problem{
			Keys: []string{"model.tied", "model.softmax"},
			Text: "model.tied must be false with model.softmax adaptive, which has weights of its own",
		})
	}
	if cuts := m.Tails(); m.Softmax == Adaptive && m.Vocab > 0 && cuts[len(cuts)-1] >= m.Vocab {
		problems = append(problems, setting.Problem{
			Keys: []string{"model.cutoffs"},
			Text: fmt.Sprintf("model.cutoffs %v: expected ascending tokens below the vocabulary of %d", cuts, m.Vocab),
		})
	}
	if kind := m.KindOf(); kind.Check != nil {
		problems = append(problems, kind.Check(m)...)
	}
	return problems
}

// Tails returns the first token of each tail of an adaptive softmax: Cutoffs, or the
// choice of PyTorch's manual, one fifteenth and three fifteenths of the vocabulary.
func (m *Model) Tails() []int64 {
	if len(m.Cutoffs) > 0 {
		return m.Cutoffs
	}
	part := max(1, m.Vocab/15)
	return []int64{part, 3 * part}
}
