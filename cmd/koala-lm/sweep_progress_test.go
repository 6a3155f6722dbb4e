package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/koala-lm/koala-lm/sweep"
)

func TestSweepLines(t *testing.T) {
	state := sweep.Progress{Name: "lr", Ended: 2, Pending: 6, Share: 0.5, Left: 90 * time.Second}
	for i := range 15 {
		state.Running = append(state.Running, sweep.TrialProgress{Label: strings.Repeat("lr=0.1 ", 1+i), Step: 50, Steps: 100, Share: 0.5, Metric: "val_ppl", Best: 123.456, TrainingTime: time.Minute})
	}
	state.Running[1].Best, state.Running[1].Steps, state.Running[1].Share = math.NaN(), 0, math.NaN()
	lines := sweepLines(state, 80)
	want := []string{
		"[==========          ] sweep lr: 2 of 6 trials done, 50 %, 1m30s left",
		"[==========          ] step 50/100, 50 %, val_ppl 123.5, 1m0s  lr=0.1 ",
		"[                    ] step 50, 1m0s  lr=0.1 lr=0.1 ",
	}
	for i := range want {
		if lines[i] != want[i] {
			t.Errorf("line %d: %q, want %q", i, lines[i], want[i])
		}
	}
	if len(lines) != 14 || lines[13] != "  and 3 more" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	for _, line := range lines {
		if len([]rune(line)) >= 80 {
			t.Errorf("%q does not fit", line)
		}
	}
}
