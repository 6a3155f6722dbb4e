package lm

import (
	"fmt"
	"slices"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// adaptiveSoftmax is the output layer of Grave et al. (2017), in PyTorch's form:
// the vocabulary, by falling frequency, is cut into a head and tails. The head's
// distribution is over its own tokens and the tails as a whole; a tail's, over
// its tokens, comes from a narrower projection and is computed for those tokens
// alone that are in it. The larger a tail, the rarer.
type adaptiveSoftmax struct {
	head  fullSoftmax // [first cutoff + tails, D]
	tails []tail
	width int64 // D
}

type tail struct {
	from, to   int64       // its tokens
	projection *ts.Tensor  // [d, D]
	output     fullSoftmax // [to - from, d]
}

// tailDivisor is how much narrower than the one before it each tail's projection
// is (PyTorch's default).
const tailDivisor = 4

// cutoffs returns where the tails of an adaptive softmax begin, as given or
// chosen by the vocabulary as PyTorch's manual does: at a fifteenth of it and at
// three.
func (c Config) cutoffs() []int64 {
	if len(c.Cutoffs) > 0 {
		return c.Cutoffs
	}
	part := max(1, c.Vocab/15)
	return []int64{part, 3 * part}
}

func (c Config) checkSoftmax() error {
	switch {
	case c.Softmax == "" || c.Softmax == Full:
		return nil
	case c.Softmax != Adaptive:
		return fmt.Errorf("model.softmax %q is not known: it is full or adaptive", c.Softmax)
	case c.Tied:
		return fmt.Errorf("model.tied is for model.softmax full: an adaptive softmax has weights of its own")
	}
	cuts := c.cutoffs()
	if !slices.IsSorted(cuts) || cuts[0] < 1 || cuts[len(cuts)-1] >= c.Vocab {
		return fmt.Errorf("model.cutoffs %v: expected ascending tokens below the vocabulary of %d", cuts, c.Vocab)
	}
	return nil
}

func newAdaptiveSoftmax(p *params, name string, init initializer, c Config, width int64) OutputLayer {
	return adaptiveOf(p, name, init, append(slices.Clone(c.cutoffs()), c.Vocab), width, tailDivisor)
}

// adaptiveOf makes the layer over clusters that end at ends.
func adaptiveOf(p *params, name string, init initializer, ends []int64, width, divisor int64) *adaptiveSoftmax {
	first := ends[0] + int64(len(ends)-1)
	l := &adaptiveSoftmax{width: width, head: fullSoftmax{
		weight: p.addAs(OutputRow, name+".head.weight", init, first, width), bias: p.add(name+".head.bias", constant(0), first),
	}}
	narrow := width
	for i, to := range ends[1:] {
		narrow = max(1, narrow/divisor)
		l.tails = append(l.tails, tail{
			from: ends[i], to: to,
			projection: p.add(fmt.Sprintf("%s.tail.%d.0.weight", name, i), init, narrow, width),
			output:     fullSoftmax{weight: p.addAs(OutputRow, fmt.Sprintf("%s.tail.%d.1.weight", name, i), init, to-ends[i], narrow)},
		})
	}
	return l
}

// Loss: a token in the head costs what the head says; one in a tail what the head
// says of the tail and then what the tail says of the token.
func (l *adaptiveSoftmax) Loss(s *torch.Scope, hidden, targets *ts.Tensor, o torch.CrossEntropyOptions) torch.Loss {
	ids := torch.ToSlice[int64](s, targets)
	if !s.OK() {
		return torch.Loss{}
	}
	inHead, rows, inTail := l.split(ids)
	onDevice := func(values []int64) *ts.Tensor {
		return s.ToDeviceOf(torch.FromSlice(s, values, int64(len(values))), hidden)
	}
	o.PerToken = true
	loss := l.head.Loss(s, hidden, onDevice(inHead), o)
	nats := torch.ToSlice[float64](s, loss.PerToken)
	total := loss.Mean
	for i, t := range l.tails {
		if len(rows[i]) == 0 {
			continue
		}
		// A step that a tail has no token in leaves its weights without gradient.
		h := s.Linear(s.IndexSelect(hidden, 0, onDevice(rows[i])), t.projection, nil)
		part := t.output.Loss(s, h, onDevice(inTail[i]), o)
		for j, v := range torch.ToSlice[float64](s, part.PerToken) {
			nats[rows[i][j]] += v
		}
		total = s.Add(total, s.Scale(part.Mean, float64(part.Tokens)/float64(loss.Tokens)))
	}
	if !s.OK() {
		return torch.Loss{}
	}
	loss.Mean, loss.Nats, loss.MeanSquare = total, 0, 0
	for _, v := range nats {
		loss.Nats += v / float64(max(1, loss.Tokens))
		loss.MeanSquare += v * v / float64(max(1, loss.Tokens))
	}
	loss.PerToken = s.To(torch.FromSlice(s, nats, int64(len(nats))), gotch.Float, gotch.CPU)
	return loss
}

// split returns the head's targets, and for each tail the rows that are in it and
// their targets there.
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

func (l *adaptiveSoftmax) LogProbs(s *torch.Scope, hidden *ts.Tensor) *ts.Tensor {
	head := l.head.LogProbs(s, hidden)
	first := l.tails[0].from
	parts := []*ts.Tensor{s.Narrow(head, 1, 0, first)}
	for i, t := range l.tails {
		within := t.output.LogProbs(s, s.Linear(hidden, t.projection, nil))
		parts = append(parts, s.Add(within, s.Narrow(head, 1, first+int64(i), 1)))
	}
	return s.Cat(1, parts...)
}
