package koala

import (
	"math"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// minGradient is the norm below which the KOALA kinds leave a tensor out, as
// their authors do.
const minGradient = 1e-9

// A step is what one Predict or Update works on.
type step struct {
	*base
	Measurement
	scope *torch.Scope
	lanes []*lane // parameters that have a gradient
	idle  []*param
	scale float64 // what clipping multiplies the gradients by
	info  StepInfo

	steepest      float64 // largest |h|^2
	moved, square float64 // sums of |g|^2, as weighted by the squared rate and not
}

// A lane is one parameter in a pass.
type lane struct {
	*param
	torch.Lane
}

// Sums of the first pass, by what they are called in a lane.
const (
	sumGG = iota // |g|^2
	sumGP        // g.p
	sumPP        // |p|^2
	sumGA        // g.a
	sumGB
	sumPA
	sumPB
)

// gather collects the gradients.
func (st *step) gather() {
	for _, p := range st.params {
		g := st.scope.Grad(p.p)
		if g == nil || p.count == 0 {
			st.info.Skipped++
			st.idle = append(st.idle, p)
			continue
		}
		l := &lane{param: p}
		l.P, l.G = p.p, g
		if l.fused && !st.operators {
			l.G = st.scope.LaidOutLike(p.p, g)
		}
		st.lanes = append(st.lanes, l)
	}
}

// all returns a lane of every parameter, whether it has a gradient or not.
func (st *step) all() []*lane {
	lanes := make([]*lane, len(st.params))
	for i, p := range st.params {
		lanes[i] = &lane{param: p}
		lanes[i].P = p.p
	}
	return lanes
}

// measure reads the gradients' norm off the first pass, and the factor that
// clips it. It reports whether all sums are finite.
func (st *step) measure() bool {
	square := 0.0
	for _, l := range st.lanes {
		for _, v := range l.Sum {
			if !finite(v) {
				st.info = StepInfo{NonFinite: true}
				return false
			}
		}
		square += l.Sum[sumGG]
	}
	norm := math.Sqrt(square)
	if !finite(norm) {
		st.info = StepInfo{NonFinite: true}
		return false
	}
	st.info.GradNorm = norm
	if st.clip > 0 && norm > st.clip {
		st.scale = st.clip / norm
	}
	return true
}

// squaresFit reports whether the parameters' type can hold the squares of the
// clipped gradients, for the kinds that keep their mean.
func (st *step) squaresFit() bool {
	for _, l := range st.lanes {
		limit := float64(math.MaxFloat32) // bfloat16's too
		switch l.P.DType() {
		case gotch.Double:
			limit = math.MaxFloat64
		case gotch.Half:
			limit = 65504
		}
		if st.scale*st.scale*l.Sum[sumGG] > limit {
			st.info = StepInfo{NonFinite: true}
			return false
		}
	}
	return true
}

// dropFlat leaves out the lanes whose gradient is too short to say anything.
func (st *step) dropFlat() {
	kept := st.lanes[:0]
	for _, l := range st.lanes {
		if math.Sqrt(l.Sum[sumGG]) < minGradient {
			st.info.Skipped++
			st.idle = append(st.idle, l.param)
			continue
		}
		kept = append(kept, l)
	}
	st.lanes = kept
}

// normSquare returns |h|^2 for h = c g + wd p, the gradient of the loss with its
// decay, where c clips.
func (st *step) normSquare(l *lane) float64 {
	c, wd := st.scale, l.decay
	return max(0, c*c*l.Sum[sumGG]+2*c*wd*l.Sum[sumGP]+wd*wd*l.Sum[sumPP])
}

// lossOf returns the loss that the tensor's filter sees, decay included.
func (st *step) lossOf(l *lane) float64 { return st.Loss + l.decay/2*l.Sum[sumPP] }

// note takes a lane with |h|^2 = n2 that moves by rate times its gradient into
// the step's summary.
func (st *step) note(l *lane, n2, rate float64) {
	st.steepest = max(st.steepest, n2)
	st.moved += rate * rate * l.Sum[sumGG]
	st.square += l.Sum[sumGG]
	if st.square > 0 {
		st.info.EffectiveLR = math.Sqrt(st.moved / st.square)
	}
}

// rate returns the learning rate of the lane's group.
func (st *step) rate(l *lane) float64 { return st.LR() * l.param.lr }
