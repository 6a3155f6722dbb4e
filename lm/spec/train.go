package spec

import (
	"fmt"
	"time"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/setting"
)

// Train configures the training loop: batches, length and precision. The run ends at
// the first of Steps, Epochs and TimeLimit; zero is no limit.
type Train struct {
	Batch        int    // sequences in a batch
	BPTT         int    // tokens of a sequence, for a model that carries state
	VariableBPTT bool   // each sequence's length is drawn around BPTT, and the learning rate follows it (Merity et al. 2018, section 5)
	Batching     string // the name of one of data's batchings
	DocumentMask bool   // attention within documents

	// GradientCheckpointing makes backward compute the blocks again, from their inputs.
	GradientCheckpointing bool

	Accumulate  int   // batches in an optimizer step, at least 1
	Steps       int64 // total number of optimizer steps
	TimeLimit   time.Duration
	Epochs      int // passes over the training text
	Seed        int64
	Freeze      []string // patterns of the names of tensors that do not train
	Precision   string   // of training's matrix products; weights, sums and evaluation stay float32
	Alpha, Beta float64  // activation regularisation and its temporal form (Merity et al. 2017)
	LogEvery    int64    // steps between rows of training metrics, at least 1
	MaxSkipped  int      // allowed number of consecutive steps in which the loss diverges or a gradient is not finite; 0: no limit
}

// Settings declares the settings of t, bound to its fields.
func (t *Train) Settings() []setting.Setting {
	return []setting.Setting{
		setting.Bind(&t.Batch, setting.Declaration{
			Key: "train.batch", Meaning: "sequences in a batch",
			Domain: setting.AtLeast(1), Default: setting.Value(20).When(transformerFamily, 12),
		}),
		setting.Bind(&t.BPTT, setting.Declaration{
			Key: "train.bptt", Meaning: "tokens through which a recurrent model is unrolled",
			Domain: setting.AtLeast(1), Default: setting.Value(35), Only: carrying(),
		}),
		setting.Bind(&t.VariableBPTT, setting.Declaration{
			Key: "train.variable_bptt", Meaning: "draw each sequence's length around train.bptt and scale its step by it, as AWD-LSTM; for contiguous batching",
			Domain: setting.Bool{}, Default: setting.Value(false), Only: carrying(),
		}),
		setting.Bind(&t.Batching, setting.Declaration{
			Key: "train.batching", Meaning: "where sequences come from: parallel streams with carried state, random places, or one after another",
			Domain: setting.OneOf(data.Batchings()), Default: setting.Value(data.Contiguous).When(transformerFamily, data.Random),
		}),
		setting.Bind(&t.DocumentMask, setting.Declaration{
			Key: "train.document_mask", Meaning: "attention within documents, whose learned positions count from their start; in training, evaluation and eval of a dataset",
			Domain: setting.Bool{}, Default: setting.Value(false), Only: transformers(),
		}),
		setting.Bind(&t.GradientCheckpointing, setting.Declaration{
			Key: "train.gradient_checkpointing", Meaning: "keep the input of each block alone, and compute the rest again in backward: less memory, more time, the same numbers",
			Domain: setting.Bool{}, Default: setting.Value(false), Only: transformers(),
		}),
		setting.Bind(&t.Accumulate, setting.Declaration{
			Key: "train.accumulate", Meaning: "batches whose gradients make one step",
			Domain: setting.AtLeast(1), Default: setting.Value(1),
		}),
		setting.Bind(&t.Steps, setting.Declaration{
			Key: "train.steps", Meaning: "total steps; 0 is no limit",
			Domain: setting.AtLeast(0), Default: setting.Value(0),
		}),
		setting.Bind(&t.TimeLimit, setting.Declaration{
			Key: "train.time_limit", Meaning: "time after which the run ends; 0 is no limit",
			Domain: setting.Duration{}, Default: setting.Value(0),
		}),
		// A time limit bounds a run, but does not replace its length.
		setting.Bind(&t.Epochs, setting.Declaration{
			Key: "train.epochs", Meaning: "passes over the train split; 0 is no limit",
			Domain: setting.AtLeast(0), Default: setting.Value(6).When(setting.IsNot("train.steps", 0), 0),
		}),
		setting.Bind(&t.Seed, setting.Declaration{
			Key: "train.seed", Meaning: "seed of all randomness",
			Domain: setting.AnyInt, Default: setting.Value(1),
		}),
		setting.Bind(&t.Freeze, setting.Declaration{
			Key: "train.freeze", Meaning: "patterns of the names of tensors that do not train, such as transformer.wte.*; export --to safetensors has the names",
			Domain: setting.Patterns{}, Default: setting.Value([]string{}),
		}),
		setting.Bind(&t.Precision, setting.Declaration{
			Key: "train.precision", Meaning: "precision of training's matrix products; weights, sums and evaluation stay float32; auto is bfloat16 on a CPU that is faster with it, else float32; tf32 on CUDA alone",
			Domain: setting.OneOf{AutoPrecision, Float32, BFloat16, TF32}, Default: setting.Value(AutoPrecision),
		}),
		setting.Bind(&t.Alpha, setting.Declaration{
			Key: "train.alpha", Meaning: "activation regularisation (AWD-LSTM's AR)",
			Domain: setting.Natural, Default: setting.Value(0), Only: recurrent(),
		}),
		setting.Bind(&t.Beta, setting.Declaration{
			Key: "train.beta", Meaning: "temporal activation regularisation (AWD-LSTM's TAR)",
			Domain: setting.Natural, Default: setting.Value(0), Only: recurrent(),
		}),
		// Frequent enough for the curve of a short run, rare enough for a store of
		// long runs.
		setting.Bind(&t.LogEvery, setting.Declaration{
			Key: "train.log_every", Meaning: "steps between rows of training metrics in the store, the optimizer's numbers among them",
			Domain: setting.AtLeast(1), Default: setting.Value(10),
		}),
		setting.Bind(&t.MaxSkipped, setting.Declaration{
			Key: "optimizer.max_skipped", Meaning: "steps in a row in which the loss may be above 1000 nats a token, or it or a gradient not finite, before the run fails",
			Domain: setting.AtLeast(1), Default: setting.Value(5),
		}),
	}
}

