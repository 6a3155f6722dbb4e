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

// A Pass says how the forward pass of a training step computes.
type Pass struct {
	Low    bool // products are of bfloat16 numbers
	Device bool // by libtorch's operators, on a GPU; else by this project's, on a CPU
}

// bytes returns how many bytes numbers take of which some are of the precision of products.
func (p Pass) bytes(wide, products int64) int64 {
	if p.Low {
		return 4*wide + 2*products
	}
	return 4 * (wide + products)
}

// Kept is the memory of a training pass, in bytes: what the forward pass keeps for the
// backward pass. A model without alike blocks has no Blocks.
type Kept struct {
	Token  int64 // for a token, beside the blocks
	Fixed  int64 // whatever the number of tokens
	Blocks int64
	Block  int64 // for a token and block
	Input  int64 // the part of Block that gradient checkpointing keeps
	Work   int64 // for a token, while backward is in a block or layer
}

// recurrentKept counts, for each token of a layer, the gates and what else its cell keeps,
// states and products, and dropout's masks and results. Backward has the gradients of input and
// output beside them, and the states before each step.
func recurrentKept(gates, others int64) func(m *Model, p Pass) Kept {
	return func(m *Model, p Pass) Kept {
		n, widest := m.Embed*(1+m.Dropout.numbers(m.Dropout.Input)), m.Embed
		fixed := int64(0)
		for i := range m.Layers {
			units, share := m.units(i), m.Dropout.Hidden
			if i == m.Layers-1 {
				share = m.Dropout.Output
			}
			n += units * (gates + others + m.Dropout.numbers(share))
			if p.Device {
				n += units * (gates + 1) // a step is several operators
			}
			widest = max(widest, units)
			if m.Dropout.Weight > 0 {
				fixed += 2 * gates * units * units // mask and result
			}
		}
		if m.Dropout.Embed > 0 {
			fixed += m.Vocab * m.Embed
		}
		return Kept{Token: 4 * n, Fixed: 4 * fixed, Work: 4 * 3 * widest}
	}
}

// numbers is how many numbers dropout of an element makes: the result, and the mask unless it
// is shared by all steps.
func (d Dropout) numbers(share float64) int64 {
	switch {
	case share == 0:
		return 0
	case d.Locked:
		return 1
	}
	return 2
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

// transformerKept counts the numbers of a block, of the residual stream's precision and of
// the products', as they were measured (run/cost_test.go holds them against the allocator).
// Dropout of attention weights keeps them, and makes GPT-2's attention one of operators.
func transformerKept(m *Model, p Pass) Kept {
	a := m.Architecture.Resolved(m)
	d, q, kv, h := m.Embed, int64(m.Heads)*a.HeadWidth, int64(m.KVHeads)*a.HeadWidth, m.Hidden
	activation, gated := SplitMLP(m.MLP)
	up := h // what the MLP's activation reads
	if gated {
		up *= 2
	}
	operators := activation != GELU && activation != "silu" // the MLP is no operator of its own
	k := Kept{Blocks: int64(m.Layers), Input: 4 * d, Work: p.bytes(d, h), Token: 4 * d * (3 + m.Dropout.numbers(m.Dropout.Input))}
	const cached = 1 << 18 // weights of attention that is one operator, over 256 tokens at most
	switch gpt2 := m.GPT2(); {
	case p.Device && gpt2:
		k.Block, k.Work = p.bytes(5*d, 3*d+2*up), p.bytes(0, h)
	case p.Device:
		k.Block, k.Work = p.bytes(11*d, 3*q+3*kv+2*up), p.bytes(0, 2*d+2*up)
	case !gpt2:
		k.Block = p.bytes(5*d, 3*q+3*kv+up)
	case p.Low:
		k.Block = p.bytes(2*d, 6*d+up)
	case 4*d*d > cached || m.Context > 256:
		k.Block = 4 * (8*d + up)
	default:
		k.Block = 4 * (7*d + up)
	}
	if operators && !p.Device {
		k.Block += 4 * (2*h + 2*d)
	}
	if m.Dropout.Hidden > 0 && p.Device {
		k.Block += 2 * d // masks of a byte
	} else if m.Dropout.Hidden > 0 {
		k.Block += 4 * (3*d + 3*int64(m.Heads)*m.Context)
	}
	return k
}

// Outline returns the tensors of a model, and what a training pass keeps. known is false
// for a kind without an outline.
func (m Model) Outline(p Pass) (tensors []Tensor, kept Kept, known bool) {
	kind := m.KindOf()
	if kind.Tensors == nil || kind.Kept == nil {
		return nil, Kept{}, false
	}
	return kind.Tensors(&m), kind.Kept(&m, p), true
}

// Multiplications returns the multiply-add operations for a token of the forward pass in
// a text of that many tokens: each element of a matrix once, and attention's products,
// masked or not. Those of the output layer, which are the loss's, are apart.
func (m Model) Multiplications(length int64) (body, output int64) {
	matrices, outputs := m.factors()
	for _, t := range matrices {
		body += t.Elements()
	}
	for _, t := range outputs {
		output += t.Elements()
	}
	if m.KindOf().Family == TransformerFamily {
		body += 2 * int64(m.Layers) * int64(m.Heads) * m.Architecture.Resolved(&m).HeadWidth * length
	}
	return body, output
}

// factors returns the matrices by which products multiply activations: the output layer's,
// which may be the embedding, and those before it.
func (m Model) factors() (body, output []Tensor) {
	tensors, _, _ := m.Outline(Pass{})
	for i, t := range tensors {
		embedding := i == 0 // of the tokens
		switch {
		case t.Role == "matrix":
			body = append(body, t)
		case t.Role == "output" || embedding && m.Tied && m.Softmax != Adaptive:
			output = append(output, t)
		}
	}
	return body, output
}
