// Package configs holds the settings of a training run: their types, defaults
// and limits, the embedded presets, and the way from files and flags to one
// validated value.
//
// The table in table.go is the one place that knows a setting's key, default,
// limits and meaning; parsing, validation, JSON and the printed reference all
// read it. A Builder lays sources over one another:
//
//	var b configs.Builder
//	b.Preset("small")
//	b.File("mine.yaml")
//	b.Assign("optimizer.kind=sgd", "--set")
//	settings, err := b.Settings()
//
// err is a Problems: everything that is wrong, not just the first of it.
package configs

import "time"

// Settings is everything that decides what a training run computes, apart from
// the data. A key that means nothing for the kinds chosen is at its zero value.
type Settings struct {
	Model      Model
	Optimizer  Optimizer
	Schedule   Schedule
	Train      Train
	Eval       Eval
	Checkpoint Checkpoint
}

// Kinds of model.
const (
	LSTM        = "lstm"
	GRU         = "gru"
	Transformer = "transformer"
)

// Model is the network's shape.
type Model struct {
	Kind     string // LSTM, GRU or Transformer
	Layers   int
	Embed    int // width of the token embedding, and of a Transformer's residual stream
	Hidden   int // units of a recurrent layer; width of a Transformer's MLP
	Heads    int
	KVHeads  int    // heads of keys and values; fewer than Heads means grouped-query attention
	Context  int    // tokens a Transformer sees at most
	Tied     bool   // the output layer shares the embedding's weights
	Norm     string // "layer" or "rms"
	Position string // "learned" or "rotary"
	MLP      string // "gelu" or "swiglu"
	Softmax  string // "full" or "adaptive"
	Cutoffs  []int  // first token of each tail cluster of the adaptive softmax, ascending
	Dropout  Dropout
}

// Recurrent says that the model carries a state from token to token.
func (m Model) Recurrent() bool { return m.Kind != Transformer }

// Dropout holds probabilities of being zeroed, each in [0, 1).
type Dropout struct {
	Input  float64 // elements of the embedded input
	Embed  float64 // whole rows of the embedding
	Hidden float64 // between recurrent layers; attention weights and residual branches
	Output float64 // output of the last recurrent layer
	Weight float64 // recurrent weights
	Locked bool    // one mask for all time steps of a sequence
}

// Kinds of optimizer.
const (
	KoalaV  = "koala-v"
	KoalaM  = "koala-m"
	KoalaPP = "koala++"
	KoalaD  = "koala-d"
	SGD     = "sgd"
	Adam    = "adam"
	AdamW   = "adamw"
	ASGD    = "asgd"
)

// Optimizer is the update rule and its constants, named as in the papers.
type Optimizer struct {
	Kind        string
	LR          float64
	WeightDecay float64
	Sigma       float64  // initial variance of the parameters
	Q           float64  // process noise added to it each step
	R           *float64 // fixed measurement noise; nil follows the loss's second moment
	AlphaR      float64  // memory of that adaptive R
	SW, SC, SV  float64  // koala-m: initial covariance of weight and velocity
	A           float64  // koala-m: decay of the velocity
	QW, QV      float64  // koala-m: process noise of weight and velocity
	Symmetric   bool     // koala++: the symmetric form of the paper's Algorithm 1
	DecayInStep bool     // koala-v: step along g + weight_decay p, not g
	Momentum    float64
	Nesterov    bool
	Beta1       float64
	Beta2       float64
	Eps         float64
	Nonmono     int // asgd: evaluations without a new best before averaging starts
	MaxSkipped  int // steps in a row that a non-finite loss or gradient may cost
}

// Schedule is the factor on Optimizer.LR over time.
type Schedule struct {
	Kind     string  // "constant", "step", "cosine", "linear", "inverse-sqrt" or "plateau"
	Warmup   int     // steps over which the factor rises linearly from 0
	Steps    int     // step at which the decay ends; 0 is the run's last
	Floor    float64 // smallest factor
	Gamma    float64 // factor of one decay
	Every    int     // step: steps between decays
	Patience int     // plateau: evaluations without a new best that are forgiven
}

// Train is the loop: batches, length and precision.
type Train struct {
	Batch        int           // sequences in a batch
	BPTT         int           // tokens of a sequence, for a recurrent model
	VariableBPTT bool          // each sequence's length is drawn around BPTT (Merity et al. 2018, section 5)
	Batching     string        // "contiguous", "random" or "sequential"
	Clip         float64       // largest norm of the gradient; 0 is no limit
	Accumulate   int           // batches in an optimizer step
	Epochs       int           // 0 is no limit
	Steps        int           // total optimizer steps; 0 is no limit
	TimeLimit    time.Duration // 0 is no limit
	Seed         int64
	Precision    string  // "float32" or "bfloat16"
	Alpha        float64 // activation regularisation (Merity et al. 2017)
	Beta         float64 // temporal activation regularisation
}

// Eval is the evaluation on the valid split while training.
type Eval struct {
	Every    int // steps between evaluations; 0 is once an epoch
	Patience int // evaluations without a new best that end the run; 0 is never
	Batch    int // sequences scored side by side
}

// What a checkpoint that cannot be written means for the run.
const (
	OnErrorContinue = "continue"
	OnErrorStop     = "stop"
)

// Checkpoint is what is kept on disk.
type Checkpoint struct {
	Every    int           // steps between checkpoints; 0 is with each evaluation
	Interval time.Duration // after which there is one in any case; 0 is never
	Keep     int           // how many of the last are kept, beside the best
	OnError  string        // OnErrorContinue or OnErrorStop
}

// SequenceLength is the number of tokens a training sequence has.
func (s Settings) SequenceLength() int {
	if s.Model.Recurrent() {
		return s.Train.BPTT
	}
	return s.Model.Context
}
