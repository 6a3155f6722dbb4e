package main

import (
	"testing"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
)

// The whole test, as a process, on real steps: results on standard output,
// nothing in a store.
func TestFindLRProcess(t *testing.T) {
	w := newWorkshop(t)
	r := w.request(settings(t, "train.steps=60", "optimizer.kind=sgd"), "")
	r.FindLR = true
	p := w.train(r)
	p.mustEnd(t, exit.OK)
	if _, ok := w.run(); ok {
		t.Error("a range test was recorded")
	}
}
