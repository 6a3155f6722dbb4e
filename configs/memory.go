package configs

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
)

// A Cost estimates what training with settings takes, in bytes where it is memory.
type Cost struct {
	Count       int64 // of the parameters
	Parameters  int64
	Gradients   int64
	State       int64 // of the optimizer, an average of the weights included
	Activations int64 // what the forward pass keeps, and the loss's chunk of logits
	Copies      int64 // of parameters and gradients, for a while
	FLOPs       int64 // for a token of training
}

// Total returns the memory on top of the program's own.
func (c Cost) Total() int64 {
	return c.Parameters + c.Gradients + c.State + c.Activations + c.Copies
}

// Program is about the memory that the program itself takes on a CPU.
const Program = 155 << 20

func (c Cost) String() string {
	size := func(bytes int64) string { return humanize.IBytes(uint64(bytes)) }
	return fmt.Sprintf("%s parameters, %s FLOPs a token; memory about %s: parameters %s, gradients %s, optimizer %s, activations and logits %s, copies %s, program %s",
		humanize.Comma(c.Count), strings.TrimSpace(humanize.SIWithDigits(float64(c.FLOPs), 1, "")), size(c.Total()+Program),
		size(c.Parameters), size(c.Gradients), size(c.State), size(c.Activations), size(c.Copies), size(Program))
}

// logits is the memory that the loss takes for logits, torch.DefaultChunkBytes.
const logits = 32 << 20

// Cost estimates the cost of training on one of ranks processes, with a dataset's
// vocabulary. known is false for a kind of model that says nothing of its memory.
func (s Settings) Cost(vocab, ranks int) (c Cost, known bool) {
	m := s.Model
	m.Vocab = max(m.Vocab, int64(vocab))
	tensors, activations, known := m.Outline()
	kind, err := koalaspec.Lookup(s.Optimizer.Kind)
	if !known || err != nil {
		return c, false
	}
	params := make([]*koalaspec.Param, len(tensors))
	largest := int64(0)
	for i, t := range tensors {
		c.Count += t.Elements()
		largest = max(largest, t.Elements())
		params[i] = koalaspec.OfShape(koalaspec.Role(t.Role), t.Shape, t.Parts, t.PartsDim)
	}
	state, averages, err := kind.StateElements(s.Optimizer.Values, params)
	if err != nil {
		return c, false
	}
	const size = 4 // bytes of a number
	texts := int64(max(1, (s.Train.Batch+ranks-1)/max(1, ranks)))
	length := int64(s.SequenceLength())
	tokens := texts * length
	c.Parameters, c.Gradients, c.State = size*c.Count, size*c.Count, size*state
	if s.Train.GradientCheckpointing {
		activations = activations/int64(m.Layers) + int64(m.Layers)*m.Embed
	}
	c.Activations = size*tokens*activations + min(logits, size*tokens*m.Vocab)
	// Logged steps copy the parameters, and checkpoints the state too; a tied layer has two
	// gradients until they are added.
	c.Copies = 2*c.Parameters + c.State
	if m.Tied {
		c.Copies += 2 * size * m.Vocab * m.Embed
	}
	if averages {
		c.Copies += 3 * size * largest // of the step of the average
	}
	body, output := m.Multiplications(length)
	c.FLOPs = 6 * (body + output)
	return c, true
}
