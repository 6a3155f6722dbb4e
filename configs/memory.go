package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// A Cost estimates what training with settings takes, in bytes where it is memory.
type Cost struct {
	Count      int64 // of the parameters
	Parameters int64
	Gradients  int64
	State      int64 // of the optimizer, an average of the weights included
	Checkpoint int64 // the copy of parameters and state that is written while training continues
	Program    int64 // what the program takes without tensors
	Gaps       int64 // memory of the heap between tensors, and of the library of matrix products
	Moments    []Moment
	FLOPs      int64 // for a token of training
}

// A Moment is a point of a step at which much memory is in use.
type Moment struct {
	Name        string
	Gradients   int64 // the ones that exist
	Activations int64 // what the forward pass has kept, and the work on it
	Copies      int64 // of weights, gradients and logits, for a while
}

func (m Moment) total() int64 { return m.Gradients + m.Activations + m.Copies }

// Peak returns the moment at which most memory is in use.
func (c Cost) Peak() Moment {
	return slices.MaxFunc(c.Moments, func(a, b Moment) int { return cmp.Compare(a.total(), b.total()) })
}

// Tensors returns the memory of all tensors at the peak.
func (c Cost) Tensors() int64 { return c.Parameters + c.State + c.Peak().total() }

// Total returns the memory at the peak.
func (c Cost) Total() int64 { return c.Tensors() + c.Checkpoint + c.Gaps + c.Program }

// What the program takes by itself: on a CPU as measured, on a GPU CUDA's context and workspaces
// and what a step holds that moves small tensors together.
const (
	programOnCPU = 180 << 20
	programOnGPU = 1 << 30
)

func (c Cost) String() string {
	size := func(bytes int64) string { return humanize.IBytes(uint64(bytes)) }
	peak := c.Peak()
	return fmt.Sprintf("%s parameters, %s FLOPs a token; memory about %s, at its peak in %s: parameters %s, gradients %s, optimizer %s, activations %s, copies %s, gaps %s, a checkpoint %s, program %s",
		humanize.Comma(c.Count), strings.TrimSpace(humanize.SIWithDigits(float64(c.FLOPs), 1, "")), size(c.Total()), peak.Name,
		size(c.Parameters), size(peak.Gradients), size(c.State), size(peak.Activations), size(peak.Copies), size(c.Gaps), size(c.Checkpoint), size(c.Program))
}

// What the loss takes for logits at a time: on a CPU torch.DefaultChunkBytes, on a GPU at most
// torch's largestChunk, where much memory is free.
const (
	chunkOnCPU = 32 << 20
	chunkOnGPU = 512 << 20
)

// Cost estimates the cost of training on one of ranks processes, with a dataset's
// vocabulary, on a GPU or a CPU. known is false for a kind of model that says nothing of its
// memory.
func (s Settings) Cost(vocab, ranks int, gpu bool) (c Cost, known bool) {
	m := s.Model
	m.Vocab = max(m.Vocab, int64(vocab))
	low := s.Train.Precision == spec.BFloat16
	tensors, kept, known := m.Outline(spec.Pass{Low: low, Device: gpu})
	kind, err := koalaspec.Lookup(s.Optimizer.Kind)
	if !known || err != nil {
		return c, false
	}
	params := make([]*koalaspec.Param, len(tensors))
	output, matrices, largest := int64(0), int64(0), int64(0)
	for i, t := range tensors {
		n := t.Elements()
		c.Count += n
		largest = max(largest, n)
		switch koalaspec.Role(t.Role) {
		case koalaspec.Matrix:
			matrices += n
		case koalaspec.Output:
			output += n
		}
		params[i] = koalaspec.OfShape(koalaspec.Role(t.Role), t.Shape, t.Parts, t.PartsDim)
	}
	if m.Tied {
		output = m.Vocab * m.Embed
	}
	state, temporary, err := kind.StateElements(s.Optimizer.Values, params)
	if err != nil {
		return c, false
	}
	const size = 4 // bytes of a number
	texts := int64(max(1, (s.Train.Batch+ranks-1)/max(1, ranks)))
	length := int64(s.SequenceLength())
	tokens := texts * length
	c.Parameters, c.Gradients, c.State = size*c.Count, size*c.Count, size*state
	body, logits := m.Multiplications(length)
	c.FLOPs = 6 * (body + logits)
	if gpu {
		c.Program = programOnGPU
		if largest*size > koalaspec.Together {
			temporary = max(temporary, onLists*largest)
		}
	} else {
		c.Program, c.Checkpoint = programOnCPU, c.Parameters+c.State
	}
	c.Moments = s.moments(m, kept, c, tokens, sizes{output: size * output, matrices: size * matrices, largest: size * largest, temporary: size * temporary}, low, gpu)
	c.Gaps = int64(float64(c.Tensors()) * gaps(kept.Blocks > 0, low, gpu, s.Train.GradientCheckpointing))
	if !gpu {
		c.Gaps += 3 * chunkOf(tokens, m.Vocab, low, gpu) / 2
	}
	return c, true
}

