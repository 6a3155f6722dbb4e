package lm

import (
	"fmt"
	"math"
	"slices"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// transformer is a decoder of pre-norm blocks (Radford et al. 2019):
//
//	x = embedding(ids) + position
//	x = x + attention(norm(x))    in each block
//	x = x + mlp(norm(x))
//	features = norm(x)
//
// With layer norm, learned positions and GELU it is GPT-2; with RMSNorm, rotary
// positions, SwiGLU and grouped heads LLaMA (Touvron et al. 2023). Other published
// models differ from these two by a spec.Architecture.
type transformer struct {
	Weights
	config    Config
	form      spec.Architecture // resolved
	embedding *ts.Tensor        // [V, D]
	positions *ts.Tensor        // [context, D]; nil where they are rotary
	rotary    *rotary           // nil where they are learned
	blocks    []block
	norm      norm
	output    OutputLayer
}

type block struct {
	attentionNorm, mlpNorm norm
	attention              attention
	mlp                    mlp
	parallel               bool // the MLP reads the block's input too
}

// initialSD is the standard deviation of initial weights. Projections onto the
// residual stream start smaller by 1/sqrt(branches), so that its variance does
// not grow with the depth (Radford et al. 2019).
const initialSD = 0.02

func newTransformer(c Config, seed uint64, device gotch.Device) (Model, error) {
	m := &transformer{config: c, form: architecture(c)}
	var err error
	m.Weights, err = Build(seed, device, func(p Builder) {
		init, eps := Normal(initialSD), m.form.NormEps
		if c.GPT2() {
			// Names and layouts of Hugging Face's GPT2LMHeadModel.
			body := p.In("transformer")
			m.embedding = body.In("wte").Embedding("weight", init, c.Vocab, c.Embed)
			m.positions = body.In("wpe").Embedding("weight", init, c.Context, c.Embed)
			for i := range c.Layers {
				m.blocks = append(m.blocks, newGPT2Block(body.In("h").At(i), c))
			}
			m.norm = newNorm(body.In("ln_f"), c.Norm, eps, c.Embed)
		} else {
			// Names and layouts of LlamaForCausalLM.
			body := p.In("model")
			m.embedding = body.In("embed_tokens").Embedding("weight", init, c.Vocab, c.Embed)
			if c.Position == Rotary {
				m.rotary = newRotary(m.form)
			} else {
				m.positions = body.In("embed_positions").Embedding("weight", init, c.Context, c.Embed)
			}
			for i := range c.Layers {
				m.blocks = append(m.blocks, newLlamaBlock(body.In("layers").At(i), c, i, m.rotary))
			}
			m.norm = newNorm(body.In("norm"), c.Norm, eps, c.Embed)
		}
		m.output = newTransformerOutput(p, c, m.embedding)
	})
	return m, err
}

func newTransformerOutput(p Builder, c Config, embedding *ts.Tensor) OutputLayer {
	switch {
	case c.Softmax == Adaptive:
		return newAdaptiveSoftmax(p.In("lm_head"), Normal(initialSD), c, c.Embed)
	case c.Tied:
		return fullSoftmax{weight: embedding}
	}
	return fullSoftmax{weight: p.In("lm_head").Output("weight", Normal(initialSD), c.Vocab, c.Embed)}
}

// newGPT2Block makes one layer for queries, keys and values, with weights as
// [in, out].
func newGPT2Block(p Builder, c Config) block {
	init, ontoResidual := Normal(initialSD), Normal(initialSD/math.Sqrt(2*float64(c.Layers)))
	d, eps := c.Embed, architecture(c).NormEps
	activation, _ := spec.SplitMLP(c.MLP)
	return block{
		attentionNorm: newNorm(p.In("ln_1"), c.Norm, eps, d),
		attention: attention{
			heads: int64(c.Heads), kvHeads: int64(c.Heads), width: d / int64(c.Heads),
			in:  []linear{newConv1D(p.In("attn").In("c_attn"), init, d, 3*d, d, d, d)},
			out: newConv1D(p.In("attn").In("c_proj"), ontoResidual, d, d),
		},
		mlpNorm: newNorm(p.In("ln_2"), c.Norm, eps, d),
		mlp: mlp{
			activation: activation,
			up:         newConv1D(p.In("mlp").In("c_fc"), init, d, c.Hidden),
			down:       newConv1D(p.In("mlp").In("c_proj"), ontoResidual, c.Hidden, d),
		},
	}
}

// newLlamaBlock makes layer number i, from 0, with one linear layer each for queries, keys and
// values and weights as [out, in].
func newLlamaBlock(p Builder, c Config, i int, turn *rotary) block {
	init, ontoResidual := Normal(initialSD), Normal(initialSD/math.Sqrt(2*float64(c.Layers)))
	form := architecture(c)
	d, q, kv := c.Embed, int64(c.Heads)*form.HeadWidth, int64(c.KVHeads)*form.HeadWidth
	biases := func(of ...string) bool { return slices.Contains(of, form.Biases) }
	qkv, out, inMLP := biases(spec.QKVBiases, spec.AttentionBiases, spec.AllBiases),
		biases(spec.AttentionBiases, spec.AllBiases), biases(spec.MLPBiases, spec.AllBiases)

	self, b := p.In("self_attn"), block{parallel: form.Parallel}
	b.attentionNorm = newNorm(p.In("input_layernorm"), c.Norm, form.NormEps, d)
	b.attention = attention{
		heads: int64(c.Heads), kvHeads: int64(c.KVHeads), width: form.HeadWidth,
		in: []linear{
			newLinear(self.In("q_proj"), init, qkv, d, q),
			newLinear(self.In("k_proj"), init, qkv, d, kv),
			newLinear(self.In("v_proj"), init, qkv, d, kv),
		},
		out: newLinear(self.In("o_proj"), ontoResidual, out, q, d),
	}
	if form.QKNorm {
		b.attention.queryNorm = newNorm(self.In("q_norm"), RMSNorm, form.NormEps, form.HeadWidth)
		b.attention.keyNorm = newNorm(self.In("k_norm"), RMSNorm, form.NormEps, form.HeadWidth)
	}
	if !slices.Contains(form.Rotary.Skip, int64(i+1)) {
		b.attention.rotary = turn
	}
	if len(form.WindowLayers) == 0 || slices.Contains(form.WindowLayers, int64(i+1)) {
		b.attention.window = form.Window
	}

	b.mlpNorm = newNorm(p.In("post_attention_layernorm"), c.Norm, form.NormEps, d)
	activation, gated := spec.SplitMLP(c.MLP)
	b.mlp.activation = activation
	if gated {
		gate := newLinear(p.In("mlp").In("gate_proj"), init, inMLP, d, c.Hidden)
		b.mlp.gate = &gate
	}
	b.mlp.up = newLinear(p.In("mlp").In("up_proj"), init, inMLP, d, c.Hidden)
	b.mlp.down = newLinear(p.In("mlp").In("down_proj"), ontoResidual, inMLP, c.Hidden, d)
	return b
}

// architecture returns a Transformer's Architecture, resolved.
func architecture(c Config) spec.Architecture {
	return c.Architecture.Resolved(&c)
}

func (m *transformer) Config() Config                          { return m.config }
func (m *transformer) Output() OutputLayer                     { return m.output }
func (m *transformer) NewState(int64) (*RecurrentState, error) { return &RecurrentState{}, nil }
func (m *transformer) CarriesState() bool                      { return false }
func (m *transformer) Context() int64                          { return m.config.Context }
func (m *transformer) TimeMajor() bool                         { return false }

// Close frees the parameters and the tables of positions.
func (m *transformer) Close() {
	m.Weights.Close()
	m.rotary.close()
}

func (m *transformer) Forward(s *torch.Scope, in Input, _ *RecurrentState, mode Mode) Features {
	x := m.run(s, in, nil, mode)
	return Features{States: s.Reshape(x, -1, m.config.Embed)}
}

// run returns the normed residual stream [B, T, D] over the input [B, T], which follows the
// tokens in the cache. A nil cache holds no tokens and stores none.
//
// Learned positions count from the start of the token's document. Rotary positions need
// not: attention depends on their differences alone.
func (m *transformer) run(s *torch.Scope, in Input, cache *kvCache, mode Mode) *ts.Tensor {
	d := m.config.Dropout
	if mode == Evaluate {
		d = Dropout{}
	}
	shape := torch.Shape(in.IDs)
	if len(shape) != 2 {
		s.Fail(fmt.Errorf("transformer: ids are %s, expected int64[batch, time]", torch.Describe(in.IDs)))
		return nil
	}
	from := cache.length()
	if from+shape[1] > m.config.Context {
		s.Fail(fmt.Errorf("transformer: %d tokens do not fit a context of %d", from+shape[1], m.config.Context))
		return nil
	}
	x := s.Embedding(m.embedding, in.IDs)
	if m.positions != nil && in.First == nil {
		x = s.Add(x, s.Narrow(m.positions, 0, from, shape[1]))
	} else if m.positions != nil {
		x = s.Add(x, s.Embedding(m.positions, s.Sub(upTo(s, from, shape[1], in.First), in.First)))
	}
	x = s.Dropout(x, d.Input)
	for i := range m.blocks {
		block := func(s *torch.Scope, x *ts.Tensor) *ts.Tensor {
			return m.blocks[i].apply(s, x, cache.layer(i), in.First, d.Hidden)
		}
		if mode == Recomputing {
			x = s.Recompute(x, block)
		} else {
			x = block(s, x)
		}
	}
	cache.advance(shape[1])
	return m.norm.apply(s, x)
}

// upTo returns the n positions from position from on, on like's device.
func upTo(s *torch.Scope, from, n int64, like *ts.Tensor) *ts.Tensor {
	positions := make([]int64, n)
	for i := range positions {
		positions[i] = from + int64(i)
	}
	return s.UploadLike(torch.FromSlice(s, positions, n), like)
}

// apply returns the residual stream after the block.
func (b *block) apply(s *torch.Scope, x *ts.Tensor, cache *layerCache, first *ts.Tensor, dropout float64) *ts.Tensor {
	attention := b.attention.with(cache, first, dropout)
	y := residual(s, x, b.attentionNorm, attention, dropout)
	if b.parallel {
		return s.Add(y, s.Dropout(b.mlp.apply(s, b.mlpNorm.apply(s, x)), dropout))
	}
	return residual(s, y, b.mlpNorm, &b.mlp, dropout)
}

// A branch is a function of the normed residual stream [B, T, D].
type branch interface {
	apply(s *torch.Scope, h *ts.Tensor) *ts.Tensor
	// fused computes all of residual with one operator; nil if there is none.
	fused(s *torch.Scope, x *ts.Tensor, b torch.Branch) *ts.Tensor
}

// residual returns x + dropout(f(norm(x))).
func residual(s *torch.Scope, x *ts.Tensor, n norm, f branch, dropout float64) *ts.Tensor {
	if y := f.fused(s, x, torch.Branch{Gain: n.gain, Shift: n.bias, Eps: n.eps, Dropout: dropout}); y != nil {
		return y
	}
	return s.Add(x, s.Dropout(f.apply(s, n.apply(s, x)), dropout))
}

// attention is causal self-attention with several heads (Vaswani et al. 2017).
// With fewer heads of keys and values than of queries, neighbouring query heads
// share keys and values (Ainslie et al. 2023).
type attention struct {
	heads, kvHeads, width int64 // width of a head
	// in computes queries, keys and values: one layer for all three (GPT-2), or one
	// layer each.
	in                 []linear
	out                linear
	queryNorm, keyNorm norm    // of each head; not applied without a gain
	rotary             *rotary // nil where a layer has no rotary positions
	window             int64   // number of tokens that a query sees, itself included; 0: all
}

// attend computes attention over the tokens in a cache and the new tokens after
// them.
type attend struct {
	*attention
	cache   *layerCache
	first   *ts.Tensor // as Input has it
	dropout float64    // of attention weights
}

func (a *attention) with(cache *layerCache, first *ts.Tensor, dropout float64) attend {
	return attend{a, cache, first, dropout}
}

func (a attend) apply(s *torch.Scope, h *ts.Tensor) *ts.Tensor {
	q, k, v := a.project(s, h)
	if a.queryNorm.gain != nil {
		q, k = a.queryNorm.apply(s, q), a.keyNorm.apply(s, k)
	}
	from := a.cache.length()
	if a.rotary != nil {
		q, k = a.rotary.apply(s, q, from), a.rotary.apply(s, k, from)
	}
	q, k, v = s.Transpose(q, 1, 2), s.Transpose(k, 1, 2), s.Transpose(v, 1, 2)
	k, v = a.cache.extend(s, k, v)
	y := s.Transpose(a.weigh(s, q, k, v, from), 1, 2)
	return a.out.apply(s, s.Flatten(y, 2))
}

func (a attend) fused(s *torch.Scope, x *ts.Tensor, b torch.Branch) *ts.Tensor {
	if len(a.in) > 1 || a.cache != nil {
		return nil
	}
	return s.SelfAttention(x, b, a.in[0].affine(s), a.out.affine(s), a.heads, torch.AttentionOptions{First: a.first, Dropout: a.dropout})
}

// project returns queries [B, T, heads, width], keys and values [B, T, kvHeads, width].
func (a *attention) project(s *torch.Scope, h *ts.Tensor) (q, k, v *ts.Tensor) {
	if len(a.in) == 1 {
		all := s.Split(s.Unflatten(a.in[0].apply(s, h), 2, 3*a.heads, a.width), 2, a.heads, a.heads, a.heads)
		return all[0], all[1], all[2]
	}
	return s.Unflatten(a.in[0].apply(s, h), 2, a.heads, a.width),
		s.Unflatten(a.in[1].apply(s, h), 2, a.kvHeads, a.width),
		s.Unflatten(a.in[2].apply(s, h), 2, a.kvHeads, a.width)
}

// weigh returns softmax(q k' / sqrt(width)) v [B, heads, T, width] over the tokens
// that each query may see: its own token and the ones before it in its document, at most
// window in all.
func (a attend) weigh(s *torch.Scope, q, k, v *ts.Tensor, from int64) *ts.Tensor {
	shape := torch.Shape(q)
	if !s.OK() {
		return nil
	}
	if all := from + shape[2]; shape[2] == 1 && a.window > 0 && all > a.window {
		start := all - a.window
		return s.Attention(q, s.Narrow(k, 2, start, a.window), s.Narrow(v, 2, start, a.window), a.window-1, torch.AttentionOptions{Dropout: a.dropout})
	}
	return s.Attention(q, k, v, from, torch.AttentionOptions{First: a.first, Window: a.window, Dropout: a.dropout})
}

// mlp computes down f(up h) for an activation f, or with a gate (Shazeer 2020) down
// (f(gate h) * up h).
type mlp struct {
	up, down   linear
	gate       *linear
	activation string
}

func (m *mlp) apply(s *torch.Scope, h *ts.Tensor) *ts.Tensor {
	if y := m.fused(s, h, torch.Branch{}); y != nil {
		return y
	}
	f, up := activations[m.activation], m.up.apply(s, h)
	if m.gate != nil {
		return m.down.apply(s, s.Mul(f(s, m.gate.apply(s, h)), up))
	}
	return m.down.apply(s, f(s, up))
}

func (m *mlp) fused(s *torch.Scope, x *ts.Tensor, b torch.Branch) *ts.Tensor {
	switch {
	case m.gate == nil && m.activation == "gelu":
		return s.MLP(x, b, m.up.affine(s), nil, m.down.affine(s))
	case m.gate != nil && m.activation == "silu":
		gate := m.gate.affine(s)
		return s.MLP(x, b, m.up.affine(s), &gate, m.down.affine(s))
	}
	return nil
}

// The constants of "laplace", which make it closest to the square of ReLU.
const laplaceMean, laplaceDeviation = 0.707107, 0.282095

// activations are the non-linearities by their name in spec.Activations.
var activations = map[string]func(s *torch.Scope, x *ts.Tensor) *ts.Tensor{
	"gelu":         func(s *torch.Scope, x *ts.Tensor) *ts.Tensor { return s.GELU(x, true) },
	"gelu-exact":   func(s *torch.Scope, x *ts.Tensor) *ts.Tensor { return s.GELU(x, false) },
	"quick-gelu":   func(s *torch.Scope, x *ts.Tensor) *ts.Tensor { return s.Mul(x, s.Sigmoid(s.Scale(x, 1.702))) },
	"gelu-10":      func(s *torch.Scope, x *ts.Tensor) *ts.Tensor { return s.Clamp(s.GELU(x, false), -10, 10) }, // Wu et al. 2020
	"relu":         (*torch.Scope).ReLU,
	"relu-squared": func(s *torch.Scope, x *ts.Tensor) *ts.Tensor { return s.Square(s.ReLU(x)) }, // So et al. 2021
	"relu6":        func(s *torch.Scope, x *ts.Tensor) *ts.Tensor { return s.Clamp(x, 0, 6) },
	"leaky-relu":   (*torch.Scope).LeakyReLU,
	"silu":         (*torch.Scope).SiLU,
	"hard-swish": func(s *torch.Scope, x *ts.Tensor) *ts.Tensor { // Howard et al. 2019
		return s.Scale(s.Mul(x, s.Clamp(s.Shift(x, 3), 0, 6)), 1./6)
	},
	"mish":    (*torch.Scope).Mish,
	"tanh":    (*torch.Scope).Tanh,
	"sigmoid": (*torch.Scope).Sigmoid,
	"laplace": func(s *torch.Scope, x *ts.Tensor) *ts.Tensor { // Ma et al. 2022
		return s.Scale(s.Shift(s.Erf(s.Scale(s.Shift(x, -laplaceMean), 1/(laplaceDeviation*math.Sqrt2))), 1), 0.5)
	},
	"sqrt-softplus": func(s *torch.Scope, x *ts.Tensor) *ts.Tensor { return s.Sqrt(s.Softplus(x)) },
	"linear":        func(_ *torch.Scope, x *ts.Tensor) *ts.Tensor { return x },
}

// kvCache holds the keys and values of the tokens that a Transformer has read. A nil
// cache is empty and stores nothing.
type kvCache struct {
	layers []layerCache
	seen   int64
}

// layerCache is one layer's cache: keys and values [B, kvHeads, capacity, width],
// nil before the first token. They grow with the text.
type layerCache struct {
	cache        *kvCache
	keys, values *ts.Tensor
}

func newKVCache(layers int) *kvCache {
	c := &kvCache{layers: make([]layerCache, layers)}
	for i := range c.layers {
		c.layers[i].cache = c
	}
	return c
}

// length is the number of tokens in the cache.
func (c *kvCache) length() int64 {
	if c == nil {
		return 0
	}
	return c.seen
}

func (c *kvCache) layer(i int) *layerCache {
	if c == nil {
		return nil
	}
	return &c.layers[i]
}

// advance counts n tokens whose keys and values all layers have stored.
func (c *kvCache) advance(n int64) {
	if c != nil {
		c.seen += n
	}
}

func (c *kvCache) clear() { c.seen = 0 }

func (c *kvCache) close() {
	for _, l := range c.layers {
		for _, t := range []*ts.Tensor{l.keys, l.values} {
			if t != nil {
				_ = t.Drop()
			}
		}
	}
}

func (l *layerCache) length() int64 {
	if l == nil {
		return 0
	}
	return l.cache.seen
}

// extend appends the keys and values of new tokens and returns all tokens' keys and
// values.
func (l *layerCache) extend(s *torch.Scope, k, v *ts.Tensor) (keys, values *ts.Tensor) {
	if l == nil {
		return k, v
	}
	return l.append(s, &l.keys, k), l.append(s, &l.values, v)
}

// append writes x after the tokens in the buffer and returns both.
func (l *layerCache) append(s *torch.Scope, buffer **ts.Tensor, x *ts.Tensor) *ts.Tensor {
	shape := torch.Shape(x)
	if !s.OK() {
		return nil
	}
	from, n := l.cache.seen, shape[2]
	if *buffer == nil || torch.Shape(*buffer)[2] < from+n {
		capacity := []int64{shape[0], shape[1], growth(from + n), shape[3]}
		grown := s.UploadLike(s.Zeros(capacity, gotch.Float, gotch.CPU), x)
		if from > 0 {
			s.CopyInto(s.Narrow(grown, 2, 0, from), s.Narrow(*buffer, 2, 0, from))
		}
		if !s.OK() {
			return nil
		}
		if *buffer != nil {
			s.Own(*buffer)
		}
		*buffer = s.Keep(grown)
	}
	s.CopyInto(s.Narrow(*buffer, 2, from, n), x)
	return s.Narrow(*buffer, 2, 0, from+n)
}
