package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// Architecture holds the differences between published Transformers beyond size,
// norm, position and MLP. The zero value fits GPT-2 and the first LLaMA.
type Architecture struct {
	HeadWidth int64   // width of an attention head; 0 is embed / heads
	NormEps   float64 // added to a variance or mean square before its root; 0 is 1e-5
	Biases    string  // linear layers with a bias, one of Biases; empty: AutoBiases
	QKNorm    bool    // RMSNorm of each query and key, over its head (Henry et al. 2020)
	Parallel  bool    // both branches of a block read its input (Wang & Komatsuzaki 2021); else the MLP follows attention

	Window       int64   // number of tokens that a token sees, itself included; 0: all
	WindowLayers []int64 // the layers with the window, from 1; empty: all

	Rotary Rotations
}

// Rotations configures how rotary positions turn queries and keys. The frequencies
// are base^(-2i/width), changed for longer contexts by Scaling.
type Rotations struct {
	Base  float64 // 0 is 10,000
	Share float64 // part of each head's width that turns; 0: all of it
	Skip  []int64 // layers without positions, from 1

	Scaling  string  // one of Scalings; empty is NoScaling
	Factor   float64 // ratio of the context to Original; 0 is 1
	Original int64   // context before it grew; 0 is the model's context
	Low      float64 // llama3: frequencies with fewer waves in the original context are slowed by Factor; 0 is 1
	High     float64 // llama3: frequencies with more waves are kept; 0 is 4
	Fast     float64 // yarn: frequencies with more waves in the original context are kept; 0 is 32
	Slow     float64 // yarn: frequencies with fewer waves are slowed by Factor; 0 is 1
	Exact    bool    // yarn: the bounds are not rounded to whole dimensions
	Gain     float64 // yarn: factor on queries and keys; 0 is 0.1 ln(Factor) + 1
}

// Values of Rotations.Scaling.
const (
	NoScaling     = "none"
	LinearScaling = "linear" // all frequencies times 1/Factor (Chen et al. 2023)
	Llama3Scaling = "llama3" // low frequencies alone (Llama 3.1, Dubey et al. 2024)
	YarnScaling   = "yarn"   // low frequencies alone (Peng et al. 2023)
)

// Scalings are the values of Rotations.Scaling.
var Scalings = []string{NoScaling, LinearScaling, Llama3Scaling, YarnScaling}

// Linear layers with a bias.
const (
	AutoBiases      = "auto" // all with layer norm, none with RMSNorm
	NoBiases        = "none"
	QKVBiases       = "qkv"       // queries, keys and values
	AttentionBiases = "attention" // queries, keys, values and the output of attention
	MLPBiases       = "mlp"
	AllBiases       = "all"
)

// Biases are the values of Architecture.Biases.
var Biases = []string{AutoBiases, NoBiases, QKVBiases, AttentionBiases, MLPBiases, AllBiases}

// Activations are the non-linearities of an MLP.
var Activations = []string{
	GELU, "gelu-exact", "quick-gelu", "gelu-10", "relu", "relu-squared", "relu6", "leaky-relu", "silu", "hard-swish", "mish",
	"tanh", "sigmoid", "laplace", "sqrt-softplus", "linear",
}

// gated before an activation makes an MLP with a gate, down(activation(gate x) * up
// x). gated-silu is called SwiGLU.
const gated = "gated-"

// MLPs are the values of Model.MLP: activations, without and with a gate.
func MLPs() []string {
	all := append(slices.Clone(Activations), SwiGLU)
	for _, a := range Activations {
		if a != "silu" {
			all = append(all, gated+a)
		}
	}
	return all
}

// SplitMLP returns an MLP's activation and whether it has a gate.
func SplitMLP(mlp string) (activation string, hasGate bool) {
	if mlp == SwiGLU {
		return "silu", true
	}
	return strings.CutPrefix(mlp, gated)
}

// JoinMLP is the inverse of SplitMLP.
func JoinMLP(activation string, hasGate bool) string {
	switch {
	case !hasGate:
		return activation
	case activation == "silu":
		return SwiGLU
	}
	return gated + activation
}