// onLists is how many copies of a parameter a step of most kinds holds on a device.
const onLists = 4

// gaps is the share of the tensors' memory that the heap takes beside them, as it was measured
// on a CPU (docs/training.md). Freed memory stays in the heap (torch.Main), so that blocks leave
// gaps of many sizes; with gradient checkpointing it goes back.
func gaps(blocks, low, gpu, checkpointing bool) float64 {
	switch {
	case gpu:
		return 1. / 12
	case checkpointing:
		return 0
	case blocks && low: // and copies in the order in which bfloat16 is multiplied
		return 0.42
	case blocks:
		return 0.3
	}
	return 1. / 16
}

// chunkOf returns the bytes of a chunk of logits: chunks have equal heights, which on a CPU
// are twice as high with products in bfloat16.
func chunkOf(tokens, vocab int64, low, gpu bool) int64 {
	const number = 4 // bytes
	chunk := int64(chunkOnCPU)
	switch {
	case gpu:
		chunk = chunkOnGPU
	case low:
		chunk *= 2
	}
	rows := max(1, min(tokens, chunk/(number*vocab)))
	chunks := (tokens + rows - 1) / rows
	return number * vocab * ((tokens + chunks - 1) / chunks)
}

// sizes are bytes of parameters: of the output layer, of all matrices, of the largest tensor,
// and what the optimizer holds while it moves one.
type sizes struct{ output, matrices, largest, temporary int64 }

// moments estimates a step. With accumulated batches all gradients exist from the start.
func (s Settings) moments(m spec.Model, kept spec.Kept, c Cost, tokens int64, of sizes, low, gpu bool) []Moment {
	forward, block := tokens*kept.Token+kept.Fixed, int64(0)
	if kept.Blocks > 0 {
		each := tokens * kept.Block
		if low {
			each += of.matrices / kept.Blocks / 2 // bfloat16 copies of the weights
		}
		if s.Train.GradientCheckpointing {
			block = each - tokens*kept.Input
			each = tokens * kept.Input
		}
		forward += kept.Blocks * each
	}
	work := block + tokens*kept.Work
	before := int64(0)
	if s.Train.Accumulate > 1 {
		before = c.Gradients
	}
	// The loss computes the gradient of the output layer, a chunk of logits at a time.
	logits := chunkOf(tokens, m.Vocab, low, gpu)
	if gpu {
		logits *= 2 // and their exponentials
	}
	if low {
		logits += of.output / 2 // a bfloat16 copy of the weight
	}
	if low && gpu {
		logits += of.output / 2 // and of its gradient
	}
	loss := Moment{Name: "the loss", Gradients: before + of.output, Activations: forward, Copies: logits + 4*tokens*m.Embed}
	backward := Moment{Name: "the backward pass", Gradients: before + of.output + (c.Gradients-of.output)/max(1, kept.Blocks), Activations: forward + work}
	// At its end all gradients exist, and of the activations what the blocks gave to each other.
	end := Moment{Name: "the end of the backward pass", Gradients: max(before, c.Gradients) + before/max(1, kept.Blocks), Activations: tokens * (kept.Token + kept.Work)}
	if s.Train.GradientCheckpointing {
		end.Activations = forward + work
	} else {
		end.Activations += 2 * tokens * kept.Input * kept.Blocks
	}
	if m.Tied {
		end.Copies = of.output // the embedding's gradient, until it is added
	}
	// Logged steps copy the parameters, to measure how far they move.
	step := Moment{Name: "the optimizer's step", Gradients: c.Gradients, Copies: c.Parameters + of.temporary}
	return []Moment{loss, backward, end, step}
}
