package lm

import (
	"fmt"
	"slices"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// recurrent is the model of PyTorch's word_language_model and, with all its forms of
// dropout, of AWD-LSTM (Merity et al. 2018): embedding, layers of LSTM or GRU,
// output layer. With tied weights the last layer has as many units as the embedding
// has columns.
type recurrent struct {
	Weights
	config    Config
	cell      cell
	embedding *ts.Tensor // [V, E]
	layers    []torch.RNNWeights
	units     []int64
	output    OutputLayer
}

// A cell is a kind of recurrent layer.
type cell struct {
	gates  int
	states int // number of carried tensors
	// run processes x [T, B, I] from the state and returns the outputs [T, B, H] and
	// the state after the last step.
	run func(s *torch.Scope, x *ts.Tensor, state []*ts.Tensor, w torch.RNNWeights) (y *ts.Tensor, last []*ts.Tensor)
}

var lstmCell = cell{gates: 4, states: 2, run: func(s *torch.Scope, x *ts.Tensor, state []*ts.Tensor, w torch.RNNWeights) (*ts.Tensor, []*ts.Tensor) {
	y, h, c := s.LSTM(x, state[0], state[1], w)
	return y, []*ts.Tensor{h, c}
}}

var gruCell = cell{gates: 3, states: 1, run: func(s *torch.Scope, x *ts.Tensor, state []*ts.Tensor, w torch.RNNWeights) (*ts.Tensor, []*ts.Tensor) {
	y, h := s.GRU(x, state[0], w)
	return y, []*ts.Tensor{h}
}}

// Initialisation as in word_language_model: the embedding and the decoder uniform
// in +-0.1, the decoder's bias 0, recurrent weights PyTorch's default.
const embeddingBound = 0.1

// newRecurrent returns a constructor of models with layers of one cell.
func newRecurrent(of cell) Constructor {
	return func(c Config, seed uint64, device gotch.Device) (Model, error) {
		m := &recurrent{config: c, cell: of}
		var err error
		m.Weights, err = Build(seed, device, func(p Builder) {
			m.embedding = p.In("encoder").Embedding("weight", Uniform(embeddingBound), c.Vocab, c.Embed)
			in := c.Embed
			for i := range c.Layers {
				units := c.Hidden
				if c.Tied && i == c.Layers-1 {
					units = c.Embed
				}
				m.layers = append(m.layers, newRNNWeights(p.In("rnn"), i, of.gates, units, in))
				m.units = append(m.units, units)
				in = units
			}
			m.output = newRecurrentOutput(p.In("decoder"), c, m.embedding, in)
		})
		return m, err
	}
}

// newRNNWeights makes a layer's weights under the names of torch.nn.LSTM and GRU.
func newRNNWeights(p Builder, layer, gates int, units, in int64) torch.RNNWeights {
	init := Uniform(inverseRoot(units))
	name := func(tensor string) string { return fmt.Sprintf("%s_l%d", tensor, layer) }
	rows, parts := int64(gates)*units, slices.Repeat([]int64{units}, gates)
	return torch.RNNWeights{
		InputHidden:  p.Fused(name("weight_ih"), init, 0, parts, rows, in),
		HiddenHidden: p.Fused(name("weight_hh"), init, 0, parts, rows, units),
		InputBias:    p.Vector(name("bias_ih"), init, rows),
		HiddenBias:   p.Vector(name("bias_hh"), init, rows),
	}
}

func newRecurrentOutput(p Builder, c Config, embedding *ts.Tensor, width int64) OutputLayer {
	if c.Softmax == Adaptive {
		return newAdaptiveSoftmax(p, Uniform(embeddingBound), c, width)
	}
	head := fullSoftmax{weight: embedding}
	if !c.Tied {
		head.weight = p.Output("weight", Uniform(embeddingBound), c.Vocab, width)
	}
	head.bias = p.Vector("bias", Constant(0), c.Vocab)
	return head
}

func (m *recurrent) Config() Config      { return m.config }
func (m *recurrent) Output() OutputLayer { return m.output }
func (m *recurrent) CarriesState() bool  { return true }
func (m *recurrent) Context() int64      { return 0 }
func (m *recurrent) TimeMajor() bool     { return true }

func (m *recurrent) NewDecoder(texts int) (Decoder, error) {
	return NewStateDecoder(m, texts, m.device)
}

func (m *recurrent) NewState(batch int64) (*RecurrentState, error) {
	return NewRecurrentState(batch, m.units, m.cell.states, m.device)
}

func (m *recurrent) Forward(s *torch.Scope, in Input, state *RecurrentState, mode Mode) Features {
	d := m.config.Dropout
	if mode == Evaluate {
		d = Dropout{}
	}
	embed := s.Embedding
	if m.config.Tied && d.Embed == 0 {
		embed = s.TiedEmbedding
	}
	x := embed(dropRows(s, m.embedding, d.Embed), in.IDs) // [T, B, E]
	x = drop(s, x, d.Input, d.Locked)
	raw := x
	for i, w := range m.layers {
		w.HiddenHidden = s.Dropout(w.HiddenHidden, d.Weight)
		y, last := m.cell.run(s, x, state.Layer(i), w)
		state.Set(s, i, last...)
		x, raw = y, y
		if i < len(m.layers)-1 {
			x = drop(s, x, d.Hidden, d.Locked)
		}
	}
	x = drop(s, x, d.Output, d.Locked)
	return Features{States: s.Reshape(x, -1, m.units[len(m.units)-1]), Raw: raw}
}

// RecurrentState is the state that a recurrent model carries from one batch to the
// next: for each layer its tensors [B, units]. It owns the tensors.
type RecurrentState struct {
	layers [][]*ts.Tensor
}

// NewRecurrentState makes a state of zeros: for each layer, kinds tensors of [batch, units].
func NewRecurrentState(batch int64, units []int64, kinds int, device gotch.Device) (*RecurrentState, error) {
	st := &RecurrentState{layers: make([][]*ts.Tensor, len(units))}
	err := torch.Do(func(s *torch.Scope) error {
		for i, n := range units {
			for range kinds {
				st.layers[i] = append(st.layers[i], s.Zeros([]int64{batch, n}, gotch.Float, device))
			}
		}
		if s.OK() {
			st.each(func(t *ts.Tensor) { s.Keep(t) })
		}
		return s.Err()
	})
	if err != nil {
		return nil, err
	}
	return st, nil
}

// Layer returns a layer's tensors; the state keeps owning them.
func (st *RecurrentState) Layer(i int) []*ts.Tensor { return st.layers[i] }

func (st *RecurrentState) each(f func(t *ts.Tensor)) {
	for _, layer := range st.layers {
		for _, t := range layer {
			f(t)
		}
	}
}

// Set replaces a layer's tensors by copies without a graph. The old ones keep their
// values until the scope ends: backward still needs them.
func (st *RecurrentState) Set(s *torch.Scope, layer int, tensors ...*ts.Tensor) {
	for i, t := range tensors {
		next := s.Clone(s.Detach(t))
		if next == nil {
			return
		}
		s.Own(st.layers[layer][i])
		st.layers[layer][i] = s.Keep(next)
	}
}

// Reset sets the state to the state at the start of a text.
func (st *RecurrentState) Reset() error {
	return torch.Do(func(s *torch.Scope) error {
		st.each(func(t *ts.Tensor) { s.Zero(t) })
		return s.Err()
	})
}

// Tensors returns all tensors, in a fixed order; the state keeps owning them. A nil
// state has none.
func (st *RecurrentState) Tensors() []*ts.Tensor {
	var all []*ts.Tensor
	if st != nil {
		st.each(func(t *ts.Tensor) { all = append(all, t) })
	}
	return all
}

// Close frees the state, which may be nil.
func (st *RecurrentState) Close() {
	if st != nil {
		st.each(func(t *ts.Tensor) { _ = t.Drop() })
		st.layers = nil
	}
}
