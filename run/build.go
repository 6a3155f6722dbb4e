package run

import (
	"errors"
	"fmt"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/processor"
	"github.com/koala-lm/koala-lm/koala"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// ModelConfig returns a model's shape. Its vocabulary is the data's, unless the
// settings have a larger one.
func ModelConfig(m spec.Model, vocab int) lm.Config {
	m.Vocab = max(m.Vocab, int64(vocab))
	return m
}

// SettlePrecision returns the settings with the precision that train.precision auto takes on
// the device, and a line that says so, "" for another value.
func SettlePrecision(s configs.Settings, vocab int, device gotch.Device) (configs.Settings, string) {
	return s.SettlePrecision(vocab, spec.Processor{GPU: device.IsCuda(), BFloat16: processor.BFloat16()})
}

// TrainConfig returns a trainer's part of the settings, whose precision is settled. It is an
// error if the device cannot do what they ask for.
func TrainConfig(s configs.Settings, device gotch.Device) (lm.TrainConfig, error) {
	if s.Train.Precision == spec.TF32 && !device.IsCuda() {
		return lm.TrainConfig{}, errors.New("train.precision: tf32 is for CUDA devices: want float32 or bfloat16")
	}
	return lm.TrainConfig{Train: s.Train, Schedule: s.Schedule, Eval: s.Eval, Checkpoint: s.Checkpoint}, nil
}

// NewOptimizer makes the optimizer of the settings over a model's parameters, and freezes
// the others.
func NewOptimizer(s configs.Settings, m lm.Model) (koala.Optimizer, error) {
	if err := lm.Freeze(m, s.Train.Freeze); err != nil {
		return nil, err
	}
	kind, err := koalaspec.Lookup(s.Optimizer.Kind)
	if err != nil {
		return nil, err
	}
	return lm.NewOptimizer(kind, s.Optimizer.Values, m)
}

// TrainBatches makes training batches of tokens as the settings say.
func TrainBatches(s configs.Settings, tokens *data.Tokens, options ...data.BatchOption) (data.Batcher, error) {
	t := s.Train
	if t.VariableBPTT {
		options = append(options, data.VariableLength(uint64(t.Seed)))
	}
	if t.DocumentMask {
		options = append(options, data.WithinDocuments())
	}
	return data.NewBatcher(t.Batching, tokens, t.Batch, s.SequenceLength(), uint64(t.Seed), options...)
}

// evalBatches returns a function that opens a pass over a split, or nil if the
// dataset does not have the split or it is too short to predict a token.
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
		if s.Train.DocumentMask {
			options = append(options, data.WithinDocuments())
		}
		return data.NewSequential(tokens, batch, s.SequenceLength(), options...)
	}
}

// newTrainer makes a trainer with the model, the optimizer and the batches of the
// settings, for closeTrainer to free.
func newTrainer(s configs.Settings, dataset *data.Dataset, device gotch.Device, shard data.BatchOption) (*lm.Trainer, error) {
	config, err := TrainConfig(s, device)
	if err != nil {
		return nil, err
	}
	tokens, ok := dataset.Split("train")
	if !ok {
		return nil, fmt.Errorf("dataset %s has no train split: prepare it again with text to train on", dataset.Dir())
	}
	batches, err := TrainBatches(s, tokens, shard)
	if err != nil {
		return nil, err
	}
	if err := checkMemory(s, dataset.Vocab(), device); err != nil {
		return nil, err
	}
	model, err := lm.New(ModelConfig(s.Model, dataset.Vocab()), uint64(s.Train.Seed), device)
	if err != nil {
		return nil, err
	}
	optimizer, err := NewOptimizer(s, model)
	if err != nil {
		model.Close()
		return nil, err
	}
	return &lm.Trainer{
		Config: config, Model: model, Optimizer: optimizer, Train: batches, Device: device,
		Valid: evalBatches(s, dataset, "valid", shard), Test: evalBatches(s, dataset, "test", shard),
	}, nil
}

func closeTrainer(t *lm.Trainer) {
	_ = t.Optimizer.Close() // frees memory: there is no error to report
	t.Model.Close()
}
