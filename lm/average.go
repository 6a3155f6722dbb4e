package lm

import "errors"

// averaged runs f with the weights exchanged for their average, if the optimizer
// keeps one (NT-ASGD, Merity et al. 2018, section 3.2). The average is evaluated and
// stored as a checkpoint's weights; training continues from the weights themselves.
func (t *Trainer) averaged(f func() error) error {
	if !t.Optimizer.Averaging() {
		return f()
	}
	if err := t.Optimizer.Swap(); err != nil {
		return err
	}
	return errors.Join(f(), t.Optimizer.Swap())
}

// unaverage swaps the raw weights back in after restoring a checkpoint of averaged
// weights.
func (t *Trainer) unaverage() error {
	return t.Optimizer.Swap()
}

// observe passes a validation loss to the optimizer, which starts to average once
// the loss no longer falls.
func (t *Trainer) observe(nats float64) {
	t.Optimizer.Observe(nats)
}
