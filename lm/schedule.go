package lm

import (
	"fmt"
	"math"
)

// ScheduleConfig is the factor on the learning rate over a run.
type ScheduleConfig struct {
	Kind     string  // "constant", "step", "cosine", "linear", "inverse-sqrt", "plateau" or "rise"
	Warmup   int64   // steps over which the factor rises linearly from 0
	Steps    int64   // step at which the decay or rise ends; 0 is the run's last
	Floor    float64 // smallest factor
	Gamma    float64 // factor of one decay (step, plateau); largest factor (rise)
	Every    int64   // step: steps between decays
	Patience int     // plateau: evaluations without a new best that are forgiven
}

// A Schedule follows a ScheduleConfig. Its state is for checkpoints.
type Schedule struct {
	config ScheduleConfig
	State  ScheduleState
}

// ScheduleState is what a plateau schedule remembers.
type ScheduleState struct {
	Factor float64 `json:"factor"`
	Bad    int     `json:"bad"` // evaluations since the last best or decay
}

// NewSchedule makes a schedule for a run of total steps, 0 if not known.
func NewSchedule(c ScheduleConfig, total int64) (*Schedule, error) {
	if c.Steps == 0 {
		c.Steps = total
	}
	switch c.Kind {
	case "constant", "inverse-sqrt", "plateau":
	case "step":
		if c.Every < 1 {
			return nil, fmt.Errorf("schedule.every is %d: the step schedule needs at least 1", c.Every)
		}
	case "cosine", "linear":
		if c.Steps <= c.Warmup {
			return nil, fmt.Errorf("schedule.steps is %d: the %s schedule needs the step at which it ends, after the warm-up of %d (or train.steps or train.epochs)", c.Steps, c.Kind, c.Warmup)
		}
	case "rise": // exponentially, for a learning-rate range test
		if !(0 < c.Floor && c.Floor < c.Gamma) || c.Steps < 2 {
			return nil, fmt.Errorf("the schedule cannot rise from %g to %g in %d steps", c.Floor, c.Gamma, c.Steps)
		}
	default:
		return nil, fmt.Errorf("schedule.kind %q is not known", c.Kind)
	}
	return &Schedule{config: c, State: ScheduleState{Factor: 1}}, nil
}

// Factor is for the step with this index, from 0.
func (s *Schedule) Factor(step int64) float64 {
	c := s.config
	if step < c.Warmup {
		return float64(step+1) / float64(c.Warmup)
	}
	done := min(1, float64(step-c.Warmup)/math.Max(1, float64(c.Steps-c.Warmup)))
	switch c.Kind {
	case "step":
		return math.Max(c.Floor, math.Pow(c.Gamma, float64((step-c.Warmup)/c.Every)))
	case "cosine":
		return c.Floor + (1-c.Floor)*(1+math.Cos(math.Pi*done))/2
	case "linear":
		return c.Floor + (1-c.Floor)*(1-done)
	case "inverse-sqrt":
		return math.Max(c.Floor, math.Sqrt(math.Max(1, float64(c.Warmup))/math.Max(1, float64(step+1))))
	case "plateau":
		return s.State.Factor
	case "rise":
		return c.Floor * math.Pow(c.Gamma/c.Floor, min(1, float64(step)/float64(c.Steps-1)))
	}
	return 1
}

// Evaluated tells the schedule whether an evaluation was the best so far. (With
// patience 0 and gamma 0.25 this is word_language_model's rule.)
func (s *Schedule) Evaluated(best bool) {
	if best {
		s.State.Bad = 0
		return
	}
	if s.State.Bad++; s.config.Kind == "plateau" && s.State.Bad > s.config.Patience {
		s.State.Factor = math.Max(s.config.Floor, s.State.Factor*s.config.Gamma)
		s.State.Bad = 0
	}
}
