package lm

import (
	"fmt"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// What a Config's words can be.
const (
	LSTM        = "lstm"
	GRU         = "gru"
	Transformer = "transformer"

	LayerNorm = "layer"
	RMSNorm   = "rms"
	Learned   = "learned"
	Rotary    = "rotary"
	GELU      = "gelu"
	SwiGLU    = "swiglu"

	Full     = "full"
	Adaptive = "adaptive"
)

// Config is a network's shape; what a kind does not use is ignored.
type Config struct {
	Kind    string // LSTM, GRU or Transformer
	Vocab   int64  // entries
	Layers  int
	Embed   int64   // width of the token embedding, and of a Transformer's residual stream
	Hidden  int64   // units of a recurrent layer; width of a Transformer's MLP
	Tied    bool    // the output layer shares the embedding's weights
	Softmax string  // Full, which is also what empty means, or Adaptive
	Cutoffs []int64 // first token of each tail of the adaptive softmax; nil chooses by the vocabulary
	Dropout Dropout

	// A Transformer's.
	Heads, KVHeads int    // attention heads; heads of keys and values, which divide them
	Context        int64  // tokens that it sees at most
	Norm           string // LayerNorm, which brings biases with it, or RMSNorm
	Position       string // Learned or Rotary
	MLP            string // GELU or SwiGLU
}

// Dropout holds probabilities of being zeroed, in training only.
type Dropout struct {
	Input  float64 // the embedded input
	Embed  float64 // whole rows of the embedding
	Hidden float64 // between recurrent layers; attention weights and residual branches
	Output float64 // the last recurrent layer's output
	Weight float64 // recurrent weights
	Locked bool    // one mask for all time steps (Gal & Ghahramani 2016), else one an element
}

// Role says what a parameter does in its network. An optimizer may treat one kind
// of parameter otherwise than another.
type Role string

const (
	Matrix    Role = "matrix"    // the weight of a linear or recurrent layer
	Embedding Role = "embedding" // a row for each token or position; tied, it is the output layer's weight too
	OutputRow Role = "output"    // the weight of an output layer, a row for each token
	Vector    Role = "vector"    // a bias or a gain
)

// Param is a trained tensor and its name, which is PyTorch's for the same model.
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

// Mode says whether dropout is on.
type Mode bool

const (
	Evaluate Mode = false
	Training Mode = true
)

// Hidden is what a forward pass leaves for the loss.
type Hidden struct {
	States *ts.Tensor // [N, D] after dropout, in the order of the batch's targets
	Raw    *ts.Tensor // [T, B, D] before it, for activation regularisation; nil for Transformers
}

// A Model is a network up to the output layer.
type Model interface {
	Config() Config

	// Params are all trained tensors, each once, in a fixed order.
	Params() []Param

	// Forward runs over the token ids, [T, B] for recurrent models and [B, T] for
	// Transformers. A recurrent model starts from the state and leaves its last
	// one there, cut off from the graph; others ignore it.
	Forward(s *torch.Scope, ids *ts.Tensor, state *State, mode Mode) Hidden

	// Output is the layer that follows.
	Output() OutputLayer

	// NewState is the carried state at the start of a text, for batch sequences;
	// it is empty for a model that carries none.
	NewState(batch int64) (*State, error)

	// CarriesState reports whether Forward continues the text from the state: the
	// model then reads texts of any length piece by piece. A model that does not
	// reads windows of at most Context tokens, each from its start.
	CarriesState() bool

	// Context is the largest number of tokens of a window, 0 for no limit.
	Context() int64

	// TimeMajor reports whether ids are [T, B], not [B, T].
	TimeMajor() bool

	// NewDecoder returns a decoder that continues so many texts side by side; the
	// caller closes it.
	NewDecoder(texts int) (Decoder, error)

	// Close frees the parameters.
	Close()
}

// New makes a model with freshly drawn weights on device, a function of seed
// alone.
func New(c Config, seed uint64, device gotch.Device) (Model, error) {
	if c.Vocab < 1 {
		return nil, fmt.Errorf("model: a vocabulary of %d entries", c.Vocab)
	}
	if err := c.checkSoftmax(); err != nil {
		return nil, err
	}
	switch c.Kind {
	case LSTM, GRU:
		return newRecurrent(c, seed, device)
	case Transformer:
		return newTransformer(c, seed, device)
	}
	return nil, fmt.Errorf("model.kind %q is not known: it is lstm, gru or transformer", c.Kind)
}

// CountParams returns the number of trained scalars.
func CountParams(m Model) int64 {
	n := int64(0)
	for _, p := range m.Params() {
		n += torch.Count(p.Tensor)
	}
	return n
}
