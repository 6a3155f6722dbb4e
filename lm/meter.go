package lm

import (
	"slices"
	"time"
)

// A Meter is an observer that times the steps of a run, those of a warm-up left
// out. Make it right before the run.
type Meter struct {
	NoObserver
	warmup int64
	last   time.Time
	tokens int64 // trained on before the step now made
	counts []int64
	steps  []time.Duration
	phases Phases // in all
}

// NewMeter leaves the first warmup steps out.
func NewMeter(warmup int) *Meter {
	return &Meter{warmup: int64(warmup), last: time.Now()}
}

// Stepped takes the time since the step before, batches, bookkeeping and all.
func (m *Meter) Stepped(s Step) error {
	now := time.Now()
	if s.Step > m.warmup {
		m.steps = append(m.steps, now.Sub(m.last))
		m.counts = append(m.counts, s.Tokens-m.tokens)
		m.phases = m.phases.add(s.Phases)
	}
	m.last, m.tokens = now, s.Tokens
	return nil
}

// Speed is what a Meter saw.
type Speed struct {
	Steps           int
	Median, Min     time.Duration // of a step
	Phases          Phases        // mean of a step
	TokensPerSecond float64       // tokens of a mean step / median time: one slow step does not count
}

// Speed sums up the steps so far; it is zero without any.
func (m *Meter) Speed() Speed {
	n := len(m.steps)
	if n == 0 {
		return Speed{}
	}
	sorted := slices.Sorted(slices.Values(m.steps))
	tokens := int64(0)
	for _, c := range m.counts {
		tokens += c
	}
	s := Speed{Steps: n, Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Phases: m.phases.over(n)}
	s.TokensPerSecond = float64(tokens) / float64(n) / s.Median.Seconds()
	return s
}
