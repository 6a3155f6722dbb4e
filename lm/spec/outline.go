package spec

import "slices"

// A Tensor is the outline of a parameter: what its memory, and an optimizer's, depend on.
type Tensor struct {
	Role     string // as package lm names it
	Shape    []int64
	Parts    []int64 // sizes of the matrices that share it, along PartsDim
	PartsDim int
}

// Elements returns the number of the tensor's elements.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, size := range t.Shape {
		n *= size
	}
	return n
}

// An outline gathers the tensors of a model in the order in which package lm makes them.
type outline []Tensor

func (o *outline) add(role string, shape ...int64) { *o = append(*o, Tensor{Role: role, Shape: shape}) }

func (o *outline) fused(dim int, parts []int64, shape ...int64) {
	*o = append(*o, Tensor{Role: "matrix", Shape: shape, Parts: parts, PartsDim: dim})
}

// adaptive adds the layers of an adaptive softmax over states of a width.
func (o *outline) adaptive(m *Model, width int64) {
	ends := append(slices.Clone(m.Tails()), m.Vocab)
	first, narrow := ends[0]+int64(len(ends)-1), width
	o.add("output", first, width)
	o.add("vector", first)
	for i, to := range ends[1:] {
		narrow = max(1, narrow/4)
		o.add("matrix", narrow, width)
		o.add("output", to-ends[i], narrow)
	}
}

// recurrentTensors outlines layers of that many gates.
func recurrentTensors(gates int64) func(m *Model) []Tensor {
	return func(m *Model) []Tensor {
		var o outline
		o.add("embedding", m.Vocab, m.Embed)
		in := m.Embed
		for i := range m.Layers {
			units := m.units(i)
			parts := slices.Repeat([]int64{units}, int(gates))
			o.fused(0, parts, gates*units, in)
			o.fused(0, parts, gates*units, units)
			o.add("vector", gates*units)
			o.add("vector", gates*units)
			in = units
		}
		if m.Softmax == Adaptive {
			o.adaptive(m, in)
			return o
		}
		if !m.Tied {
			o.add("output", m.Vocab, in)
		}
		o.add("vector", m.Vocab)
		return o
	}
}

// units returns the number of units of a recurrent layer, from 0.
func (m *Model) units(layer int) int64 {
	if m.Tied && layer == m.Layers-1 {
		return m.Embed
	}
	return m.Hidden
}

// recurrentActivations counts the numbers that a layer keeps for each token: gates, what
// else its cell keeps, the states before each step in the backward pass, and dropout's
// masks and results.
func recurrentActivations(gates int64) func(m *Model) int64 {
	return func(m *Model) int64 {
		n, in := m.Embed*(1+dropped(m.Dropout.Input)), m.Embed
		for i := range m.Layers {
			p := m.Dropout.Hidden
			if i == m.Layers-1 {
				p = m.Dropout.Output
			}
			n += m.units(i) * (gates + 4 + dropped(p))
			in = m.units(i)
		}
		return n + in
	}
}

// dropped is 2, for a mask and a result, where dropout zeroes elements.
func dropped(p float64) int64 {
	if p > 0 {
		return 2
	}
	return 0
}

