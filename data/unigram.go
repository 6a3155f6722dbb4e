package data

import (
	"fmt"
	"math"
)

// UnigramPPL returns the perplexity of a unigram model on a split: the baseline
// that a model must beat. The model's probabilities are the ids' counts in
// train, each raised by one. As for other models, the split's first token is
// not scored.
func (d *Dataset) UnigramPPL(split string) (float64, error) {
	tokens, ok := d.Split(split)
	if !ok {
		return 0, fmt.Errorf("dataset %s has no %s split", d.Name(), split)
	}
	counts, err := d.trainCounts()
	if err != nil {
		return 0, err
	}
	scored, err := count(tokens, d.Vocab())
	if err != nil {
		return 0, err
	}
	scored[tokens.At(0)]--
	n := float64(tokens.Len() - 1)
	if n == 0 {
		return math.NaN(), nil
	}
	train := d.splits["train"]
	total := math.Log(float64(train.Len() + d.Vocab()))
	var nats float64
	for id, times := range scored {
		if times > 0 {
			nats += float64(times) * (total - math.Log(float64(counts[id]+1)))
		}
	}
	return math.Exp(nats / n), nil
}

// Counts returns how often each id is in a split.
func (d *Dataset) Counts(split string) ([]int64, error) {
	tokens, ok := d.Split(split)
	if !ok {
		return nil, fmt.Errorf("dataset %s has no %s split", d.Name(), split)
	}
	return count(tokens, d.Vocab())
}

// count returns how often each id is in tokens.
func count(tokens *Tokens, vocab int) ([]int64, error) {
	counts := make([]int64, vocab)
	buffer := make([]int64, 1<<14)
	for from := 0; from < tokens.Len(); from += len(buffer) {
		part := buffer[:min(len(buffer), tokens.Len()-from)]
		if err := tokens.Read(part, from); err != nil {
			return nil, err
		}
		for _, id := range part {
			if id >= int64(vocab) {
				return nil, fmt.Errorf("%s holds the id %d, the vocabulary ends at %d", tokens.path, id, vocab-1)
			}
			counts[id]++
		}
	}
	return counts, nil
}
