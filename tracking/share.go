package tracking

import (
	"math"
	"time"
)

// Share returns the part of a run's training that is done, from 0 to 1: that of the
// limit which is nearest, of steps, epochs or time. It is NaN if no limit is known.
func (r RunSummary) Share() float64 {
	if r.Status == Finished {
		return 1
	}
	share := math.NaN()
	part := func(done, of float64) {
		if of > 0 && !(share > done/of) {
			share = min(1, done/of)
		}
	}
	number := func(key string) float64 {
		switch v := r.Settings[key].(type) {
		case int64:
			return float64(v)
		case float64:
			return v
		}
		return 0
	}
	part(float64(r.Steps), number("train.steps"))
	part(float64(r.Tokens), number("train.epochs")*float64(r.TrainTokens))
	if text, ok := r.Settings["train.time_limit"].(string); ok {
		if limit, err := time.ParseDuration(text); err == nil {
			part(r.Seconds, limit.Seconds())
		}
	}
	return share
}
