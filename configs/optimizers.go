package configs

// defaultLR is, by kind of optimizer, a learning rate that trains the small
// models sensibly: first recurrent, then Transformer. KOALA's is a multiplier
// of the filter's own step, as docs/study.md found it.
var defaultLR = map[string][2]float64{
	KoalaV:  {1, 0.3},
	KoalaM:  {0.1, 0.03},
	KoalaPP: {1, 1},
	KoalaD:  {10, 1},
	SGD:     {20, 1},
	Adam:    {0.002, 0.001},
	AdamW:   {0.002, 0.001},
	ASGD:    {30, 1},
}

// defaultClipping bounds the gradient for the kinds whose step grows with it, and
// for those whose running mean of squares remembers the first ones. KOALA-V and
// KOALA-M divide by the gradient's norm themselves.
var defaultClipping = map[string][2]float64{
	KoalaPP: {0.25, 1},
	KoalaD:  {0.25, 1},
	SGD:     {0.25, 1},
	Adam:    {0.25, 1},
	AdamW:   {0.25, 1},
	ASGD:    {0.25, 1},
}

var defaultDecay = map[string]float64{
	AdamW: 0.01,   // as PyTorch
	ASGD:  1.2e-6, // as AWD-LSTM
}

// pick takes the column of the model in s.
func pick(s *Settings, of [2]float64) float64 {
	if s.Model.Recurrent() {
		return of[0]
	}
	return of[1]
}

func defaultClip(s *Settings) any { return pick(s, defaultClipping[s.Optimizer.Kind]) }

// defaultQ is larger where the authors' 1 (found on images) is too timid, which on
// recurrent models it is by far; on Transformers 10 diverges. koala++ steps along
// q, and not along its root (koala/README.md).
func defaultQ(s *Settings) any {
	switch s.Optimizer.Kind {
	case KoalaD:
		return 1e-3
	case KoalaPP:
		return pick(s, [2]float64{100, 1})
	}
	return pick(s, [2]float64{10, 1})
}

// defaultQV gives the velocity four fifths of the movement (koala/README.md).
func defaultQV(s *Settings) any { return pick(s, [2]float64{100, 3}) }

// defaultSigma is for koala-d what lets its first steps be as long as the later.
func defaultSigma(s *Settings) any {
	if s.Optimizer.Kind == KoalaD {
		return 0.01
	}
	return 0.1
}

func defaultBeta2(s *Settings) any {
	if s.Optimizer.Kind == KoalaD && !s.Model.Recurrent() {
		return 0.99
	}
	return 0.999
}

// defaultHidden is the embedding's width for a recurrent model, and for a
// Transformer four times that, or with SwiGLU, which has three matrices for
// two, two thirds of it rounded up to a multiple of 32.
func defaultHidden(s *Settings) any {
	switch {
	case s.Model.Recurrent():
		return s.Model.Embed
	case s.Model.MLP == "swiglu":
		return (8*s.Model.Embed/3 + 31) / 32 * 32
	}
	return 4 * s.Model.Embed
}

// defaultFloor follows nanoGPT in letting a cosine end at a tenth.
func defaultFloor(s *Settings) any {
	if s.Schedule.Kind == "cosine" {
		return 0.1
	}
	return 0
}

// defaultEpochs gives a run its length where steps do not; a time limit is a
// bound on that length, not another.
func defaultEpochs(s *Settings) any {
	if s.Train.Steps > 0 {
		return 0
	}
	return 6
}

