package spec

// A Rule is an instance of an optimizer: its settings, its own numbers and its
// formula.
type Rule interface {
	// State declares the values that persist between steps. Every call returns the
	// same declarations.
	State() State

	// Predict comes before the forward pass.
	Predict(st *Step)

	// Measure is the first pass over the gradients. It sums and does not write.
	// Every parameter's sums have "gg", |g|^2. If a sum is not finite, the step ends
	// there.
	Measure(st *Step)

	// Update moves the parameters.
	Update(st *Step)

	// Observe takes a validation loss and reports whether averaging of the
	// weights starts with it.
	Observe(validationLoss float64) (averagingStarts bool)
}

// A baseline is a rule's part that most kinds share: no prediction, and only the
// gradients' norms as sums.
type baseline struct{}

func (baseline) Predict(*Step) {}

func (baseline) Measure(st *Step) { squares.Run(st, st.Params, nil) }

func (baseline) Observe(float64) bool { return false }

// A State declares a rule's values that persist between steps, with their keys in
// saved states.
type State struct {
	Scalars []Scalar
	Ints    []Int
	Tensors []TensorState                               // for each parameter
	Numbers []ParamNumber                               // likewise
	Average string                                      // the tensor that is an average of the parameter; "" if there is none
	Check   func(scalar func(key string) float64) error // checks that restored scalars fit together; nil if all combinations are valid
}

// A Scalar is a number of the rule. Min and Max bound restored values; with Open Min
// is itself too small, and a Max of 0 is Largest.
type Scalar struct {
	Key      string
	At       *float64
	Min, Max float64
	Open     bool
}

// An Int is a whole number of the rule. A restored value must be from Min to Max.
type Int struct {
	Key      string
	At       *int64
	Min, Max int64
}

// A TensorState is a tensor for each parameter, of the parameter's type and on its
// device. It starts as zeros.
type TensorState struct {
	Name string

	// Shape returns its shape for p, or nil if p has none. A nil Shape is the
	// parameter's own.
	Shape func(p *Param) []int64

	Start    func(p *Param, t Tensor) // fills in other values than zeros
	Squares  bool                     // squares of gradients: never negative, and refused if the type cannot hold them
	Optional bool                     // Machine.Create makes it
}

// A ParamNumber is a number for each parameter.
type ParamNumber struct {
	Name  string
	Start float64
	Min   float64
	Max   float64 // 0 for Largest
}

// Lowest and Largest bound the numbers of a restored state, so that products of a
// few of them are finite. Lowest as a minimum allows all of them.
const (
	Largest = 1e100
	Lowest  = -Largest
)

// steps counts, for each parameter, the steps in which it had a gradient.
var steps = ParamNumber{Name: "step"}
