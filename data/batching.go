package data

import (
	"fmt"
	"strings"
)

// The batchings: where the sequences of a batch come from.
const (
	Contiguous = "contiguous" // parallel streams through the text, with carried state
	Random     = "random"     // windows at random positions
	Sequential = "sequential" // windows one after another
)

var batchings = []struct {
	name string
	open func(t *Tokens, batch, length int, seed uint64, list ...BatchOption) (Batcher, error)
}{
	{Contiguous, func(t *Tokens, batch, length int, _ uint64, list ...BatchOption) (Batcher, error) {
		return NewContiguous(t, batch, length, list...)
	}},
	{Random, NewRandom},
	{Sequential, func(t *Tokens, batch, length int, _ uint64, list ...BatchOption) (Batcher, error) {
		return NewSequential(t, batch, length, list...)
	}},
}

// Batchings returns the names of all batchings.
func Batchings() []string {
	names := make([]string, len(batchings))
	for i, b := range batchings {
		names[i] = b.name
	}
	return names
}

// NewBatcher returns the Batcher called name over t. Its batches hold batch
// sequences of length tokens side by side. Only Random draws from seed.
func NewBatcher(name string, t *Tokens, batch, length int, seed uint64, list ...BatchOption) (Batcher, error) {
	for _, b := range batchings {
		if b.name == name {
			return b.open(t, batch, length, seed, list...)
		}
	}
	return nil, fmt.Errorf("batching %q: expected one of %s", name, strings.Join(Batchings(), ", "))
}
