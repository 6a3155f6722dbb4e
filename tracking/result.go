package tracking

import (
	"math"
	"strings"
)

// Outcome says whether a run has a result in a metric, or why not.
type Outcome string

const (
	Reached   Outcome = "reached"
	Diverged  Outcome = "diverged"   // the last value is not finite, or training stopped for that reason
	Broken    Outcome = "failed"     // the run failed or crashed
	NoneSoFar Outcome = "unmeasured" // the run has no value of the metric
)

// Result is a run's result in a metric: its best value at any step. A run that
// diverged has none. Lists, rankings, sweeps and pages all use this definition.
type Result struct {
	Outcome Outcome
	Best    float64 // NaN without a finite value; kept for a failed run
	Last    float64
}

// NewResult returns a run's result in a metric. logged is false where the run has
// no value of the metric.
func NewResult(status Status, reason string, logged bool, last, best float64) Result {
	r := Result{Outcome: Reached, Best: best, Last: last}
	switch {
	case strings.HasPrefix(reason, DivergedReason), logged && (math.IsNaN(last) || math.IsInf(last, 0)):
		r.Outcome, r.Best = Diverged, math.NaN()
	case status == Failed || status == Crashed:
		r.Outcome = Broken
	case !logged:
		r.Outcome = NoneSoFar
	}
	if !logged {
		r.Best, r.Last = math.NaN(), math.NaN()
	}
	return r
}

// Result returns the run's result in a metric.
func (r RunSummary) Result(metric string) Result {
	m, logged := r.Metrics[metric]
	return NewResult(r.Status, r.Reason, logged, m.Last, m.Best)
}
