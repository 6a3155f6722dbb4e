package main

import (
	"fmt"
	"math"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/koala"
	"github.com/koala-lm/koala-lm/lm"
)

// The settings of package configs in the words of the packages that compute,
// which do not know it.

func modelConfig(m configs.Model, vocab int) lm.Config {
	d := m.Dropout
	var cutoffs []int64
	for _, cut := range m.Cutoffs {
		cutoffs = append(cutoffs, int64(cut))
	}
	return lm.Config{
		Kind: m.Kind, Vocab: int64(vocab), Layers: m.Layers, Embed: int64(m.Embed), Hidden: int64(m.Hidden), Tied: m.Tied,
		Heads: m.Heads, KVHeads: m.KVHeads, Context: int64(m.Context), Norm: m.Norm, Position: m.Position, MLP: m.MLP,
		Softmax: m.Softmax, Cutoffs: cutoffs,
		Dropout: lm.Dropout{Input: d.Input, Embed: d.Embed, Hidden: d.Hidden, Output: d.Output, Weight: d.Weight, Locked: d.Locked},
	}
}

func trainConfig(s configs.Settings) lm.TrainConfig {
	t := s.Train
	config := lm.TrainConfig{
		Steps: int64(t.Steps), Epochs: t.Epochs, TimeLimit: t.TimeLimit, Accumulate: t.Accumulate, Seed: uint64(t.Seed),
		Alpha: t.Alpha, Beta: t.Beta, BFloat16: t.Precision == "bfloat16",
		EvalEvery: int64(s.Eval.Every), Patience: s.Eval.Patience, CheckpointEvery: int64(s.Checkpoint.Every), CheckpointAfter: s.Checkpoint.Interval,
		LogEvery: logEvery, MaxSkipped: s.Optimizer.MaxSkipped,
		Schedule: lm.ScheduleConfig{
			Kind: s.Schedule.Kind, Warmup: int64(s.Schedule.Warmup), Steps: int64(s.Schedule.Steps), Floor: s.Schedule.Floor,
			Gamma: s.Schedule.Gamma, Every: int64(s.Schedule.Every), Patience: s.Schedule.Patience,
		},
	}
	if t.VariableBPTT {
		config.BPTT = t.BPTT
	}
	return config
}

// logEvery is the number of steps between two rows of training metrics: often
// enough for a curve of a short run, seldom enough for a store of long ones.
const logEvery = 10

// newOptimizer makes the optimizer over a model's parameters. Weight decay is for
// matrices alone where the optimizer decouples it, as is usual for AdamW.
func newOptimizer(s configs.Settings, m lm.Model) (koala.Optimizer, error) {
	o := s.Optimizer
	decayed := koala.Group{LR: 1, WeightDecay: o.WeightDecay}
	plain := koala.Group{LR: 1}
	for _, p := range m.Params() {
		g := &decayed
		if o.Kind == configs.AdamW && !p.Decay {
			g = &plain
		}
		g.Params = append(g.Params, p.Tensor)
		g.Names = append(g.Names, p.Name)
	}
	groups := []koala.Group{decayed}
	if len(plain.Params) > 0 {
		groups = append(groups, plain)
	}
	options := koala.Options{
		LR: o.LR, Clip: s.Train.Clip, Sigma: o.Sigma, Q: o.Q, AlphaR: o.AlphaR,
		SW: o.SW, SC: o.SC, SV: o.SV, A: o.A, QW: o.QW, QV: o.QV,
		Symmetric: o.Symmetric, DecayInStep: o.DecayInStep,
		Momentum: o.Momentum, Nesterov: o.Nesterov, Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps,
		Nonmono: o.Nonmono, AverageFrom: -1,
	}
	if o.R != nil {
		options.R = *o.R
	}
	return koala.New(o.Kind, groups, options)
}

// trainBatches cuts the train split as the settings say.
func trainBatches(s configs.Settings, tokens *data.Tokens, options ...data.BatchOption) (data.Batcher, error) {
	t, length := s.Train, s.SequenceLength()
	switch t.Batching {
	case "contiguous":
		if t.VariableBPTT {
			options = append(options, data.VariableLength(uint64(t.Seed)))
		}
		return data.NewContiguous(tokens, t.Batch, length, options...)
	case "random":
		return data.NewRandom(tokens, t.Batch, length, uint64(t.Seed), options...)
	case "sequential":
		return data.NewSequential(tokens, t.Batch, length, options...)
	}
	return nil, fmt.Errorf("train.batching %q is not known", t.Batching)
}

// evalBatches returns what opens a pass over a split, or nil where it is absent
// or too short to predict anything.
func evalBatches(s configs.Settings, d *data.Dataset, split string, options ...data.BatchOption) func() (data.Batcher, error) {
	tokens, ok := d.Split(split)
	if !ok || tokens.Len() < 2 {
		return nil
	}
	return func() (data.Batcher, error) {
		batch := min(s.Eval.Batch, tokens.Len()-1)
		options := append([]data.BatchOption{data.Evaluation()}, options...)
		if s.Model.Recurrent() {
			return data.NewContiguous(tokens, batch, s.SequenceLength(), options...)
		}
		return data.NewSequential(tokens, batch, s.SequenceLength(), options...)
	}
}

// splitMetrics are an evaluation's metrics under their names in the store.
func splitMetrics(prefix string, r lm.Result, split data.SplitInfo) map[string]float64 {
	m := map[string]float64{prefix + "loss": r.Nats, prefix + "ppl": r.Perplexity()}
	if split.Words > 0 {
		m[prefix+"word_ppl"] = r.WordPerplexity(split.Tokens, split.Words)
	}
	if split.Bytes > 0 {
		m[prefix+"bits_per_byte"] = r.BitsPerByte(split.Tokens, split.Bytes)
	}
	return m
}

func perplexity(nats float64) float64 { return math.Exp(nats) }
