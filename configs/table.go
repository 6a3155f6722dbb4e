package configs

import (
	"slices"
	"time"
)

// fields is every setting, in the order in which they are printed and in which
// defaults are found: one that depends on another comes after it.
var fields = slices.Concat(modelFields, optimizerFields, scheduleFields, trainFields)

// byKey finds a setting by its key.
var byKey = func() map[string]*field {
	m := make(map[string]*field, len(fields))
	for i := range fields {
		m[fields[i].key] = &fields[i]
	}
	return m
}()

// both is a default that is the same for every kind of model.
func both(v any) [2]any { return [2]any{v, v} }

// recurrentOnly and transformerOnly limit a setting to a family of models.
func recurrentOnly(f field) field   { return onlyBeside("model.kind", f, LSTM, GRU) }
func transformerOnly(f field) field { return onlyBeside("model.kind", f, Transformer) }

// onlyBeside limits a setting to some kinds of what key chooses.
func onlyBeside(key string, f field, kinds ...string) field {
	f.kindKey, f.kinds = key, kinds
	return f
}

var modelFields = []field{
	{
		key: "model.kind", meaning: "kind of network",
		at: func(s *Settings) any { return &s.Model.Kind }, in: oneOf{LSTM, GRU, Transformer}, byModel: both(LSTM),
	},
	{
		key: "model.layers", meaning: "layers, or a Transformer's blocks",
		at: func(s *Settings) any { return &s.Model.Layers }, in: whole{1, 1000}, byModel: [2]any{2, 4},
	},
	{
		key: "model.embed", meaning: "width of the embedding, and of a Transformer's residual stream",
		at: func(s *Settings) any { return &s.Model.Embed }, in: atLeast(1), byModel: [2]any{200, 128},
	},
	transformerOnly(field{
		key: "model.mlp", meaning: "non-linearity of a Transformer's MLP",
		at: func(s *Settings) any { return &s.Model.MLP }, in: oneOf{"gelu", "swiglu"}, byModel: both("gelu"),
	}),
	{
		key: "model.hidden", meaning: "units of a recurrent layer (when tied, the last has model.embed), or width of a Transformer's MLP",
		at: func(s *Settings) any { return &s.Model.Hidden }, in: atLeast(1),
		byOption: defaultHidden, optionText: "model.embed (4 x model.embed; swiglu 8/3 x model.embed)",
	},
	transformerOnly(field{
		key: "model.heads", meaning: "attention heads; divides model.embed",
		at: func(s *Settings) any { return &s.Model.Heads }, in: atLeast(1), byModel: both(4),
	}),
	transformerOnly(field{
		key: "model.kv_heads", meaning: "heads of keys and values (grouped-query attention); divides model.heads",
		at: func(s *Settings) any { return &s.Model.KVHeads }, in: atLeast(1),
		byOption: func(s *Settings) any { return s.Model.Heads }, optionText: "model.heads",
	}),
	transformerOnly(field{
		key: "model.context", meaning: "tokens a Transformer sees, and the length of its training sequences",
		at: func(s *Settings) any { return &s.Model.Context }, in: atLeast(1), byModel: both(64),
	}),
	transformerOnly(field{
		key: "model.norm", meaning: "normalisation before each branch",
		at: func(s *Settings) any { return &s.Model.Norm }, in: oneOf{"layer", "rms"}, byModel: both("layer"),
	}),
	transformerOnly(field{
		key: "model.position", meaning: "how positions are told apart",
		at: func(s *Settings) any { return &s.Model.Position }, in: oneOf{"learned", "rotary"}, byModel: both("learned"),
	}),
	{
		key: "model.softmax", meaning: "output layer; adaptive (Grave et al. 2017) is for large vocabularies",
		at: func(s *Settings) any { return &s.Model.Softmax }, in: oneOf{"full", "adaptive"}, byModel: both("full"),
	},
	{
		key: "model.tied", meaning: "share the weights of embedding and output layer",
		at: func(s *Settings) any { return &s.Model.Tied }, in: truth{},
		byOption: func(s *Settings) any { return s.Model.Softmax == "full" }, optionText: "true; false with softmax adaptive",
	},
	onlyBeside("model.softmax", field{
		key: "model.cutoffs", meaning: "first token of each tail cluster of the adaptive softmax; [] chooses by the vocabulary",
		at: func(s *Settings) any { return &s.Model.Cutoffs }, in: ascending{}, byModel: both([]int{}),
	}, "adaptive"),

	{
		key: "model.dropout.input", meaning: "share of the embedded input that is zeroed",
		at: func(s *Settings) any { return &s.Model.Dropout.Input }, in: below1, byModel: [2]any{0.2, 0},
	},
	recurrentOnly(field{
		key: "model.dropout.embed", meaning: "share of the embedding's rows that are zeroed",
		at: func(s *Settings) any { return &s.Model.Dropout.Embed }, in: below1, byModel: both(0),
	}),
	{
		key: "model.dropout.hidden", meaning: "the same between recurrent layers, or in attention and on residual branches",
		at: func(s *Settings) any { return &s.Model.Dropout.Hidden }, in: below1, byModel: [2]any{0.2, 0},
	},
	recurrentOnly(field{
		key: "model.dropout.output", meaning: "the same after the last recurrent layer",
		at: func(s *Settings) any { return &s.Model.Dropout.Output }, in: below1, byModel: both(0.2),
	}),
	recurrentOnly(field{
		key: "model.dropout.weight", meaning: "share of the recurrent weights that is zeroed (weight drop)",
		at: func(s *Settings) any { return &s.Model.Dropout.Weight }, in: below1, byModel: both(0),
	}),
	recurrentOnly(field{
		key: "model.dropout.locked", meaning: "one mask for all time steps, as AWD-LSTM; else elementwise, as word_language_model",
		at: func(s *Settings) any { return &s.Model.Dropout.Locked }, in: truth{}, byModel: both(false),
	}),
}