func transformerTensors(m *Model) []Tensor {
	var o outline
	a := m.Architecture.Resolved(m)
	d, gpt2 := m.Embed, m.GPT2()
	o.add("embedding", m.Vocab, d)
	if m.Position != Rotary {
		o.add("embedding", m.Context, d)
	}
	norm := func(kind string, width int64) {
		o.add("vector", width)
		if kind == LayerNorm {
			o.add("vector", width)
		}
	}
	linear := func(bias bool, in, out int64) {
		o.add("matrix", out, in)
		if bias {
			o.add("vector", out)
		}
	}
	conv1D := func(in, out int64) {
		o.add("matrix", in, out)
		o.add("vector", out)
	}
	biases := func(of ...string) bool { return slices.Contains(of, a.Biases) }
	q, kv := int64(m.Heads)*a.HeadWidth, int64(m.KVHeads)*a.HeadWidth
	_, gated := SplitMLP(m.MLP)
	for range m.Layers {
		norm(m.Norm, d)
		if gpt2 {
			o.fused(1, []int64{d, d, d}, d, 3*d)
			o.add("vector", 3*d)
			conv1D(d, d)
			norm(m.Norm, d)
			conv1D(d, m.Hidden)
			conv1D(m.Hidden, d)
			continue
		}
		for _, out := range []int64{q, kv, kv} {
			linear(biases(QKVBiases, AttentionBiases, AllBiases), d, out)
		}
		linear(biases(AttentionBiases, AllBiases), q, d)
		if a.QKNorm {
			norm(RMSNorm, a.HeadWidth)
			norm(RMSNorm, a.HeadWidth)
		}
		norm(m.Norm, d)
		if gated {
			linear(biases(MLPBiases, AllBiases), d, m.Hidden)
		}
		linear(biases(MLPBiases, AllBiases), d, m.Hidden)
		linear(biases(MLPBiases, AllBiases), m.Hidden, d)
	}
	norm(m.Norm, d)
	switch {
	case m.Softmax == Adaptive:
		o.adaptive(m, d)
	case !m.Tied:
		o.add("output", m.Vocab, d)
	}
	return o
}

// transformerActivations counts the numbers that the blocks keep for each token: of
// attention, queries, keys, values, result and output; of the MLP, what its activation
// reads, and its output. Parts that are not one operator keep what lies between, too.
func transformerActivations(m *Model) int64 {
	a := m.Architecture.Resolved(m)
	d, q, kv := m.Embed, int64(m.Heads)*a.HeadWidth, int64(m.KVHeads)*a.HeadWidth
	attention, feed := 2*q+2*kv+d, m.Hidden+d
	activation, gated := SplitMLP(m.MLP)
	if gated {
		feed += m.Hidden
	}
	const cached = 1 << 18 // weights of attention that is one operator, over 256 tokens at most
	switch {
	case !m.GPT2(): // norm, rotary positions and the residual sum
		attention += 5*d + q + kv
	case 4*d*d > cached || m.Context > 256:
		attention += 7 * d
	}
	if activation != GELU && activation != "silu" {
		feed += 2*m.Hidden + 2*d
	}
	if m.Dropout.Hidden > 0 {
		attention += 2*d + int64(m.Heads)*m.Context
		feed += 2 * d
	}
	gradients := m.Hidden + 8*d // of one block at a time
	return int64(m.Layers)*(attention+feed) + gradients + d*(2+dropped(m.Dropout.Input))
}

// Outline returns the tensors of a model, and how many numbers its forward pass keeps
// for each token of a training batch. known is false for a kind without an outline.
func (m Model) Outline() (tensors []Tensor, activations int64, known bool) {
	kind := m.KindOf()
	if kind.Tensors == nil || kind.Activations == nil {
		return nil, 0, false
	}
	return kind.Tensors(&m), kind.Activations(&m), true
}

// Multiplications returns the multiply-add operations for a token of the forward pass in
// a text of that many tokens: each element of a matrix once, and attention's products,
// masked or not. Those of the output layer, which are the loss's, are apart.
func (m Model) Multiplications(length int64) (body, output int64) {
	tensors, _, _ := m.Outline()
	for _, t := range tensors {
		switch {
		case t.Role == "matrix":
			body += t.Elements()
		case t.Role == "output" || t.Role == "embedding" && m.Tied && m.Softmax != Adaptive && t.Shape[0] == m.Vocab:
			output += t.Elements()
		}
	}
	if m.KindOf().Family == TransformerFamily {
		body += 2 * int64(m.Layers) * int64(m.Heads) * m.Architecture.Resolved(&m).HeadWidth * length
	}
	return body, output
}
