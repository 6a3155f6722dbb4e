package spec

import "math"

// A Role is a parameter's function in its network.
type Role string

const (
	Matrix    Role = "matrix"    // the weight of a linear or recurrent layer
	Embedding Role = "embedding" // a row for each token or position; tied, also the output layer's weight
	Output    Role = "output"    // the weight of an output layer, a row for each token
	Vector    Role = "vector"    // a bias or a gain
)

// A Param is one parameter with its optimizer state.
type Param struct {
	Name  string
	Shape []int64
	Count int64 // elements
	Role  Role

	// Parts are the sizes, along dimension PartsDim, of the matrices that share the
	// tensor: queries, keys and values, or the gates of a recurrent layer. It is nil
	// for one matrix.
	Parts    []int64
	PartsDim int

	LR          float64 // factor of its group's learning rate
	WeightDecay float64

	Value    Tensor
	Gradient Tensor // before clipping; in Update only

	State   map[string]Tensor  // by name, as the rule's State declares them
	Numbers map[string]float64 // likewise
	Sums    map[string]float64 // of the last pass that summed
}

// A Measurement summarizes the losses of a minibatch's samples (for a language
// model, of its tokens) whose mean was differentiated. The baselines look only at
// whether Loss is finite.
type Measurement struct {
	Loss       float64 // mean of the samples' losses
	MeanSquare float64 // mean of their squares, KOALA's estimate of the measurement's noise
}

// A StepInfo describes a step. The filter's numbers are zero for the baselines.
type StepInfo struct {
	Sigma       float64 // variance of the weights after the step (koala-m: P00; koala++: variance along the gradient)
	R           float64 // variance of the measurement
	Gain        float64 // Kalman gain along the gradient, h'Ph/(h'Ph+R), in [0, 1]; the largest over tensors
	EffectiveLR float64 // length of the step along the gradient / length of the gradient (kinds with a scaled direction: its factor)
	Innovation  float64 // measured loss less the target that the filter aims for
	GradNorm    float64 // of all gradients together, before clipping
	Length      Lengths // distances that the step moved the parameters, its prediction included; zero unless asked for
	Skipped     int     // tensors without a gradient, or for the KOALA kinds with one shorter than 1e-9
	NonFinite   bool    // the loss or a gradient was NaN, infinite or beyond what the state can hold; nothing was changed
}

// Lengths are distances by group of parameters, named as the settings of the groups.
type Lengths struct {
	Matrices   float64
	Embeddings float64 // and output layers
	Norms      float64 // norm gains and biases
}

// Of returns the distance of the role's group.
func (l *Lengths) Of(r Role) *float64 {
	switch r {
	case Embedding, Output:
		return &l.Embeddings
	case Vector:
		return &l.Norms
	}
	return &l.Matrices
}

// A Step holds the inputs of one Predict or Update.
type Step struct {
	Measurement
	Params  []*Param // with a gradient; in Predict all
	Skipped []*Param // without one; nil in Predict
	Clip    float64  // factor that clips the gradients, at most 1
	MayClip bool     // gradients have a largest norm
	LR      float64  // learning rate in effect, before the groups' factors
	Info    StepInfo

	Machine Machine
}

// Together is the number of bytes of parameters whose operators run together on a device. They
// take longer to run than to start, and their results do not take much memory.
const Together = 64 << 20

// A Machine runs passes over parameters and owns the tensors.
type Machine interface {
	// Run makes one sweep and returns its sums for each parameter. Where there is a
	// fused kernel of that name for a parameter's type and device, it runs in place
	// of the operators.
	Run(pass Sweep) []map[string]float64

	// Each runs f for every parameter and frees the tensors that f made, except
	// the ones that Hold returned.
	Each(params []*Param, f func(p *Param))

	// Hold keeps t until the step ends.
	Hold(t Tensor) Tensor

	// Within runs f and frees the tensors that f made, except the ones that Hold
	// returned.
	Within(f func())

	// Create makes the optional state tensor of p, as a copy of from.
	Create(p *Param, name string, from Tensor)

	// Values brings scalars to the host in one transfer.
	Values(scalars ...Tensor) []float64

	// FastBFloat16 reports whether the device multiplies bfloat16 faster than
	// float32.
	FastBFloat16() bool
}

// A Sweep is a pass with its arguments, as a [Machine] runs it.
type Sweep struct {
	Kernel    string            // fused form; "" if there is none
	Args      []string          // names of the arguments, in snake case
	Params    []*Param          // a parameter of several blocks may be there once for each
	Values    [][]float64       // for each parameter the arguments' values
	Operators func(i int)       // operator form for parameter i; nil if the pass only sums
	Together  func(which []int) // operator form for many parameters at a time, in place of Operators
	Sums      func(i int) Sums  // sums for parameter i after it; nil if there are none
}

// Sums are float64 scalars by name.
type Sums map[string]Tensor

// Each runs f for every parameter that has a gradient.
func (st *Step) Each(f func(p *Param)) { st.Machine.Each(st.Params, f) }

// Rate returns the learning rate for the parameter's group.
func (st *Step) Rate(p *Param) float64 { return st.LR * p.LR }

// ClippedGradient is the gradient after clipping.
func (st *Step) ClippedGradient(p *Param) Tensor {
	if st.Clip == 1 {
		return p.Gradient
	}
	return p.Gradient.Scale(st.Clip)
}

// Decayed is the clipped gradient with its weight decay, c g + wd p.
func (st *Step) Decayed(p *Param) Tensor { return p.Gradient.Mix(st.Clip, p.Value, p.WeightDecay) }

// anyDecay reports whether a parameter decays.
func (st *Step) anyDecay() bool {
	for _, p := range st.Params {
		if p.WeightDecay != 0 {
			return true
		}
	}
	return false
}

// corrections returns the shares of running means from 0 that are filled after t
// steps.
func corrections(beta1, beta2, t float64) (c1, c2 float64) {
	return 1 - math.Pow(beta1, t), 1 - math.Pow(beta2, t)
}
