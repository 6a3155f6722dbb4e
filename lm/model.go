package lm

import (
	"fmt"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// Values of a Config's fields.
const (
	LSTM        = spec.LSTM
	GRU         = spec.GRU
	Transformer = spec.Transformer

	LayerNorm = spec.LayerNorm
	RMSNorm   = spec.RMSNorm
	Learned   = spec.Learned
	Rotary    = spec.Rotary
	GELU      = spec.GELU
	SwiGLU    = spec.SwiGLU

	Full     = spec.Full
	Adaptive = spec.Adaptive
)

// Config is a network's shape. Fields that its kind does not have are ignored.
type Config = spec.Model

// Dropout holds the probabilities with which training zeroes elements.
type Dropout = spec.Dropout

// Role is a parameter's function in its network. An optimizer may treat parameters
// of different roles differently.
type Role string

const (
	Matrix    Role = "matrix"    // the weight of a linear or recurrent layer
	Embedding Role = "embedding" // a row for each token or position; tied, it is the output layer's weight too
	OutputRow Role = "output"    // the weight of an output layer, a row for each token
	Vector    Role = "vector"    // a bias or a gain
)

// Param is a trained tensor and its name, the name that PyTorch's version of the
// model has.
type Param struct {
	Name   string
	Tensor *ts.Tensor
	Decay  bool // weight decay applies: matrices, not biases and gains
	Role   Role

	// Parts are the sizes, along dimension PartsDim, of the matrices that share the
	// tensor: queries, keys and values, or the gates of a recurrent layer. It is nil
	// for one matrix.
	Parts    []int64
	PartsDim int
}

// Mode says what a forward pass is for.
type Mode int

const (
	Evaluate    Mode = iota // no dropout
	Training                // dropout
	Recomputing             // training in which a Transformer's block keeps its input alone
)

// Features are the result of a forward pass, the input of the output layer and the
// loss.
type Features struct {
	States *ts.Tensor // [N, D] after dropout, in the order of the batch's targets
	Raw    *ts.Tensor // [T, B, D] before it, for activation regularisation; nil for models without it
}

// Input is what a model reads.
type Input struct {
	IDs *ts.Tensor // token ids, int64

	// First is, for each token, the place in its text of the first token of its
	// document, int64 like IDs: a Transformer then reads every document by itself. Nil
	// makes each text one document. Models that carry a state ignore it.
	First *ts.Tensor
}

// A Model is a network up to the output layer. This interface covers all differences
// between kinds of model: nothing outside a kind's own file checks its name.
type Model interface {
	Config() Config

	// Params are all trained tensors, each once, in a fixed order.
	Params() []Param

	// Forward runs over the input, [T, B] if the model is TimeMajor, else [B, T].
	// A model that carries a state starts from it and replaces it by its last state,
	// detached from the graph; others ignore it.
	Forward(s *torch.Scope, in Input, state *RecurrentState, mode Mode) Features

	// Output returns the output layer.
	Output() OutputLayer

	// NewState returns the carried state at the start of a text, for batch
	// sequences. It is empty for a model that carries no state.
	NewState(batch int64) (*RecurrentState, error)

	// CarriesState reports whether Forward continues the text from the state. Such a
	// model reads texts of any length piece by piece; other models read windows of
	// at most Context tokens, each from its start.
	CarriesState() bool

	// Context returns the largest number of tokens in a window, 0 for no limit.
	Context() int64

	// TimeMajor reports whether ids are [T, B], not [B, T].
	TimeMajor() bool

	// NewDecoder returns a decoder that continues the given number of texts in
	// parallel. The caller closes it.
	NewDecoder(texts int) (Decoder, error)

	// Close frees the parameters.
	Close()
}

// A Constructor makes a model with random weights on device, which depend on seed
// alone. The Config has been checked.
type Constructor func(c Config, seed uint64, device gotch.Device) (Model, error)

// constructors has a line for each kind of package spec.
var constructors = map[string]Constructor{
	LSTM:        newRecurrent(lstmCell),
	GRU:         newRecurrent(gruCell),
	Transformer: newTransformer,
}

// Register adds a kind of model. Call it while the program is initialised.
func Register(k spec.Kind, make Constructor) {
	spec.Register(k)
	constructors[k.Name] = make
}

// New makes a model with random weights on device, which depend on seed alone. The
// error names each value that no model of the kind can have.
func New(c Config, seed uint64, device gotch.Device) (Model, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	make, ok := constructors[c.Kind]
	if !ok {
		return nil, fmt.Errorf("model.kind %q has settings, but this program cannot make it", c.Kind)
	}
	return make(c, seed, device)
}

// CountParams returns the number of scalars in the parameters.
func CountParams(m Model) int64 {
	n := int64(0)
	for _, p := range m.Params() {
		n += torch.Count(p.Tensor)
	}
	return n
}
