package main

import (
	"math"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/koala"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// modelConfig is a model's shape with the vocabulary of its data, unless the settings
// say a larger one.
func modelConfig(m spec.Model, vocab int) lm.Config {
	m.Vocab = max(m.Vocab, int64(vocab))
	return m
}

func trainConfig(s configs.Settings) lm.TrainConfig {
	return lm.TrainConfig{Train: s.Train, Schedule: s.Schedule, Eval: s.Eval, Checkpoint: s.Checkpoint}
}

// newOptimizer makes the optimizer over a model's parameters.
func newOptimizer(s configs.Settings, m lm.Model) (koala.Optimizer, error) {
	kind, err := koalaspec.Lookup(s.Optimizer.Kind)
	if err != nil {
		return nil, err
	}
	return lm.NewOptimizer(kind, s.Optimizer.Values, m)
}

// trainBatches cuts the train split as the settings say.
func trainBatches(s configs.Settings, tokens *data.Tokens, options ...data.BatchOption) (data.Batcher, error) {
	t := s.Train
	if t.VariableBPTT {
		options = append(options, data.VariableLength(uint64(t.Seed)))
	}
	return data.NewBatcher(t.Batching, tokens, t.Batch, s.SequenceLength(), uint64(t.Seed), options...)
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
		if s.Model.KindOf().CarriesState {
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
