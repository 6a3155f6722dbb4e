package lm

import (
	"fmt"
	"math"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// transformer is a decoder of pre-norm blocks. With layer norm, learned
// positions and GELU it is GPT-2 (Radford et al. 2019); with RMSNorm, rotary
// positions, SwiGLU and grouped heads LLaMA (Touvron et al. 2023). RMSNorm
// means that there are no biases anywhere.
//
//	x = embedding(ids) + position
//	x = x + attention(norm(x))    in each block
//	x = x + mlp(norm(x))
//	hidden = norm(x)
type transformer struct {
	config    Config
	device    gotch.Device
	params    []Param
	tables    []*ts.Tensor
	embedding *ts.Tensor // [V, D]
	positions *ts.Tensor // [context, D]; nil where they are rotary
	blocks    []block
	norm      norm
	output    OutputLayer
}

type block struct {
	attentionNorm, mlpNorm norm
	attention              attention
	mlp                    mlp
}

// initialSD is the standard deviation of initial weights. Projections onto the
// residual stream start smaller by 1/sqrt(branches), so that its variance does
// not grow with the depth (Radford et al. 2019).
const initialSD = 0.02

func newTransformer(c Config, seed uint64, device gotch.Device) (Model, error) {
	if err := c.checkTransformer(); err != nil {
		return nil, err
	}
	m := &transformer{config: c, device: device}
	built, err := build(seed, device, func(p *params) {
		n := c.names()
		weights := normal(initialSD)
		m.embedding = p.addAs(Embedding, n.embedding, weights, c.Vocab, c.Embed)
		var turn *rotary
		if c.Position == Rotary {
			turn = newRotary(p, c.Context, c.Embed/int64(c.Heads))
		} else {
			m.positions = p.addAs(Embedding, n.positions, weights, c.Context, c.Embed)
		}
		for i := range c.Layers {
			m.blocks = append(m.blocks, newBlock(p, c, n.block(i), turn))
		}
		m.norm = newNorm(p, n.norm, c.Norm == LayerNorm, c.Embed)
		m.output = newTransformerOutput(p, c, m.embedding)
	})
	if err != nil {
		return nil, fmt.Errorf("make the model: %w", err)
	}
	m.params, m.tables = built.list, built.tables
	return m, nil
}

func newTransformerOutput(p *params, c Config, embedding *ts.Tensor) OutputLayer {
	switch {
	case c.Softmax == Adaptive:
		return newAdaptiveSoftmax(p, "lm_head", normal(initialSD), c, c.Embed)
	case c.Tied:
		return fullSoftmax{weight: embedding}
	}
	return fullSoftmax{weight: p.addAs(OutputRow, "lm_head.weight", normal(initialSD), c.Vocab, c.Embed)}
}

func newBlock(p *params, c Config, n blockNames, turn *rotary) block {
	layer := c.Norm == LayerNorm
	f := form{biases: layer, transposed: c.gpt2()}
	weights, ontoResidual := normal(initialSD), normal(initialSD/math.Sqrt(2*float64(c.Layers)))
	width := c.Embed / int64(c.Heads)
	b := block{attention: attention{heads: int64(c.Heads), kvHeads: int64(c.KVHeads), width: width, rotary: turn}}

	b.attentionNorm = newNorm(p, n.attentionNorm, layer, c.Embed)
	kv := b.attention.kvHeads * width
	if n.qkv != "" {
		b.attention.in = []linear{f.linear(p, n.qkv, weights, c.Embed, c.Embed+2*kv)}
		p.split(n.qkv+".weight", f.outDim(), c.Embed, kv, kv)
	} else {
		b.attention.in = []linear{
			f.linear(p, n.query, weights, c.Embed, c.Embed), f.linear(p, n.key, weights, c.Embed, kv), f.linear(p, n.value, weights, c.Embed, kv),
		}
	}
	b.attention.out = f.linear(p, n.out, ontoResidual, c.Embed, c.Embed)

	b.mlpNorm = newNorm(p, n.mlpNorm, layer, c.Embed)
	if c.MLP == SwiGLU {
		gate := f.linear(p, n.gate, weights, c.Embed, c.Hidden)
		b.mlp.gate = &gate
	}
	b.mlp.up = f.linear(p, n.up, weights, c.Embed, c.Hidden)
	b.mlp.down = f.linear(p, n.down, ontoResidual, c.Hidden, c.Embed)
	return b
}

func (m *transformer) Config() Config                 { return m.config }
func (m *transformer) Params() []Param                { return m.params }
func (m *transformer) TimeMajor() bool                { return false }
func (m *transformer) CarriesState() bool             { return false }
func (m *transformer) Context() int64                 { return m.config.Context }
func (m *transformer) Output() OutputLayer            { return m.output }
func (m *transformer) NewState(int64) (*State, error) { return &State{}, nil }

func (m *transformer) Close() {
	dropAll(m.params)
	for _, t := range m.tables {
		_ = t.Drop()
	}
}

func (m *transformer) Forward(s *torch.Scope, ids *ts.Tensor, _ *State, mode Mode) Hidden {
	x := m.run(s, ids, nil, mode)
	return Hidden{States: s.Reshape(x, -1, m.config.Embed)}
}

// run returns the normed residual stream [B, T, D] over ids [B, T], which follow
// what the cache, if any, has seen.
func (m *transformer) run(s *torch.Scope, ids *ts.Tensor, cache *kvCache, mode Mode) *ts.Tensor {
	d := m.config.Dropout
	if mode == Evaluate {
		d = Dropout{}
	}
	shape := torch.Shape(ids)
	if len(shape) != 2 {
		s.Fail(fmt.Errorf("transformer: ids are %s, expected int64[batch, time]", torch.Describe(ids)))
		return nil
	}
	from := cache.length()
	if from+shape[1] > m.config.Context {
		s.Fail(fmt.Errorf("transformer: %d tokens do not fit a context of %d", from+shape[1], m.config.Context))
		return nil
	}
	x := s.Embedding(m.embedding, ids)
	if m.positions != nil {
		x = s.Add(x, s.Narrow(m.positions, 0, from, shape[1]))
	}
	x = s.Dropout(x, d.Input)
	for i := range m.blocks {
		b := &m.blocks[i]
		x = b.attention.apply(s, x, b.attentionNorm, cache.layer(i), d.Hidden)
		x = b.mlp.apply(s, x, b.mlpNorm, d.Hidden)
	}
	cache.advance(shape[1])
	return m.norm.apply(s, x)
}
