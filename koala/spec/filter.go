package spec

import (
	"math"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// A filter is the common part of the KOALA kinds: the measurement L of a target loss
// L*, its variance R, and the numbers of a step along gradients. R is fixed, or the
// running mean of the losses' mean squares.
type filter struct {
	target float64 // L*

	r     float64 // 0 before the first step if startsAtFirst
	fixed bool
	alpha float64

	// Of the step.
	steepest    float64 // largest |h|^2
	moved, path float64 // sums of |g|^2, weighted by the squared rate and not
}

// filterSettings are the hyperparameters of the measurement.
func filterSettings() []setting.Declaration {
	memory := share("alpha_r", "memory of the adaptive r", always(0.9))
	memory.Idle = []setting.Idle{{When: []setting.Condition{setting.IsNot("r", "adaptive")}, Reason: "the variance is fixed"}}
	return []setting.Declaration{
		hyper("r", "variance of the measured loss; adaptive follows the losses' second moment",
			setting.FloatOr{Word: "adaptive", Numbers: setting.Positive}, always("adaptive")),
		memory,
		hyper("target", "loss that the filter aims for, in nats; 0 as published, below the loss that can be reached", setting.Natural, always(0)),
	}
}

// newFilter starts an adaptive R at start; at 0 it takes the first mean square.
func newFilter(v setting.Values, start float64) filter {
	if r := v.Float("r"); r > 0 {
		return filter{r: r, fixed: true, target: v.Float("target")}
	}
	return filter{r: start, alpha: v.Float("alpha_r"), target: v.Float("target")}
}

// Predict does nothing.
func (f *filter) Predict(*Step) {}

// Measure sums the gradients' norms, and with weight decay g.p and |p|^2.
func (f *filter) Measure(st *Step) {
	if st.anyDecay() {
		moments.Run(st, st.Params, nil)
	} else {
		squares.Run(st, st.Params, nil)
	}
}

func (f *filter) Observe(float64) bool { return false }

// minNoise keeps R, a divisor, positive if the losses are zero for thousands of
// steps.
const minNoise = 1e-100

// noise returns R for the step.
func (f *filter) noise(st *Step) float64 {
	if !f.fixed && f.r == 0 {
		f.r = max(minNoise, st.MeanSquare)
	} else if !f.fixed {
		f.r = max(minNoise, f.alpha*f.r+(1-f.alpha)*st.MeanSquare)
	}
	st.Info.R, st.Info.Innovation = f.r, f.innovation(st)
	return f.r
}

func (f *filter) noiseState() Scalar { return Scalar{Key: "r", At: &f.r} }

// minGradient is the norm below which the KOALA kinds skip a tensor, as their
// authors do.
const minGradient = 1e-9

// begin skips the parameters whose gradient vanishes, and initializes the step's
// numbers.
func (f *filter) begin(st *Step) {
	f.steepest, f.moved, f.path = 0, 0, 0
	kept := st.Params[:0]
	for _, p := range st.Params {
		if math.Sqrt(p.Sums["gg"]) < minGradient {
			st.Info.Skipped++
			st.Skipped = append(st.Skipped, p)
			continue
		}
		kept = append(kept, p)
	}
	st.Params = kept
}

// normSquare returns |h|^2 for h = c g + wd p, the gradient of the loss with its
// decay, where c clips.
func (st *Step) normSquare(p *Param) float64 {
	c, wd := st.Clip, p.WeightDecay
	return max(0, c*c*p.Sums["gg"]+2*c*wd*p.Sums["gp"]+wd*wd*p.Sums["pp"])
}

// innovation is the measurement less its prediction, L - L*: how far the loss is
// from the target. A minibatch whose loss is below the target moves the weights up
// the gradient.
func (f *filter) innovation(st *Step) float64 { return st.Loss - f.target }

// innovationOf is the innovation of the tensor's own filter, whose loss has the
// weight decay in it.
func (f *filter) innovationOf(st *Step, p *Param) float64 {
	return f.innovation(st) + p.WeightDecay/2*p.Sums["pp"]
}

// took adds a tensor to the step's numbers: |h|^2 = n2, and it moves by rate times
// its gradient.
func (f *filter) took(st *Step, p *Param, n2, rate float64) {
	f.steepest = max(f.steepest, n2)
	f.moved += rate * rate * p.Sums["gg"]
	f.path += p.Sums["gg"]
	if f.path > 0 {
		st.Info.EffectiveLR = math.Sqrt(f.moved / f.path)
	}
}

// condition returns sigma R/S, the variance after a measurement of variance r along
// a gradient of squared norm n2: sigma - sigma^2 n2/S without a difference of near
// numbers, so that it stays positive.
func condition(sigma, n2, r float64) float64 {
	return max(minSigma, sigma*(r/(sigma*n2+r)))
}

// minSigma keeps a variance positive if a gradient is so steep that the remaining
// variance is below float64's range.
const minSigma = 1e-300

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
