package run

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/koala-lm/koala-lm/koala"
	"github.com/koala-lm/koala-lm/lm"
)

// A loss that is flat, falls, and rises again: the range test finds the
// steepest fall, and stops when the loss diverges.
func TestRangeTestFindsTheFall(t *testing.T) {
	stopped := false
	test := &rangeTest{stop: func() { stopped = true }}
	for i := range 100 {
		if stopped {
			break
		}
		x := float64(i) / 99 // of the way from 1e-3 to 1e2
		nats := 6 - 2/(1+math.Exp(-40*(x-0.5)))
		if x > 0.75 {
			nats += 100 * (x - 0.75)
		}
		if err := test.Stepped(lm.Step{Nats: nats, LR: 1e-3 * math.Pow(1e5, x)}); err != nil {
			t.Fatal(err)
		}
	}
	if !stopped || !test.ranAway {
		t.Error("the test did not stop when the loss ran away")
	}
	steepest, lowest := test.steepest()
	// The running mean lags by about ten steps.
	if lr := test.points[steepest].lr; lr < 0.3 || lr > 2 {
		t.Errorf("steepest at %g, want it near 0.5", lr)
	}
	if lr := test.points[lowest].lr; lr < 3 || lr > 12 {
		t.Errorf("lowest at %g, want it between 3 and 12", lr)
	}
	var out bytes.Buffer
	if err := test.write(&out); err != nil || !strings.Contains(out.String(), "steepest fall at optimizer.lr ") || !strings.Contains(out.String(), "runs away at ") {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestRangeTestOfNothing(t *testing.T) {
	test := &rangeTest{stop: func() {}}
	if err := test.Stepped(lm.Step{Nats: math.NaN(), LR: 1}); err != nil {
		t.Fatal(err)
	}
	if err := test.write(&bytes.Buffer{}); err == nil {
		t.Error("no error where no loss was finite")
	}
	test = &rangeTest{stop: func() {}}
	for i := range 30 {
		if err := test.Stepped(lm.Step{Nats: 5, LR: float64(i + 1), Optimizer: koala.StepInfo{}}); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := test.write(&out); err != nil || !strings.Contains(out.String(), "does not fall") {
		t.Errorf("%v\n%s", err, &out)
	}
}
