package configs

import (
	"slices"
	"time"
)

// fields is every setting, in the order in which they are printed and in which
// defaults are found: one that depends on another comes after it.
var fields = slices.Concat(modelFields, optimizerFields, scheduleFields, trainFields)

// byKey finds a setting by its key.
var byKey = func() map[string]*Field {
	m := make(map[string]*Field, len(fields))
	for i := range fields {
		m[fields[i].Key] = &fields[i]
	}
	return m
}()

// both is a default that is the same for every kind of model.
func both(v any) [2]any { return [2]any{v, v} }

// recurrentOnly and transformerOnly limit a setting to a family of models.
func recurrentOnly(f Field) Field   { return onlyBeside("model.kind", f, LSTM, GRU) }
func transformerOnly(f Field) Field { return onlyBeside("model.kind", f, Transformer) }

// onlyBeside limits a setting to some kinds of what key chooses.
func onlyBeside(key string, f Field, kinds ...string) Field {
	f.kindKey, f.kinds = key, kinds
	return f
}

var modelFields = []Field{
	{Key: "model.kind", at: func(s *Settings) any { return &s.Model.Kind }, in: oneOf{LSTM, GRU, Transformer}, byModel: both(LSTM),
		Meaning: "kind of network"},
	{Key: "model.layers", at: func(s *Settings) any { return &s.Model.Layers }, in: whole{1, 1000}, byModel: [2]any{2, 4},
		Meaning: "layers, or a Transformer's blocks"},
	{Key: "model.embed", at: func(s *Settings) any { return &s.Model.Embed }, in: atLeast(1), byModel: [2]any{200, 128},
		Meaning: "width of the embedding, and of a Transformer's residual stream"},
	transformerOnly(Field{Key: "model.mlp", at: func(s *Settings) any { return &s.Model.MLP }, in: oneOf{"gelu", "swiglu"}, byModel: both("gelu"),
		Meaning: "non-linearity of a Transformer's MLP"}),
	{Key: "model.hidden", at: func(s *Settings) any { return &s.Model.Hidden }, in: atLeast(1), byOption: defaultHidden, optionText: "model.embed (4 x model.embed; swiglu 8/3 x model.embed)",
		Meaning: "units of a recurrent layer (when tied, the last has model.embed), or width of a Transformer's MLP"},
	transformerOnly(Field{Key: "model.heads", at: func(s *Settings) any { return &s.Model.Heads }, in: atLeast(1), byModel: both(4),
		Meaning: "attention heads; divides model.embed"}),
	transformerOnly(Field{Key: "model.kv_heads", at: func(s *Settings) any { return &s.Model.KVHeads }, in: atLeast(1),
		byOption: func(s *Settings) any { return s.Model.Heads }, optionText: "model.heads",
		Meaning: "heads of keys and values (grouped-query attention); divides model.heads"}),
	transformerOnly(Field{Key: "model.context", at: func(s *Settings) any { return &s.Model.Context }, in: atLeast(1), byModel: both(64),
		Meaning: "tokens a Transformer sees, and the length of its training sequences"}),
	{Key: "model.tied", at: func(s *Settings) any { return &s.Model.Tied }, in: truth{}, byModel: both(true),
		Meaning: "share the weights of embedding and output layer"},
	transformerOnly(Field{Key: "model.norm", at: func(s *Settings) any { return &s.Model.Norm }, in: oneOf{"layer", "rms"}, byModel: both("layer"),
		Meaning: "normalisation before each branch"}),
	transformerOnly(Field{Key: "model.position", at: func(s *Settings) any { return &s.Model.Position }, in: oneOf{"learned", "rotary"}, byModel: both("learned"),
		Meaning: "how positions are told apart"}),
	{Key: "model.softmax", at: func(s *Settings) any { return &s.Model.Softmax }, in: oneOf{"full", "adaptive"}, byModel: both("full"),
		Meaning: "output layer; adaptive (Grave et al. 2017) is for large vocabularies"},
	onlyBeside("model.softmax", Field{Key: "model.cutoffs", at: func(s *Settings) any { return &s.Model.Cutoffs }, in: ascending{}, byModel: both([]int{}),
		Meaning: "first token of each tail cluster of the adaptive softmax; [] chooses by the vocabulary"}, "adaptive"),

	{Key: "model.dropout.input", at: func(s *Settings) any { return &s.Model.Dropout.Input }, in: below1, byModel: [2]any{0.2, 0},
		Meaning: "share of the embedded input that is zeroed"},
	recurrentOnly(Field{Key: "model.dropout.embed", at: func(s *Settings) any { return &s.Model.Dropout.Embed }, in: below1, byModel: both(0),
		Meaning: "share of the embedding's rows that are zeroed"}),
	{Key: "model.dropout.hidden", at: func(s *Settings) any { return &s.Model.Dropout.Hidden }, in: below1, byModel: [2]any{0.2, 0},
		Meaning: "the same between recurrent layers, or in attention and on residual branches"},
	recurrentOnly(Field{Key: "model.dropout.output", at: func(s *Settings) any { return &s.Model.Dropout.Output }, in: below1, byModel: both(0.2),
		Meaning: "the same after the last recurrent layer"}),
	recurrentOnly(Field{Key: "model.dropout.weight", at: func(s *Settings) any { return &s.Model.Dropout.Weight }, in: below1, byModel: both(0),
		Meaning: "share of the recurrent weights that is zeroed (weight drop)"}),
	recurrentOnly(Field{Key: "model.dropout.locked", at: func(s *Settings) any { return &s.Model.Dropout.Locked }, in: truth{}, byModel: both(false),
		Meaning: "one mask for all time steps, as AWD-LSTM; else elementwise, as word_language_model"}),
}