var scheduleFields = []field{
	{
		key: "schedule.kind", meaning: "how the learning rate changes; plateau decays it when an evaluation brings no new best",
		at: func(s *Settings) any { return &s.Schedule.Kind }, in: oneOf{"constant", "step", "cosine", "linear", "inverse-sqrt", "plateau"}, byModel: both("constant"),
	},
	{
		key: "schedule.warmup", meaning: "steps over which it rises linearly from 0",
		at: func(s *Settings) any { return &s.Schedule.Warmup }, in: atLeast(0), byModel: both(0),
	},
	onlyBeside("schedule.kind", field{
		key: "schedule.steps", meaning: "step at which the decay ends; 0 is the run's last",
		at: func(s *Settings) any { return &s.Schedule.Steps }, in: atLeast(0), byModel: both(0),
	}, "cosine", "linear"),
	onlyBeside("schedule.kind", field{
		key: "schedule.floor", meaning: "smallest share of optimizer.lr",
		at: func(s *Settings) any { return &s.Schedule.Floor }, in: fraction,
		byOption: defaultFloor, optionText: "0; cosine 0.1",
	}, "cosine", "linear", "step", "inverse-sqrt", "plateau"),
	onlyBeside("schedule.kind", field{
		key: "schedule.gamma", meaning: "factor of one decay",
		at: func(s *Settings) any { return &s.Schedule.Gamma }, in: decimal{min: 0, max: 1, openMin: true}, byModel: both(0.25),
	}, "step", "plateau"),
	onlyBeside("schedule.kind", field{
		key: "schedule.every", meaning: "steps between decays",
		at: func(s *Settings) any { return &s.Schedule.Every }, in: atLeast(1), byModel: both(1000),
	}, "step"),
	onlyBeside("schedule.kind", field{
		key: "schedule.patience", meaning: "evaluations without a new best that are forgiven",
		at: func(s *Settings) any { return &s.Schedule.Patience }, in: atLeast(0), byModel: both(0),
	}, "plateau"),
}

