package lm

import (
	"fmt"
	"slices"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// recurrent is the model of PyTorch's word_language_model and, with its
// dropouts, of AWD-LSTM (Merity et al. 2018): embedding, layers of LSTM or GRU,
// output layer. With tied weights the last layer has as many units as the
// embedding has columns.
type recurrent struct {
	config    Config
	device    gotch.Device
	cell      cell
	params    []Param
	embedding *ts.Tensor // [V, E]
	layers    []torch.RNNWeights
	units     []int64
	output    OutputLayer
}

// A cell is a kind of recurrent layer.
type cell struct {
	gates  int64
	states int // tensors that it carries
	// run goes over x [T, B, I] from the state and returns the outputs [T, B, H]
	// and the state after the last step.
	run func(s *torch.Scope, x *ts.Tensor, state []*ts.Tensor, w torch.RNNWeights) (y *ts.Tensor, last []*ts.Tensor)
}

var cells = map[string]cell{
	LSTM: {gates: 4, states: 2, run: func(s *torch.Scope, x *ts.Tensor, state []*ts.Tensor, w torch.RNNWeights) (*ts.Tensor, []*ts.Tensor) {
		y, h, c := s.LSTM(x, state[0], state[1], w)
		return y, []*ts.Tensor{h, c}
	}},
	GRU: {gates: 3, states: 1, run: func(s *torch.Scope, x *ts.Tensor, state []*ts.Tensor, w torch.RNNWeights) (*ts.Tensor, []*ts.Tensor) {
		y, h := s.GRU(x, state[0], w)
		return y, []*ts.Tensor{h}
	}},
}

// Initialisation as in word_language_model: the embedding and the decoder uniform
// in +-0.1, the decoder's bias 0, recurrent weights PyTorch's default.
const embeddingBound = 0.1

func newRecurrent(c Config, seed uint64, device gotch.Device) (Model, error) {
	if err := c.checkRecurrent(); err != nil {
		return nil, err
	}
	m := &recurrent{config: c, device: device, cell: cells[c.Kind]}
	built, err := build(seed, device, func(p *params) {
		m.embedding = p.addAs(Embedding, "encoder.weight", uniform(embeddingBound), c.Vocab, c.Embed)
		in := c.Embed
		for i := range c.Layers {
			units := c.Hidden
			if c.Tied && i == c.Layers-1 {
				units = c.Embed
			}
			m.layers = append(m.layers, newRNNWeights(p, i, m.cell.gates*units, units, in))
			m.units = append(m.units, units)
			in = units
		}
		m.output = newRecurrentOutput(p, c, m.embedding, in)
	})
	if err != nil {
		return nil, fmt.Errorf("make the model: %w", err)
	}
	m.params = built.list
	return m, nil
}

func newRNNWeights(p *params, layer int, rows, units, in int64) torch.RNNWeights {
	init := uniform(inverseRoot(units))
	w := torch.RNNWeights{
		InputHidden:  p.add(fmt.Sprintf("rnn.weight_ih_l%d", layer), init, rows, in),
		HiddenHidden: p.add(fmt.Sprintf("rnn.weight_hh_l%d", layer), init, rows, units),
		InputBias:    p.add(fmt.Sprintf("rnn.bias_ih_l%d", layer), init, rows),
		HiddenBias:   p.add(fmt.Sprintf("rnn.bias_hh_l%d", layer), init, rows),
	}
	gates := slices.Repeat([]int64{units}, int(rows/units))
	p.split(fmt.Sprintf("rnn.weight_ih_l%d", layer), 0, gates...)
	p.split(fmt.Sprintf("rnn.weight_hh_l%d", layer), 0, gates...)
	return w
}

func newRecurrentOutput(p *params, c Config, embedding *ts.Tensor, width int64) OutputLayer {
	if c.Softmax == Adaptive {
		return newAdaptiveSoftmax(p, "decoder", uniform(embeddingBound), c, width)
	}
	head := fullSoftmax{weight: embedding}
	if !c.Tied {
		head.weight = p.addAs(OutputRow, "decoder.weight", uniform(embeddingBound), c.Vocab, width)
	}
	head.bias = p.add("decoder.bias", constant(0), c.Vocab)
	return head
}

func (m *recurrent) Config() Config      { return m.config }
func (m *recurrent) Params() []Param     { return m.params }
func (m *recurrent) TimeMajor() bool     { return true }
func (m *recurrent) CarriesState() bool  { return true }
func (m *recurrent) Context() int64      { return 0 }
func (m *recurrent) Close()              { dropAll(m.params) }
func (m *recurrent) Output() OutputLayer { return m.output }

func (m *recurrent) NewState(batch int64) (*State, error) {
	return newState(batch, m.units, m.cell.states, m.device)
}

func (m *recurrent) Forward(s *torch.Scope, ids *ts.Tensor, state *State, mode Mode) Hidden {
	d := m.config.Dropout
	if mode == Evaluate {
		d = Dropout{}
	}
	x := s.Embedding(dropRows(s, m.embedding, d.Embed), ids) // [T, B, E]
	x = drop(s, x, d.Input, d.Locked)
	raw := x
	for i, w := range m.layers {
		w.HiddenHidden = s.Dropout(w.HiddenHidden, d.Weight)
		y, last := m.cell.run(s, x, state.layers[i], w)
		state.set(s, i, last...)
		x, raw = y, y
		if i < len(m.layers)-1 {
			x = drop(s, x, d.Hidden, d.Locked)
		}
	}
	x = drop(s, x, d.Output, d.Locked)
	return Hidden{States: s.Reshape(x, -1, m.units[len(m.units)-1]), Raw: raw}
}