var optimizerFields = []field{
	{
		key: "optimizer.kind", meaning: "update rule",
		at: func(s *Settings) any { return &s.Optimizer.Kind }, in: oneOf{KoalaV, KoalaM, KoalaPP, KoalaD, SGD, Adam, AdamW, ASGD}, byModel: both(KoalaV),
	},
	{
		key: "optimizer.lr", meaning: "learning rate; KOALA's multiplies the filter's own step",
		at: func(s *Settings) any { return &s.Optimizer.LR }, in: positive,
		byOption: func(s *Settings) any { return pick(s, defaultLR[s.Optimizer.Kind]) }, optionText: "koala-v 1 (0.3), koala-m 0.1 (0.03), koala++ 1, koala-d 10 (1), sgd 20 (1), asgd 30 (1), adam and adamw 0.002 (0.001)",
	},
	{
		key: "optimizer.weight_decay", meaning: "pull towards zero; decoupled for adamw and koala-d",
		at: func(s *Settings) any { return &s.Optimizer.WeightDecay }, in: natural,
		byOption: func(s *Settings) any { return defaultDecay[s.Optimizer.Kind] }, optionText: "0; adamw 0.01, asgd 1.2e-6",
	},
	onlyBeside("optimizer.kind", field{
		key: "optimizer.sigma", meaning: "initial variance of the parameters",
		at: func(s *Settings) any { return &s.Optimizer.Sigma }, in: positive,
		byOption: defaultSigma, optionText: "0.1; koala-d 0.01",
	}, KoalaV, KoalaPP, KoalaD),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.q", meaning: "variance added each step; the step grows with its root",
		at: func(s *Settings) any { return &s.Optimizer.Q }, in: natural,
		byOption: defaultQ, optionText: "10 (1); koala++ 100 (1), koala-d 0.001",
	}, KoalaV, KoalaPP, KoalaD),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.r", meaning: "variance of the measured loss; adaptive follows the losses' second moment",
		at: func(s *Settings) any { return &s.Optimizer.R }, in: adaptive{positive}, byModel: both(nil),
	}, KoalaV, KoalaM, KoalaPP, KoalaD),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.alpha_r", meaning: "memory of the adaptive r",
		at: func(s *Settings) any { return &s.Optimizer.AlphaR }, in: below1, byModel: both(0.9),
	}, KoalaV, KoalaM, KoalaPP, KoalaD),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.sw", meaning: "initial variance of the weights",
		at: func(s *Settings) any { return &s.Optimizer.SW }, in: positive, byModel: both(0.1),
	}, KoalaM),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.sc", meaning: "initial covariance of weights and velocity; sc^2 is at most sw sv",
		at: func(s *Settings) any { return &s.Optimizer.SC }, in: anyReal, byModel: both(0),
	}, KoalaM),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.sv", meaning: "initial variance of the velocity",
		at: func(s *Settings) any { return &s.Optimizer.SV }, in: natural, byModel: both(0.1),
	}, KoalaM),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.a", meaning: "share of the velocity that is left after a step",
		at: func(s *Settings) any { return &s.Optimizer.A }, in: fraction, byModel: both(0.9),
	}, KoalaM),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.qw", meaning: "variance added to the weights each step, at the start",
		at: func(s *Settings) any { return &s.Optimizer.QW }, in: natural, byModel: both(0.01),
	}, KoalaM),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.qv", meaning: "variance added to the velocity each step",
		at: func(s *Settings) any { return &s.Optimizer.QV }, in: natural,
		byOption: defaultQV, optionText: "100 (3)",
	}, KoalaM),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.symmetric", meaning: "the symmetric form, as in the paper's Algorithm 1",
		at: func(s *Settings) any { return &s.Optimizer.Symmetric }, in: truth{}, byModel: both(true),
	}, KoalaPP),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.decay_in_step", meaning: "step along g + weight_decay p, not g",
		at: func(s *Settings) any { return &s.Optimizer.DecayInStep }, in: truth{}, byModel: both(false),
	}, KoalaV),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.momentum", meaning: "share of the last step's direction that is kept",
		at: func(s *Settings) any { return &s.Optimizer.Momentum }, in: below1, byModel: both(0),
	}, SGD),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.nesterov", meaning: "look ahead along the momentum",
		at: func(s *Settings) any { return &s.Optimizer.Nesterov }, in: truth{}, byModel: both(false),
	}, SGD),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.beta1", meaning: "memory of the gradient's mean",
		at: func(s *Settings) any { return &s.Optimizer.Beta1 }, in: below1, byModel: both(0.9),
	}, Adam, AdamW, KoalaD),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.beta2", meaning: "memory of the gradient's mean square",
		at: func(s *Settings) any { return &s.Optimizer.Beta2 }, in: below1,
		byOption: defaultBeta2, optionText: "0.999; koala-d 0.999 (0.99)",
	}, Adam, AdamW, KoalaD),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.eps", meaning: "added to the root of that mean square",
		at: func(s *Settings) any { return &s.Optimizer.Eps }, in: positive, byModel: both(1e-8),
	}, Adam, AdamW, KoalaD),
	onlyBeside("optimizer.kind", field{
		key: "optimizer.nonmono", meaning: "evaluations without a new best before the weights are averaged (NT-ASGD)",
		at: func(s *Settings) any { return &s.Optimizer.Nonmono }, in: atLeast(1), byModel: both(5),
	}, ASGD),
	{
		key: "optimizer.max_skipped", meaning: "steps in a row that a loss or gradient that is not finite may cost before the run fails",
		at: func(s *Settings) any { return &s.Optimizer.MaxSkipped }, in: atLeast(1), byModel: both(5),
	},
}