var scheduleFields = []Field{
	{Key: "schedule.kind", at: func(s *Settings) any { return &s.Schedule.Kind },
		in: oneOf{"constant", "step", "cosine", "linear", "inverse-sqrt", "plateau"}, byModel: both("constant"),
		Meaning: "how the learning rate changes; plateau decays it when an evaluation brings no new best"},
	{Key: "schedule.warmup", at: func(s *Settings) any { return &s.Schedule.Warmup }, in: atLeast(0), byModel: both(0),
		Meaning: "steps over which it rises linearly from 0"},
	onlyBeside("schedule.kind", Field{Key: "schedule.steps", at: func(s *Settings) any { return &s.Schedule.Steps }, in: atLeast(0), byModel: both(0),
		Meaning: "step at which the decay ends; 0 is the run's last"}, "cosine", "linear"),
	onlyBeside("schedule.kind", Field{Key: "schedule.floor", at: func(s *Settings) any { return &s.Schedule.Floor }, in: fraction, byOption: defaultFloor, optionText: "0; cosine 0.1",
		Meaning: "smallest share of optimizer.lr"}, "cosine", "linear", "step", "inverse-sqrt", "plateau"),
	onlyBeside("schedule.kind", Field{Key: "schedule.gamma", at: func(s *Settings) any { return &s.Schedule.Gamma },
		in: decimal{min: 0, max: 1, openMin: true}, byModel: both(0.25),
		Meaning: "factor of one decay"}, "step", "plateau"),
	onlyBeside("schedule.kind", Field{Key: "schedule.every", at: func(s *Settings) any { return &s.Schedule.Every }, in: atLeast(1), byModel: both(1000),
		Meaning: "steps between decays"}, "step"),
	onlyBeside("schedule.kind", Field{Key: "schedule.patience", at: func(s *Settings) any { return &s.Schedule.Patience }, in: atLeast(0), byModel: both(0),
		Meaning: "evaluations without a new best that are forgiven"}, "plateau"),
}

