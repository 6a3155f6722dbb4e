package tracking

import "math"

// spanLength is how many points one span stands for.
const spanLength = 64

// span is what consecutive points of a metric come to.
type span struct {
	first, last     int64 // steps
	tokens, elapsed int64 // at the last step
	points          int   // all, also those that are no number
	count           int   // of numbers
	lowest, highest float64
	mean            float64
}

func newSpan(s sample) span {
	return span{first: s.step, last: s.step - 1, lowest: math.NaN(), highest: math.NaN(), mean: math.NaN()}
}

// add takes in the next point. One that comes again or late is left out, as the
// spans are made anew after it.
func (s *span) add(p sample) {
	if p.step <= s.last {
		return
	}
	s.last, s.tokens, s.elapsed = p.step, p.tokens, p.elapsed
	s.points++
	if math.IsNaN(p.value) {
		return
	}
	s.count++
	if s.count == 1 {
		s.lowest, s.highest, s.mean = p.value, p.value, p.value
		return
	}
	s.lowest, s.highest = min(s.lowest, p.value), max(s.highest, p.value)
	s.mean += (p.value - s.mean) / float64(s.count)
}

func (s *span) args(run, metric int64) []any {
	return []any{run, metric, s.first, s.last, s.tokens, s.elapsed, s.count, null(s.lowest), null(s.highest), null(s.mean)}
}
