package lm

import (
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// An OutputLayer turns hidden states into a distribution over the next token.
type OutputLayer interface {
	// Loss is the mean cross-entropy of hidden [N, D] against targets, int64 [N];
	// rows with a negative target do not count.
	Loss(s *torch.Scope, hidden, targets *ts.Tensor, o torch.CrossEntropyOptions) torch.Loss

	// LogProbs returns the logarithms of the probabilities, [N, V].
	LogProbs(s *torch.Scope, hidden *ts.Tensor) *ts.Tensor
}

// fullSoftmax is the usual output layer, over the whole vocabulary.
type fullSoftmax struct {
	weight *ts.Tensor // [V, D]
	bias   *ts.Tensor // [V], or nil
}

func (l fullSoftmax) Loss(s *torch.Scope, hidden, targets *ts.Tensor, o torch.CrossEntropyOptions) torch.Loss {
	return s.CrossEntropy(hidden, l.weight, l.bias, targets, o)
}

func (l fullSoftmax) LogProbs(s *torch.Scope, hidden *ts.Tensor) *ts.Tensor {
	return s.LogSoftmax(s.Linear(hidden, l.weight, l.bias))
}
