// Package metric declares the names of the metrics that a run records. Whoever
// writes, ranks or draws a metric names it by these constants.
package metric

import "strings"

// Metrics of training, since the last row of them.
const (
	TrainLoss       = "train_loss" // mean nats per token
	TrainPPL        = "train_ppl"  // exp(train_loss)
	LR              = "lr"
	GradNorm        = "grad_norm" // before clipping
	TokensPerSecond = "tokens_per_second"
	ForwardMS       = "forward_ms" // the phases of a mean step
	LossMS          = "loss_ms"
	BackwardMS      = "backward_ms"
	ReduceMS        = "reduce_ms" // waiting for other ranks
	OptimizerMS     = "optimizer_ms"
	RSSBytes        = "rss_bytes"     // resident memory
	SkippedSteps    = "skipped_steps" // since the run's start

	// Of the last step: the distance that it moved each group of parameters.
	StepMatrices   = "step_matrices"
	StepEmbeddings = "step_embeddings" // and output layers
	StepNorms      = "step_norms"      // norm gains and biases
)

// The Kalman filter's numbers in the last step.
const (
	KoalaSigma      = "koala_sigma"      // variance of the weights
	KoalaR          = "koala_r"          // variance of the measurement
	KoalaGain       = "koala_gain"       // Kalman gain along the gradient
	KoalaInnovation = "koala_innovation" // loss less the target
	KoalaStep       = "koala_step"       // factor of the direction in the step
)

// Koala lists the filter's numbers.
var Koala = []string{KoalaSigma, KoalaR, KoalaGain, KoalaInnovation, KoalaStep}

// Short returns the short name of one of the filter's numbers, such as gain.
func Short(name string) string { return strings.TrimPrefix(name, "koala_") }

// Metrics of a pass over the training text.
const (
	EpochLoss = "epoch_loss" // mean nats per token over the epoch
	EpochPPL  = "epoch_ppl"  // exp(epoch_loss)
)

// Prefixes of the metrics of a split.
const (
	Valid = "val_"
	Test  = "test_"
	Raw   = "raw_" // before the split's: of the weights themselves, where the split's metrics are of their average
)

// Metrics of a split, behind its prefix.
const (
	Loss        = "loss"          // mean nats per token
	PPL         = "ppl"           // exp(loss)
	WordPPL     = "word_ppl"      // exp(loss * tokens / words)
	BitsPerByte = "bits_per_byte" // loss * tokens / bytes / ln 2
	UnigramPPL  = "unigram_ppl"   // of the training text's counts + 1
	NGramPPL    = "ngram_ppl"     // of a 5-gram model of the training text, with Kneser-Ney smoothing
)

// Metrics of splits by which runs are ranked and compared.
const (
	ValidPPL         = Valid + PPL
	ValidLoss        = Valid + Loss
	ValidBitsPerByte = Valid + BitsPerByte
	ValidUnigramPPL  = Valid + UnigramPPL
	ValidNGramPPL    = Valid + NGramPPL
	TestPPL          = Test + PPL
	TestLoss         = Test + Loss
	TestUnigramPPL   = Test + UnigramPPL
)

// SplitPrefix is the prefix of the metrics of each split that is evaluated.
var SplitPrefix = map[string]string{"valid": Valid, "test": Test}