var trainFields = []Field{
	{Key: "train.batch", at: func(s *Settings) any { return &s.Train.Batch }, in: atLeast(1), byModel: [2]any{20, 12},
		Meaning: "sequences in a batch"},
	recurrentOnly(Field{Key: "train.bptt", at: func(s *Settings) any { return &s.Train.BPTT }, in: atLeast(1), byModel: both(35),
		Meaning: "tokens through which a recurrent model is unrolled"}),
	recurrentOnly(Field{Key: "train.variable_bptt", at: func(s *Settings) any { return &s.Train.VariableBPTT }, in: truth{}, byModel: both(false),
		Meaning: "draw each sequence's length around train.bptt and scale its step by it, as AWD-LSTM; for contiguous batching"}),
	{Key: "train.batching", at: func(s *Settings) any { return &s.Train.Batching }, in: oneOf{"contiguous", "random", "sequential"}, byModel: [2]any{"contiguous", "random"},
		Meaning: "where sequences come from: parallel streams with carried state, random places, or one after another"},
	{Key: "train.clip", at: func(s *Settings) any { return &s.Train.Clip }, in: natural, byOption: defaultClip, optionText: "0; sgd, adam, adamw and asgd 0.25 (1)",
		Meaning: "largest norm of the gradient; 0 is no limit"},
	{Key: "train.accumulate", at: func(s *Settings) any { return &s.Train.Accumulate }, in: atLeast(1), byModel: both(1),
		Meaning: "batches whose gradients make one step"},
	{Key: "train.steps", at: func(s *Settings) any { return &s.Train.Steps }, in: atLeast(0), byModel: both(0),
		Meaning: "total steps; 0 is no limit"},
	{Key: "train.time_limit", at: func(s *Settings) any { return &s.Train.TimeLimit }, in: span{}, byModel: both(nil),
		Meaning: "time after which the run ends; 0 is no limit"},
	{Key: "train.epochs", at: func(s *Settings) any { return &s.Train.Epochs }, in: atLeast(0), byOption: defaultEpochs, optionText: "6; 0 where steps are set",
		Meaning: "passes over the train split; 0 is no limit"},
	{Key: "train.seed", at: func(s *Settings) any { return &s.Train.Seed }, in: any64, byModel: both(1),
		Meaning: "what all randomness is derived from"},
	{Key: "train.precision", at: func(s *Settings) any { return &s.Train.Precision }, in: oneOf{"float32", "bfloat16"}, byModel: both("float32"),
		Meaning: "precision of forward and backward; weights and optimizer stay float32"},
	recurrentOnly(Field{Key: "train.alpha", at: func(s *Settings) any { return &s.Train.Alpha }, in: natural, byModel: both(0),
		Meaning: "activation regularisation (AWD-LSTM's AR)"}),
	recurrentOnly(Field{Key: "train.beta", at: func(s *Settings) any { return &s.Train.Beta }, in: natural, byModel: both(0),
		Meaning: "temporal activation regularisation (AWD-LSTM's TAR)"}),

	{Key: "eval.every", at: func(s *Settings) any { return &s.Eval.Every }, in: atLeast(0), byModel: both(0),
		Meaning: "steps between evaluations on the valid split; 0 is once an epoch"},
	{Key: "eval.patience", at: func(s *Settings) any { return &s.Eval.Patience }, in: atLeast(0), byModel: both(0),
		Meaning: "evaluations without a new best that end the run; 0 is never"},
	{Key: "eval.batch", at: func(s *Settings) any { return &s.Eval.Batch }, in: atLeast(1), byModel: both(10),
		Meaning: "sequences scored side by side"},
	{Key: "checkpoint.every", at: func(s *Settings) any { return &s.Checkpoint.Every }, in: atLeast(0), byModel: both(0),
		Meaning: "steps between checkpoints; 0 is with each evaluation"},
	{Key: "checkpoint.interval", at: func(s *Settings) any { return &s.Checkpoint.Interval }, in: span{}, byModel: both(10 * time.Minute),
		Meaning: "time after which there is one in any case; 0 is never"},
	{Key: "checkpoint.keep", at: func(s *Settings) any { return &s.Checkpoint.Keep }, in: whole{1, 1000}, byModel: both(2),
		Meaning: "how many of the last are kept, beside the best"},
	{Key: "checkpoint.on_error", at: func(s *Settings) any { return &s.Checkpoint.OnError }, in: oneOf{OnErrorContinue, OnErrorStop}, byModel: both(OnErrorContinue),
		Meaning: "what one that cannot be written (full disk) does: go on training with a warning, or stop"},
}
