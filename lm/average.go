package lm

import "errors"

// averaged runs f with the weights exchanged for their average, if the optimizer
// keeps one (NT-ASGD, Merity et al. 2018, section 3.2): the average is what is
// evaluated and what a checkpoint holds for weights, and training goes on from the
// weights themselves.
func (t *Trainer) averaged(f func() error) error {
	if !t.Optimizer.Averaging() {
		return f()
	}
	if err := t.Optimizer.Swap(); err != nil {
		return err
	}
	return errors.Join(f(), t.Optimizer.Swap())
}

// unaverage puts the weights of a checkpoint back that was made in averaged.
func (t *Trainer) unaverage() error {
	return t.Optimizer.Swap()
}

// observe tells an optimizer that averages how valid goes: it starts once the loss
// does not fall any more.
func (t *Trainer) observe(nats float64) {
	t.Optimizer.Observe(nats)
}
