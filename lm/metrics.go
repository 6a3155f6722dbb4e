package lm

import (
	"slices"
	"time"
)

// Mean is a mean of losses, or of squared losses, weighted by tokens. A checkpoint
// keeps it as JSON.
type Mean struct {
	Sum    float64 `json:"sum"` // sum of the values, each times its tokens
	Tokens int64   `json:"tokens"`
}

// Add adds the mean value over the given number of tokens.
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
	tokens int64 // trained on before the current step
	counts []int64
	steps  []time.Duration
	phases Phases // sum over all steps
}

// NewMeter returns a Meter that ignores the first warmup steps.
func NewMeter(warmup int) *Meter {
	return &Meter{warmup: int64(warmup), last: time.Now()}
}

// Stepped measures the time since the previous step, which includes batches and
// bookkeeping.
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

// Speed summarizes the steps that a Meter timed.
type Speed struct {
	Steps           int
	Median, Min     time.Duration // of a step
	Phases          Phases        // mean of a step
	TokensPerSecond float64       // tokens of a mean step / median time: one slow step has no influence
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
