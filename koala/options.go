package koala

import (
	"fmt"
	"math"
	"strings"
)

// The kinds of optimizer.
const (
	KindV     = "koala-v"
	KindM     = "koala-m"
	KindPP    = "koala++"
	KindD     = "koala-d"
	KindSGD   = "sgd"
	KindAdam  = "adam"
	KindAdamW = "adamw"
	KindASGD  = "asgd"
)

// Kinds returns all kinds.
func Kinds() []string {
	return []string{KindV, KindM, KindPP, KindD, KindSGD, KindAdam, KindAdamW, KindASGD}
}

// Options are the settings of all kinds; each kind reads its own. They are taken
// as they stand, zeros too: start from [Defaults].
type Options struct {
	LR   float64 // all: learning rate, > 0; for the KOALA kinds it multiplies the filter's own step
	Clip float64 // all: the gradients are scaled down to this global norm; 0 for no limit

	Sigma float64 // koala-v, koala++, koala-d: variance of the weights at the start, > 0
	Q     float64 // koala-v, koala++, koala-d: variance that each step adds, >= 0
	R     float64 // KOALA kinds: variance of the measurement, > 0; 0 to follow the losses' mean squares
	// AlphaR is the memory of that mean square, in [0, 1) (KOALA kinds).
	AlphaR float64

	SW float64 // koala-m: variance of the weights at the start, > 0
	SC float64 // koala-m: covariance of weights and velocities at the start, SC^2 <= SW SV
	SV float64 // koala-m: variance of the velocities at the start, >= 0
	A  float64 // koala-m: share of a velocity that is left a step later, in [0, 1]
	QW float64 // koala-m: variance added to the weights in the first step, >= 0; adapted later
	QV float64 // koala-m: variance that each step adds to the velocities, >= 0
	// Float32Scalars rounds the four numbers of koala-m to float32 that its
	// authors' code does, to reproduce its trajectories beyond 1e-6.
	Float32Scalars bool

	Symmetric   bool // koala++: the symmetric form, as the paper's Algorithm 1
	DecayInStep bool // koala-v: step along g + wd p; its authors decay in the norms alone and step along g

	Momentum float64 // sgd: share of the last direction that is kept, in [0, 1)
	Nesterov bool    // sgd: look ahead along the momentum

	Beta1 float64 // adam, adamw, koala-d: memory of the gradient's mean, in [0, 1)
	Beta2 float64 // adam, adamw, koala-d: memory of its mean square, in [0, 1)
	Eps   float64 // adam, adamw, koala-d: added to the root of that, > 0

	Nonmono int     // asgd: validation losses without a new best before averaging starts; 0 for AverageFrom alone
	Lambda  float64 // asgd: decay of the weights and, by a power, of the learning rate
	Alpha   float64 // asgd: that power
	// AverageFrom is the number of steps before averaging (asgd, PyTorch's t0);
	// negative to wait for Observe.
	AverageFrom int64
}

// Defaults returns the settings that the kind's authors use, KOALA++ in the
// symmetric form, and for KOALA-D those that koalad.go gives reasons for; for an unknown kind, which New refuses, the zero Options.
func Defaults(kind string) Options {
	switch kind {
	case KindV:
		return Options{LR: 1, Sigma: 0.1, Q: 1, AlphaR: 0.9}
	case KindM:
		return Options{LR: 1, SW: 0.1, SV: 0.1, A: 0.9, QW: 0.01, QV: 0.01, AlphaR: 0.9}
	case KindPP:
		return Options{LR: 1, Sigma: 0.1, Q: 0.1, AlphaR: 0.9, Symmetric: true}
	case KindD:
		return Options{LR: 1, Sigma: 0.01, Q: 1e-3, AlphaR: 0.9, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8}
	case KindSGD:
		return Options{LR: 0.1}
	case KindAdam, KindAdamW:
		return Options{LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
	case KindASGD:
		return Options{LR: 0.1, Nonmono: 5, Alpha: 0.75, AverageFrom: -1}
	}
	return Options{}
}

// New returns an optimizer of the given kind over the groups' parameters. A
// tensor that comes up more than once counts once, in its first group. What is
// wrong with the options is reported all at once.
func New(kind string, groups []Group, o Options) (Optimizer, error) {
	build, known := map[string]func(base, Options) (Optimizer, error){
		KindV: newKoalaV, KindM: newKoalaM, KindPP: newKoalaPP, KindD: newKoalaD,
		KindSGD: newSGD, KindAdam: newAdam, KindAdamW: newAdam, KindASGD: newASGD,
	}[kind]
	if !known {
		return nil, fmt.Errorf("optimizer %q: expected one of %s", kind, strings.Join(Kinds(), ", "))
	}
	if err := o.check(kind); err != nil {
		return nil, fmt.Errorf("optimizer %s: %w", kind, err)
	}
	params, err := newParams(groups)
	if err != nil {
		return nil, fmt.Errorf("optimizer %s: %w", kind, err)
	}
	opt, err := build(base{kind: kind, params: params, lr: o.LR, factor: 1, clip: o.Clip}, o)
	if err != nil {
		return nil, fmt.Errorf("optimizer %s: %w", kind, err)
	}
	return opt, nil
}

func (o Options) check(kind string) error {
	var bad []string
	want := func(ok bool, name string, value float64, range_ string) {
		if !ok || math.IsNaN(value) || math.IsInf(value, 0) {
			bad = append(bad, fmt.Sprintf("%s is %v: expected %s", name, value, range_))
		}
	}
	positive := func(name string, v float64) { want(v > 0, name, v, "a positive number") }
	natural := func(name string, v float64) { want(v >= 0, name, v, "0 or a positive number") }
	share := func(name string, v float64) { want(v >= 0 && v < 1, name, v, "a number in [0, 1)") }

	positive("LR", o.LR)
	natural("Clip", o.Clip)
	switch kind {
	case KindV, KindPP, KindD:
		positive("Sigma", o.Sigma)
		natural("Q", o.Q)
	case KindM:
		positive("SW", o.SW)
		natural("SV", o.SV)
		want(o.SC*o.SC <= o.SW*o.SV, "SC", o.SC, "SC^2 <= SW SV")
		want(o.A >= 0 && o.A <= 1, "A", o.A, "a number in [0, 1]")
		natural("QW", o.QW)
		natural("QV", o.QV)
	case KindSGD:
		share("Momentum", o.Momentum)
		if o.Nesterov && o.Momentum == 0 {
			bad = append(bad, "Nesterov: expected a Momentum above 0 with it")
		}
	case KindASGD:
		natural("Nonmono", float64(o.Nonmono))
		natural("Lambda", o.Lambda)
		natural("Alpha", o.Alpha)
	}
	switch kind {
	case KindV, KindM, KindPP, KindD:
		natural("R", o.R)
		share("AlphaR", o.AlphaR)
	}
	switch kind {
	case KindAdam, KindAdamW, KindD:
		share("Beta1", o.Beta1)
		share("Beta2", o.Beta2)
		positive("Eps", o.Eps)
	}
	if len(bad) > 0 {
		return fmt.Errorf("%s", strings.Join(bad, "; "))
	}
	return nil
}
