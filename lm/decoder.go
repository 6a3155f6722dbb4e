package lm

import (
	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// A Decoder continues texts side by side, token by token, each call at the cost
// of its new tokens alone: what came before is in the carried state or in the
// cache of keys and values.
type Decoder interface {
	// Next appends tokens, as many to each text, and returns the log-probabilities
	// [B, V] of the token that follows each.
	// Dropout is off, and no gradients are recorded.
	Next(s *torch.Scope, ids [][]int64) *ts.Tensor

	// Close frees the state.
	Close()
}

// A recurrentDecoder has all that it needs of a text in the carried state.
type recurrentDecoder struct {
	model *recurrent
	state *State
}

// NewDecoder starts so many texts.
func (m *recurrent) NewDecoder(texts int) (Decoder, error) {
	state, err := m.NewState(int64(texts))
	if err != nil {
		return nil, err
	}
	return &recurrentDecoder{m, state}, nil
}

// decoderPiece bounds how much of a long prompt is in memory at once.
const decoderPiece = 256

func (d *recurrentDecoder) Next(s *torch.Scope, ids [][]int64) *ts.Tensor {
	var logits *ts.Tensor
	s.NoGrad(func() {
		texts, length := int64(len(ids)), len(ids[0])
		var hidden *ts.Tensor
		for from := 0; from < length; from += decoderPiece {
			steps := min(decoderPiece, length-from)
			x := make([]int64, 0, steps*len(ids))
			for t := range steps {
				for _, text := range ids {
					x = append(x, text[from+t])
				}
			}
			in := s.To(torch.FromSlice(s, x, int64(steps), texts), gotch.Int64, d.model.device)
			out := d.model.Forward(s, in, d.state, Evaluate).States
			hidden = s.Narrow(out, 0, int64(steps-1)*texts, texts)
		}
		logits = d.model.Output().LogProbs(s, hidden)
	})
	return logits
}

func (d *recurrentDecoder) Close() { d.state.Close() }
