package lm

import (
	"fmt"
	"math"

	"github.com/koala-lm/koala-lm/lm/spec"
)

// A Schedule gives the learning rate's factor over a run. A plateau schedule has
// state.
type Schedule struct {
	config spec.Schedule
	total  int64 // steps of the run, 0 if not known
	State  ScheduleState
}

// ScheduleState is the state of a plateau schedule, for checkpoints.
type ScheduleState struct {
	Factor float64 `json:"factor"`
	Bad    int     `json:"bad"` // evaluations since the last best or decay
}

// NewSchedule makes a schedule for a run of total steps, 0 if not known.
func NewSchedule(c spec.Schedule, total int64) (*Schedule, error) {
	if err := c.Check(total); err != nil {
		return nil, err
	}
	return &Schedule{config: c, total: total, State: ScheduleState{Factor: 1}}, nil
}

// Factor returns the factor at the step with this index, from 0.
func (s *Schedule) Factor(step int64) float64 {
	if s.config.FollowsEvaluations() && step >= s.config.Warmup {
		return s.State.Factor
	}
	return s.config.Factor(step, s.total)
}

// Evaluated reports to the schedule whether an evaluation was the best so far.
// (With patience 0 and gamma 0.25 this is word_language_model's rule.)
func (s *Schedule) Evaluated(best bool) {
	if best {
		s.State.Bad = 0
		return
	}
	if s.State.Bad++; s.config.FollowsEvaluations() && s.State.Bad > s.config.Patience {
		s.State.Factor = math.Max(s.config.Floor, s.State.Factor*s.config.Gamma)
		s.State.Bad = 0
	}
}

// A RangeTest replaces a schedule and raises the learning rate exponentially from
// step to step (Smith 2017). Lowest and Highest are its factors at the first and at
// the last of Steps.
type RangeTest struct {
	Lowest, Highest float64
	Steps           int64
}

// Check returns an error unless the rate rises.
func (r RangeTest) Check() error {
	if !(0 < r.Lowest && r.Lowest < r.Highest) || r.Steps < 2 {
		return fmt.Errorf("the learning rate cannot rise from %g to %g times itself in %d steps", r.Lowest, r.Highest, r.Steps)
	}
	return nil
}

// Factor returns the factor at the step with this index, from 0.
func (r RangeTest) Factor(step int64) float64 {
	return r.Lowest * math.Pow(r.Highest/r.Lowest, min(1, float64(step)/float64(r.Steps-1)))
}