// settings declares the settings of a, bound to its fields.
func (a *Architecture) settings() []setting.Setting {
	rotary := append(transformers(), setting.Is("model.position", Rotary))
	with := func(scalings ...any) []setting.Condition {
		return append(slices.Clone(rotary), setting.Is("model.rotary.scaling", scalings...))
	}
	r := &a.Rotary
	return []setting.Setting{
		setting.Bind(&a.HeadWidth, setting.Declaration{
			Key: "model.head_width", Meaning: "width of an attention head; 0 is model.embed / model.heads",
			Domain: setting.AtLeast(0), Default: setting.Value(0), Only: transformers(),
		}),
		setting.Bind(&a.NormEps, setting.Declaration{
			Key: "model.norm_eps", Meaning: "number added to a variance before its root; 0 is 1e-5",
			Domain: setting.Natural, Default: setting.Value(0), Only: transformers(),
		}),
		setting.Bind(&a.Biases, setting.Declaration{
			Key: "model.biases", Meaning: "linear layers with a bias; auto is all with model.norm layer, none with rms",
			Domain: setting.OneOf(Biases), Default: setting.Value(AutoBiases), Only: transformers(),
		}),
		setting.Bind(&a.QKNorm, setting.Declaration{
			Key: "model.qk_norm", Meaning: "RMSNorm of each query and key (Henry et al. 2020)",
			Domain: setting.Bool{}, Default: setting.Value(false), Only: transformers(),
		}),
		setting.Bind(&a.Parallel, setting.Declaration{
			Key: "model.parallel", Meaning: "attention and MLP of a block read the same input (Wang & Komatsuzaki 2021)",
			Domain: setting.Bool{}, Default: setting.Value(false), Only: transformers(),
		}),
		setting.Bind(&a.Window, setting.Declaration{
			Key: "model.window", Meaning: "tokens that a token sees back, itself included; 0 is all of the context",
			Domain: setting.AtLeast(0), Default: setting.Value(0), Only: transformers(),
		}),
		setting.Bind(&a.WindowLayers, setting.Declaration{
			Key: "model.window_layers", Meaning: "layers with the window, from 1; [] is all",
			Domain: setting.Ascending{}, Default: setting.Value([]int64{}), Only: append(transformers(), setting.IsNot("model.window", 0)),
		}),
		setting.Bind(&r.Base, setting.Declaration{
			Key: "model.rotary.base", Meaning: "base of the frequencies of rotary positions; 0 is 10000",
			Domain: setting.Natural, Default: setting.Value(0), Only: rotary,
		}),
		setting.Bind(&r.Share, setting.Declaration{
			Key: "model.rotary.share", Meaning: "share of each head that turns; 0 is all of it",
			Domain: setting.Fraction, Default: setting.Value(0), Only: rotary,
		}),
		setting.Bind(&r.Skip, setting.Declaration{
			Key: "model.rotary.skip", Meaning: "layers without positions, from 1",
			Domain: setting.Ascending{}, Default: setting.Value([]int64{}), Only: rotary,
		}),
		setting.Bind(&r.Scaling, setting.Declaration{
			Key: "model.rotary.scaling", Meaning: "how frequencies are changed for a longer context (linear, Chen et al. 2023; llama3, Dubey et al. 2024; yarn, Peng et al. 2023)",
			Domain: setting.OneOf(Scalings), Default: setting.Value(NoScaling), Only: rotary,
			Idle: []setting.Idle{{
				When:   []setting.Condition{setting.IsNot("model.rotary.scaling", NoScaling), setting.Is("model.rotary.factor", 0, 1)},
				Reason: "set the factor by which the context has grown",
			}},
		}),
		setting.Bind(&r.Factor, setting.Declaration{
			Key: "model.rotary.factor", Meaning: "factor by which the context has grown; 0 is 1",
			Domain: setting.Natural, Default: setting.Value(0), Only: with(LinearScaling, Llama3Scaling, YarnScaling),
		}),
		setting.Bind(&r.Original, setting.Declaration{
			Key: "model.rotary.original", Meaning: "context before it grew; 0 is model.context",
			Domain: setting.AtLeast(0), Default: setting.Value(0), Only: with(Llama3Scaling, YarnScaling),
		}),
		setting.Bind(&r.Low, setting.Declaration{
			Key: "model.rotary.low", Meaning: "waves in the original context below which a frequency is slowed by the factor; 0 is 1",
			Domain: setting.Natural, Default: setting.Value(0), Only: with(Llama3Scaling),
		}),
		setting.Bind(&r.High, setting.Declaration{
			Key: "model.rotary.high", Meaning: "waves in the original context above which a frequency is kept; 0 is 4",
			Domain: setting.Natural, Default: setting.Value(0), Only: with(Llama3Scaling),
		}),
		setting.Bind(&r.Fast, setting.Declaration{
			Key: "model.rotary.fast", Meaning: "waves in the original context above which a frequency is kept; 0 is 32",
			Domain: setting.Natural, Default: setting.Value(0), Only: with(YarnScaling),
		}),
		setting.Bind(&r.Slow, setting.Declaration{
			Key: "model.rotary.slow", Meaning: "waves in the original context below which a frequency is slowed by the factor; 0 is 1",
			Domain: setting.Natural, Default: setting.Value(0), Only: with(YarnScaling),
		}),
		setting.Bind(&r.Exact, setting.Declaration{
			Key: "model.rotary.exact", Meaning: "the bounds of fast and slow are not rounded to whole dimensions",
			Domain: setting.Bool{}, Default: setting.Value(false), Only: with(YarnScaling),
		}),
		setting.Bind(&r.Gain, setting.Declaration{
			Key: "model.rotary.gain", Meaning: "factor on turned queries and keys; 0 is 0.1 ln(factor) + 1",
			Domain: setting.Natural, Default: setting.Value(0), Only: with(YarnScaling),
		}),
	}
}

