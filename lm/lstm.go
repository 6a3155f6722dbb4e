package lm

import (
	"fmt"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// lstm is the model of PyTorch's word_language_model and, with its dropouts, of
// AWD-LSTM (Merity et al. 2018): embedding, layers of LSTM, output layer. With
// tied weights the last layer has as many units as the embedding has columns.
type lstm struct {
	config    Config
	device    gotch.Device
	params    []Param
	embedding *ts.Tensor // [V, E]
	layers    []torch.LSTMWeights
	units     []int64
	output    OutputLayer
}

// Initialisation as in word_language_model: the embedding and the decoder uniform
// in +-0.1, the decoder's bias 0, recurrent weights PyTorch's default.
const embeddingBound = 0.1

func newLSTM(c Config, seed uint64, device gotch.Device) (Model, error) {
	m := &lstm{config: c, device: device}
	built, err := build(seed, device, func(p *params) {
		m.embedding = p.add("encoder.weight", uniform(embeddingBound), c.Vocab, c.Embed)
		in := c.Embed
		for i := range c.Layers {
			units := c.Hidden
			if c.Tied && i == c.Layers-1 {
				units = c.Embed
			}
			init := uniform(inverseRoot(units))
			m.layers = append(m.layers, torch.LSTMWeights{
				InputHidden:  p.add(fmt.Sprintf("rnn.weight_ih_l%d", i), init, 4*units, in),
				HiddenHidden: p.add(fmt.Sprintf("rnn.weight_hh_l%d", i), init, 4*units, units),
				InputBias:    p.add(fmt.Sprintf("rnn.bias_ih_l%d", i), init, 4*units),
				HiddenBias:   p.add(fmt.Sprintf("rnn.bias_hh_l%d", i), init, 4*units),
			})
			m.units = append(m.units, units)
			in = units
		}
		head := fullSoftmax{weight: m.embedding}
		if !c.Tied {
			head.weight = p.add("decoder.weight", uniform(embeddingBound), c.Vocab, in)
		}
		head.bias = p.add("decoder.bias", constant(0), c.Vocab)
		m.output = head
	})
	if err != nil {
		return nil, fmt.Errorf("make the model: %w", err)
	}
	m.params = built.list
	return m, nil
}

func (m *lstm) Config() Config      { return m.config }
func (m *lstm) Params() []Param     { return m.params }
func (m *lstm) TimeMajor() bool     { return true }
func (m *lstm) Close()              { dropAll(m.params) }
func (m *lstm) Output() OutputLayer { return m.output }

func (m *lstm) NewState(batch int64) (*State, error) {
	return newState(batch, m.units, 2, m.device)
}

func (m *lstm) Forward(s *torch.Scope, ids *ts.Tensor, state *State, mode Mode) Hidden {
	d := m.config.Dropout
	if mode == Evaluate {
		d = Dropout{}
	}
	embed := s.Embedding
	if m.config.Tied && d.Embed == 0 {
		embed = s.TiedEmbedding
	}
	x := embed(dropRows(s, m.embedding, d.Embed), ids) // [T, B, E]
	x = drop(s, x, d.Input, d.Locked)
	raw := x
	for i, w := range m.layers {
		w.HiddenHidden = s.Dropout(w.HiddenHidden, d.Weight)
		h, c := state.layers[i][0], state.layers[i][1]
		y, hLast, cLast := s.LSTM(x, h, c, w)
		state.set(s, i, hLast, cLast)
		x, raw = y, y
		if i < len(m.layers)-1 {
			x = drop(s, x, d.Hidden, d.Locked)
		}
	}
	x = drop(s, x, d.Output, d.Locked)
	return Hidden{States: s.Reshape(x, -1, m.units[len(m.units)-1]), Raw: raw}
}
