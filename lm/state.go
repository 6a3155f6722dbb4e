package lm

import (
	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// State is what a recurrent model carries from one batch to the next: for each
// layer its tensors [B, units]. It owns them.
type State struct {
	layers [][]*ts.Tensor
}

// newState makes a state of zeros: per layer, kinds tensors of [batch, units].
func newState(batch int64, units []int64, kinds int, device gotch.Device) (*State, error) {
	st := &State{layers: make([][]*ts.Tensor, len(units))}
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

func (st *State) each(f func(t *ts.Tensor)) {
	for _, layer := range st.layers {
		for _, t := range layer {
			f(t)
		}
	}
}

// set replaces a layer's tensors by copies that no graph hangs on. The old ones
// stay as they are until the scope ends: backward still needs their values.
func (st *State) set(s *torch.Scope, layer int, tensors ...*ts.Tensor) {
	for i, t := range tensors {
		next := s.Clone(s.Detach(t))
		if next == nil {
			return
		}
		s.Own(st.layers[layer][i])
		st.layers[layer][i] = s.Keep(next)
	}
}

// Reset makes it the state before a text.
func (st *State) Reset() error {
	return torch.Do(func(s *torch.Scope) error {
		st.each(func(t *ts.Tensor) { s.Zero(t) })
		return s.Err()
	})
}

// Tensors returns all tensors, in a fixed order; the state keeps owning them.
func (st *State) Tensors() []*ts.Tensor {
	var all []*ts.Tensor
	if st != nil {
		st.each(func(t *ts.Tensor) { all = append(all, t) })
	}
	return all
}

// Close frees the state. A nil state is fine.
func (st *State) Close() {
	if st != nil {
		st.each(func(t *ts.Tensor) { _ = t.Drop() })
		st.layers = nil
	}
}
