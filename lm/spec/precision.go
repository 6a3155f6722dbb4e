package spec

import "fmt"

// The precisions of training's matrix products.
const (
	AutoPrecision = "auto" // one of the others, by ChoosePrecision
	Float32       = "float32"
	BFloat16      = "bfloat16"
	TF32          = "tf32" // products of float32 matrices on CUDA, with factors of 10 bits
)

// A Processor is what training's products are made on.
type Processor struct {
	GPU      bool
	BFloat16 bool // a CPU with instructions for products of bfloat16 numbers
}

// On a CPU with such instructions bfloat16 is faster where its products make this many
// multiply-adds for each number of their matrices, which is converted or rounded beside
// them, and where they are this share of all. Less was slower on one CPU or another, or no
// faster (bench/README.md, "bfloat16 on a CPU").
const (
	leastIntensity = 160
	leastShare     = 1. / 3
)

// ChoosePrecision returns the precision that train.precision auto takes for this model,
// with its whole vocabulary, and batches of that many tokens, and the reason in a few
// words. It depends on nothing else, so that a command takes the same precision again.
//
// On a GPU it is float32, as PyTorch does unasked: nothing else was measured there.
func (m Model) ChoosePrecision(tokens int64, on Processor) (precision, reason string) {
	intensity, share := m.lowered(tokens)
	switch {
	case on.GPU:
		return Float32, "as PyTorch on a GPU, where bfloat16 and tf32 are for you to choose"
	case !on.BFloat16:
		return Float32, "this CPU has no instructions for bfloat16"
	case share < leastShare:
		return Float32, fmt.Sprintf("bfloat16 would make %.0f%% of the multiply-adds, and is faster from %.0f%%", 100*share, 100*leastShare)
	case intensity < leastIntensity:
		return Float32, fmt.Sprintf("%.0f multiply-adds for each number of the matrices; bfloat16 is faster from %d", intensity, leastIntensity)
	}
	return BFloat16, fmt.Sprintf("%.0f multiply-adds for each number of the matrices; it is faster from %d", intensity, leastIntensity)
}

// lowered describes the products that bfloat16 makes in the forward pass of that many
// tokens on a CPU: their multiply-adds for each number of their factors and results, and
// their share of all multiply-adds. Backward has the same products twice.
func (m Model) lowered(tokens int64) (intensity, share float64) {
	body, output := m.factors()
	if m.Softmax == Adaptive && len(output) > 0 {
		output = output[:1] // few tokens go beyond the first layer
	}
	var adds, numbers, all float64
	count := func(factors []Tensor, low bool) {
		for _, t := range factors {
			product := float64(tokens) * float64(t.Elements())
			all += product
			if low {
				adds += product
				numbers += float64(t.Elements() + tokens*(t.Shape[0]+t.Shape[1]))
			}
		}
	}
	count(body, m.KindOf().LowBody)
	count(output, true)
	if all == 0 {
		return 0, 0
	}
	return adds / max(numbers, 1), adds / all
}
