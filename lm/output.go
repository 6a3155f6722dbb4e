package lm

import (
	"slices"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// An OutputLayer turns features into a distribution over the next token.
type OutputLayer interface {
	// Loss returns the mean cross-entropy of features [N, D] against targets, int64
	// [N]; rows with a negative target do not count.
	Loss(s *torch.Scope, features, targets *ts.Tensor, o torch.CrossEntropyOptions) torch.Loss

	// Logits returns scores of all tokens, [N, V], whose softmax is the distribution.
	Logits(s *torch.Scope, features *ts.Tensor) *ts.Tensor

	// LogProbs returns the log-probabilities of all tokens, [N, V].
	LogProbs(s *torch.Scope, features *ts.Tensor) *ts.Tensor
}

// fullSoftmax is a softmax over the whole vocabulary.
type fullSoftmax struct {
	weight *ts.Tensor // [V, D]; the embedding's where they are tied
	bias   *ts.Tensor // [V], or nil
}

// NewSoftmax returns an output layer over the whole vocabulary, with weight [V, D]
// and bias [V], which may be nil.
func NewSoftmax(weight, bias *ts.Tensor) OutputLayer { return fullSoftmax{weight, bias} }

func (l fullSoftmax) Loss(s *torch.Scope, features, targets *ts.Tensor, o torch.CrossEntropyOptions) torch.Loss {
	return s.CrossEntropy(features, l.weight, l.bias, targets, o)
}

func (l fullSoftmax) Logits(s *torch.Scope, features *ts.Tensor) *ts.Tensor {
	return s.Linear(features, l.weight, l.bias)
}

func (l fullSoftmax) LogProbs(s *torch.Scope, features *ts.Tensor) *ts.Tensor {
	return s.LogSoftmax(l.Logits(s, features))
}

// adaptiveSoftmax is the output layer of Grave et al. (2017), in PyTorch's form:
// the vocabulary, by falling frequency, is cut into a head and tails. The head's
// distribution is over its own tokens and one entry for each tail; a tail's
// distribution, over its tokens, comes from a narrower projection and is computed
// only where the target is in the tail.
//
//	log p(w) = log p_head(w)                        w in the head
//	log p(w) = log p_head(tail) + log p_tail(w)     w in a tail
type adaptiveSoftmax struct {
	head  fullSoftmax // [first cutoff + tails, D]
	tails []tail
}

type tail struct {
	from, to   int64       // its tokens
	projection *ts.Tensor  // [d, D]
	output     fullSoftmax // [to - from, d]
}

// tailDivisor is the ratio of the widths of successive tails' projections (PyTorch's
// default).
const tailDivisor = 4

func newAdaptiveSoftmax(p Builder, init Init, c Config, width int64) OutputLayer {
	return adaptiveOf(p, init, append(slices.Clone(c.Tails()), c.Vocab), width, tailDivisor)
}

// adaptiveOf makes the layer over clusters that end at ends.
func adaptiveOf(p Builder, init Init, ends []int64, width, divisor int64) *adaptiveSoftmax {
	first, head := ends[0]+int64(len(ends)-1), p.In("head")
	l := &adaptiveSoftmax{head: fullSoftmax{
		weight: head.Output("weight", init, first, width), bias: head.Vector("bias", Constant(0), first),
	}}
	narrow := width
	for i, to := range ends[1:] {
		narrow = max(1, narrow/divisor)
		tailOf := p.In("tail").At(i)
		l.tails = append(l.tails, tail{
			from: ends[i], to: to,
			projection: tailOf.At(0).Matrix("weight", init, narrow, width),
			output:     fullSoftmax{weight: tailOf.At(1).Output("weight", init, to-ends[i], narrow)},
		})
	}
	return l
}

func (l *adaptiveSoftmax) Loss(s *torch.Scope, features, targets *ts.Tensor, o torch.CrossEntropyOptions) torch.Loss {
	ids := o.Targets
	if ids == nil {
		ids = torch.ToSlice[int64](s, targets)
	}
	device, err := features.Device()
	s.Fail(err)
	if !s.OK() {
		return torch.Loss{}
	}
	inHead, rows, inTail := l.split(ids)
	onDevice := func(values []int64) *ts.Tensor {
		return s.Upload(torch.FromSlice(s, values, int64(len(values))), device)
	}
	tokens := int64(0)
	for _, id := range ids {
		if id >= 0 {
			tokens++
		}
	}
	unread := o.Unread
	o.PerToken, o.Unread = true, true
	loss := l.head.Loss(s, features, onDevice(inHead), o)
	each, total := []*ts.Tensor{loss.PerToken}, loss.Mean
	for i, t := range l.tails {
		if len(rows[i]) == 0 {
			continue // no token of the step is in the tail: its weights get no gradient
		}
		h := s.Linear(s.IndexSelect(features, 0, onDevice(rows[i])), t.projection, nil)
		part := t.output.Loss(s, h, onDevice(inTail[i]), o)
		each = append(each, part.PerToken)
		total = s.Add(total, s.Scale(part.Mean, float64(len(rows[i]))/float64(tokens)))
	}
	// nats sums each token's losses in the head and in its tail.
	nats := func(values []float64) []float64 {
		nats, values := values[:len(ids)], values[len(ids):]
		for i := range l.tails {
			for j, row := range rows[i] {
				nats[row] += values[j]
			}
			values = values[len(rows[i]):]
		}
		return nats
	}
	all := &torch.UnreadLoss{Values: s.Cat(0, each...), Numbers: func(values []float64) torch.LossNumbers {
		n := torch.LossNumbers{Tokens: tokens}
		for _, v := range nats(values) {
			n.Nats += v / float64(max(1, tokens))
			n.MeanSquare += v * v / float64(max(1, tokens))
		}
		return n
	}}
	if unread {
		return torch.Loss{Mean: total, Unread: all}
	}
	values := torch.ToSlice[float64](s, all.Values)
	if !s.OK() {
		return torch.Loss{}
	}
	loss = torch.Loss{Mean: total, LossNumbers: all.Numbers(slices.Clone(values))}
	loss.PerToken = s.To(torch.FromSlice(s, nats(values), int64(len(ids))), gotch.Float, gotch.CPU)
	return loss
}

// split returns the head's targets, and for each tail the rows whose target is in
// the tail, with these targets' indices within the tail.
func (l *adaptiveSoftmax) split(ids []int64) (head []int64, rows, targets [][]int64) {
	head = slices.Clone(ids)
	rows, targets = make([][]int64, len(l.tails)), make([][]int64, len(l.tails))
	for row, id := range ids {
		for i, t := range l.tails {
			if id >= t.from && id < t.to {
				head[row] = l.tails[0].from + int64(i)
				rows[i], targets[i] = append(rows[i], int64(row)), append(targets[i], id-t.from)
			}
		}
	}
	return head, rows, targets
}

// Logits returns log-probabilities: no other scores cover the whole vocabulary.
func (l *adaptiveSoftmax) Logits(s *torch.Scope, features *ts.Tensor) *ts.Tensor {
	return l.LogProbs(s, features)
}

func (l *adaptiveSoftmax) LogProbs(s *torch.Scope, features *ts.Tensor) *ts.Tensor {
	head := l.head.LogProbs(s, features)
	first := l.tails[0].from
	parts := []*ts.Tensor{s.Narrow(head, 1, 0, first)}
	for i, t := range l.tails {
		within := t.output.LogProbs(s, s.Linear(features, t.projection, nil))
		parts = append(parts, s.Add(within, s.Narrow(head, 1, first+int64(i), 1)))
	}
	return s.Cat(1, parts...)
}