var trainFields = []field{
	{
		key: "train.batch", meaning: "sequences in a batch",
		at: func(s *Settings) any { return &s.Train.Batch }, in: atLeast(1), byModel: [2]any{20, 12},
	},
	recurrentOnly(field{
		key: "train.bptt", meaning: "tokens through which a recurrent model is unrolled",
		at: func(s *Settings) any { return &s.Train.BPTT }, in: atLeast(1), byModel: both(35),
	}),
	recurrentOnly(field{
		key: "train.variable_bptt", meaning: "draw each sequence's length around train.bptt and scale its step by it, as AWD-LSTM; for contiguous batching",
		at: func(s *Settings) any { return &s.Train.VariableBPTT }, in: truth{}, byModel: both(false),
	}),
	{
		key: "train.batching", meaning: "where sequences come from: parallel streams with carried state, random places, or one after another",
		at: func(s *Settings) any { return &s.Train.Batching }, in: oneOf{"contiguous", "random", "sequential"}, byModel: [2]any{"contiguous", "random"},
	},
	{
		key: "train.clip", meaning: "largest norm of the gradient; 0 is no limit",
		at: func(s *Settings) any { return &s.Train.Clip }, in: natural,
		byOption: defaultClip, optionText: "0.25 (1); koala-v and koala-m 0",
	},
	{
		key: "train.accumulate", meaning: "batches whose gradients make one step",
		at: func(s *Settings) any { return &s.Train.Accumulate }, in: atLeast(1), byModel: both(1),
	},
	{
		key: "train.steps", meaning: "total steps; 0 is no limit",
		at: func(s *Settings) any { return &s.Train.Steps }, in: atLeast(0), byModel: both(0),
	},
	{
		key: "train.time_limit", meaning: "time after which the run ends; 0 is no limit",
		at: func(s *Settings) any { return &s.Train.TimeLimit }, in: span{}, byModel: both(nil),
	},
	{
		key: "train.epochs", meaning: "passes over the train split; 0 is no limit",
		at: func(s *Settings) any { return &s.Train.Epochs }, in: atLeast(0),
		byOption: defaultEpochs, optionText: "6; 0 where steps are set",
	},
	{
		key: "train.seed", meaning: "what all randomness is derived from",
		at: func(s *Settings) any { return &s.Train.Seed }, in: any64, byModel: both(1),
	},
	{
		key: "train.precision", meaning: "precision of training's matrix products; weights, sums and evaluation stay float32",
		at: func(s *Settings) any { return &s.Train.Precision }, in: oneOf{"float32", "bfloat16"}, byModel: both("float32"),
	},
	recurrentOnly(field{
		key: "train.alpha", meaning: "activation regularisation (AWD-LSTM's AR)",
		at: func(s *Settings) any { return &s.Train.Alpha }, in: natural, byModel: both(0),
	}),
	recurrentOnly(field{
		key: "train.beta", meaning: "temporal activation regularisation (AWD-LSTM's TAR)",
		at: func(s *Settings) any { return &s.Train.Beta }, in: natural, byModel: both(0),
	}),

	{
		key: "eval.every", meaning: "steps between evaluations on the valid split; 0 is once an epoch",
		at: func(s *Settings) any { return &s.Eval.Every }, in: atLeast(0), byModel: both(0),
	},
	{
		key: "eval.patience", meaning: "evaluations without a new best that end the run; 0 is never",
		at: func(s *Settings) any { return &s.Eval.Patience }, in: atLeast(0), byModel: both(0),
	},
	{
		key: "eval.batch", meaning: "sequences scored side by side",
		at: func(s *Settings) any { return &s.Eval.Batch }, in: atLeast(1), byModel: both(10),
	},
	{
		key: "checkpoint.every", meaning: "steps between checkpoints; 0 is with each evaluation",
		at: func(s *Settings) any { return &s.Checkpoint.Every }, in: atLeast(0), byModel: both(0),
	},
	{
		key: "checkpoint.interval", meaning: "time after which there is one in any case; 0 is never",
		at: func(s *Settings) any { return &s.Checkpoint.Interval }, in: span{}, byModel: both(10 * time.Minute),
	},
	{
		key: "checkpoint.keep", meaning: "how many of the last are kept, beside the best",
		at: func(s *Settings) any { return &s.Checkpoint.Keep }, in: whole{1, 1000}, byModel: both(2),
	},
	{
		key: "checkpoint.on_error", meaning: "what one that cannot be written (full disk) does: go on training with a warning, or stop",
		at: func(s *Settings) any { return &s.Checkpoint.OnError }, in: oneOf{OnErrorContinue, OnErrorStop}, byModel: both(OnErrorContinue),
	},
}
