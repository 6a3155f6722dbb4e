package lm

import (
	"slices"
	"time"
)

// Mean is a running mean of losses, or of their squares, weighted by tokens. A
// checkpoint keeps it as JSON.
type Mean struct {
	Sum    float64 `json:"sum"` // of the values, each times its tokens
	Tokens int64   `json:"tokens"`
}

// Add takes in the mean value over so many tokens.
func (m *Mean) Add(value float64, tokens int64) {
	m.Sum += value * float64(tokens)
	m.Tokens += tokens
}

// Value returns the mean, 0 without tokens.
func (m Mean) Value() float64 {
	if m.Tokens == 0 {
		return 0
	}
	return m.Sum / float64(m.Tokens)
}

// A Meter is an observer that times the steps of a run after a warm-up. Make it
// right before the run.
type Meter struct {
	NoObserver
	warmup int64
	last   time.Time
	tokens int64 // trained on before the step now made
	counts []int64
	steps  []time.Duration
	phases Phases // in all
}

// NewMeter returns a Meter that ignores the first warmup steps.
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

// Speed is the speed of the steps that a Meter timed.
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