// Resolved returns a copy of a in which values replace the defaults that depend on
// the rest of the model.
func (a Architecture) Resolved(m *Model) Architecture {
	if a.HeadWidth == 0 && m.Heads > 0 {
		a.HeadWidth = m.Embed / int64(m.Heads)
	}
	if a.Biases == "" || a.Biases == AutoBiases {
		a.Biases = NoBiases
		if m.Norm == LayerNorm {
			a.Biases = AllBiases
		}
	}
	r := &a.Rotary
	if r.Scaling == "" {
		r.Scaling = NoScaling
	}
	if r.Original == 0 {
		r.Original = m.Context
	}
	for _, d := range []struct {
		value    *float64
		fallback float64
	}{
		{&a.NormEps, 1e-5}, {&r.Base, 10000}, {&r.Share, 1}, {&r.Factor, 1}, {&r.Low, 1}, {&r.High, 4}, {&r.Fast, 32}, {&r.Slow, 1},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	return a
}

// RotaryWidth returns the number of elements of a head that turn. The Architecture
// must be resolved.
func (a Architecture) RotaryWidth() int64 { return int64(float64(a.HeadWidth) * a.Rotary.Share) }

// GPT2 reports whether a Transformer has GPT-2's form. Its parameters then have the
// names and layouts of GPT2LMHeadModel, otherwise of LlamaForCausalLM.
func (m Model) GPT2() bool {
	a := m.Architecture.Resolved(&m)
	_, hasGate := SplitMLP(m.MLP)
	return m.Norm == LayerNorm && m.Position == Learned && !hasGate && m.KVHeads == m.Heads && a.HeadWidth*int64(m.Heads) == m.Embed &&
		a.Biases == AllBiases && !a.QKNorm && !a.Parallel && a.Window == 0
}

func checkTransformer(m *Model) []setting.Problem {
	var problems []setting.Problem
	check := func(bad bool, text string, keys ...string) {
		if bad {
			problems = append(problems, setting.Problem{Keys: keys, Text: text})
		}
	}
	embed, heads := m.Embed, int64(m.Heads)
	a := m.Architecture.Resolved(m)
	r, width := a.Rotary, a.RotaryWidth()
	check(m.Architecture.HeadWidth == 0 && embed%heads != 0, fmt.Sprintf("model.heads %d must divide model.embed %d", heads, embed), "model.embed", "model.heads")
	check(m.Heads%m.KVHeads != 0, fmt.Sprintf("model.kv_heads %d must divide model.heads %d", m.KVHeads, heads), "model.heads", "model.kv_heads")
	for key, layers := range map[string][]int64{"model.window_layers": a.WindowLayers, "model.rotary.skip": r.Skip} {
		check(len(layers) > 0 && layers[len(layers)-1] > int64(m.Layers),
			fmt.Sprintf("%s %v names layers beyond model.layers %d", key, layers, m.Layers), key, "model.layers")
	}
	if m.Position != Rotary {
		return problems
	}
	if embed%heads == 0 || m.Architecture.HeadWidth > 0 {
		check(width == 0 || width%2 != 0, fmt.Sprintf("model.position rotary needs heads of even width, and %d elements of a head would turn", width),
			"model.embed", "model.heads", "model.position", "model.head_width", "model.rotary.share")
	}
	check(r.Base <= 1, fmt.Sprintf("model.rotary.base %g must be above 1", r.Base), "model.rotary.base")
	if r.Scaling == NoScaling {
		return problems
	}
	check(r.Factor < 1, fmt.Sprintf("model.rotary.factor %g must be at least 1", r.Factor), "model.rotary.factor")
	check(r.Scaling == Llama3Scaling && r.Low >= r.High, fmt.Sprintf("model.rotary.low %g must be below high %g", r.Low, r.High), "model.rotary.low", "model.rotary.high")
	check(r.Scaling == YarnScaling && r.Slow >= r.Fast, fmt.Sprintf("model.rotary.slow %g must be below fast %g", r.Slow, r.Fast), "model.rotary.slow", "model.rotary.fast")
	return problems
}