// Problems returns the errors of values that are each in range but do not fit
// together.
func (t *Train) Problems(s *Schedule) []setting.Problem {
	var problems []setting.Problem
	check := func(bad bool, text string, keys ...string) {
		if bad {
			problems = append(problems, setting.Problem{Keys: keys, Text: text})
		}
	}
	check(t.VariableBPTT && t.Batching != data.Contiguous, fmt.Sprintf("train.variable_bptt is for train.batching %s, not %s", data.Contiguous, t.Batching),
		"train.variable_bptt", "train.batching")
	check(t.Steps == 0 && t.Epochs == 0 && t.TimeLimit == 0,
		"nothing would end the run: set train.steps, train.epochs or train.time_limit", "train.steps", "train.epochs", "train.time_limit")
	k, _ := s.kind()
	check(k.ends && s.Steps == 0 && t.Steps == 0 && t.Epochs == 0,
		fmt.Sprintf("schedule.kind %s needs to know where it ends: set schedule.steps, train.steps or train.epochs", s.Kind),
		"schedule.kind", "schedule.steps", "train.steps", "train.epochs")
	end := s.Steps
	if end == 0 {
		end = t.Steps
	}
	check(k.ends && end > 0 && s.Warmup >= end,
		fmt.Sprintf("schedule.warmup %d must be less than the %d steps of the schedule", s.Warmup, end),
		"schedule.warmup", "schedule.steps", "train.steps")
	return problems
}

// Eval configures the evaluation on the valid split during training.
type Eval struct {
	Every    int64 // steps between evaluations; 0 is once an epoch
	Patience int   // number of evaluations without a new best that ends the run; 0: never
	Batch    int   // sequences scored side by side
}

// Settings declares the settings of e, bound to its fields.
func (e *Eval) Settings() []setting.Setting {
	return []setting.Setting{
		setting.Bind(&e.Every, setting.Declaration{
			Key: "eval.every", Meaning: "steps between evaluations on the valid split; 0 is once an epoch",
			Domain: setting.AtLeast(0), Default: setting.Value(0),
		}),
		setting.Bind(&e.Patience, setting.Declaration{
			Key: "eval.patience", Meaning: "evaluations without a new best that end the run; 0 is never",
			Domain: setting.AtLeast(0), Default: setting.Value(0),
		}),
		setting.Bind(&e.Batch, setting.Declaration{
			Key: "eval.batch", Meaning: "sequences scored side by side; a recurrent model starts each from a zero state, so that the loss depends on their number, and 1 is exact",
			Domain: setting.AtLeast(1), Default: setting.Value(10),
		}),
	}
}

// A run's behaviour if a checkpoint cannot be written.
const (
	OnErrorContinue = "continue"
	OnErrorStop     = "stop"
)

// Checkpoint configures the checkpoints.
type Checkpoint struct {
	Every    int64         // steps between checkpoints; 0: one with each evaluation
	Interval time.Duration // longest time between checkpoints; 0: no limit
	Keep     int           // number of latest checkpoints to keep beside the best
	OnError  string        // OnErrorContinue or OnErrorStop
}

// Settings declares the settings of c, bound to its fields.
func (c *Checkpoint) Settings() []setting.Setting {
	return []setting.Setting{
		setting.Bind(&c.Every, setting.Declaration{
			Key: "checkpoint.every", Meaning: "steps between checkpoints; 0 is with each evaluation",
			Domain: setting.AtLeast(0), Default: setting.Value(0),
		}),
		setting.Bind(&c.Interval, setting.Declaration{
			Key: "checkpoint.interval", Meaning: "time after which there is one in any case; 0 is never",
			Domain: setting.Duration{}, Default: setting.Value(10 * time.Minute),
		}),
		setting.Bind(&c.Keep, setting.Declaration{
			Key: "checkpoint.keep", Meaning: "number of the last that are kept, beside the best",
			Domain: setting.Int{Min: 1, Max: 1000}, Default: setting.Value(2),
		}),
		setting.Bind(&c.OnError, setting.Declaration{
			Key: "checkpoint.on_error", Meaning: "what a run does if one cannot be written (full disk): continue with a warning, or stop",
			Domain: setting.OneOf{OnErrorContinue, OnErrorStop}, Default: setting.Value(OnErrorContinue),
		}),
	}
}
