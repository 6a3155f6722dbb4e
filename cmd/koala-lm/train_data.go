package main

import (
	"fmt"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/data"
)

// checkData returns an error unless these settings can train on the dataset in dir.
// It leaves the files' checksums to the engine, which reads the files anyway.
func checkData(dir string, s configs.Settings) error {
	dataset, err := data.Open(dir, data.Unverified())
	if err != nil {
		return err
	}
	defer dataset.Close()
	return checkDataset(dataset, s)
}

// checkDataset returns an error unless these settings can train on the dataset.
func checkDataset(dataset *data.Dataset, s configs.Settings) error {
	dir := dataset.Dir()
	train, ok := dataset.Split("train")
	if !ok {
		return fmt.Errorf("dataset %s has no train split", dir)
	}
	t := s.Train
	if _, err := data.NewBatcher(t.Batching, train, t.Batch, s.SequenceLength(), uint64(t.Seed)); err != nil {
		return fmt.Errorf("dataset %s: %w", dir, err)
	}
	if cuts := s.Model.Cutoffs; len(cuts) > 0 && cuts[len(cuts)-1] >= int64(dataset.Vocab()) {
		return fmt.Errorf("model.cutoffs %v must be below the vocabulary of dataset %s, %d", cuts, dir, dataset.Vocab())
	}
	if vocab := int64(dataset.Vocab()); s.Model.Vocab > 0 && s.Model.Vocab < vocab {
		return fmt.Errorf("model.vocab %d must be at least the vocabulary of dataset %s, %d", s.Model.Vocab, dir, vocab)
	}
	if _, ok := dataset.Split("valid"); !ok {
		return needsValid(dir, s)
	}
	return nil
}

// needsValid refuses settings that depend on evaluations if the dataset has no valid
// split.
func needsValid(dir string, s configs.Settings) error {
	key := ""
	switch {
	case s.Schedule.FollowsEvaluations():
		key = "schedule.kind " + s.Schedule.Kind
	case s.Eval.Patience > 0:
		key = "eval.patience"
	default:
		return nil
	}
	return fmt.Errorf("%s needs evaluations, and dataset %s has no valid split", key, dir)
}
