package spec

import (
	"fmt"
	"math"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// Schedule gives the factor on the learning rate over a run.
type Schedule struct {
	Kind     string
	Warmup   int64   // steps over which the factor rises linearly from 0
	Steps    int64   // step at which the schedule ends; 0: the run's last
	Floor    float64 // smallest factor
	Gamma    float64 // factor of one decay
	Every    int64   // kind step: steps between decays
	Decay    float64 // kind trapezoidal: share of the steps in which the factor falls
	Patience int     // kind plateau: evaluations without a new best before a decay
}

// A scheduleKind is a schedule's formula after the warm-up.
type scheduleKind struct {
	name string

	// factor returns the factor at a step. done is the share, in [0, 1], of the
	// steps after the warm-up that are done.
	factor func(s Schedule, step int64, done float64) float64

	ends     bool // the schedule ends at Steps
	floor    any  // default of Floor; nil if the kind has none
	decays   bool // by Gamma
	every    bool // at each multiple of Every
	share    bool // in the last share, Decay, of the steps
	patience bool // after evaluations without a new best: the running schedule has the factor
}

var scheduleKinds = []scheduleKind{
	{name: "constant", factor: func(Schedule, int64, float64) float64 { return 1 }},
	{name: "step", decays: true, every: true, floor: 0, factor: func(s Schedule, step int64, _ float64) float64 {
		return math.Max(s.Floor, math.Pow(s.Gamma, float64((step-s.Warmup)/s.Every)))
	}},
	// nanoGPT's cosine ends at a tenth.
	{name: "cosine", ends: true, floor: 0.1, factor: func(s Schedule, _ int64, done float64) float64 {
		return s.Floor + (1-s.Floor)*(1+math.Cos(math.Pi*done))/2
	}},
	{name: "linear", ends: true, floor: 0, factor: func(s Schedule, _ int64, done float64) float64 {
		return s.Floor + (1-s.Floor)*(1-done)
	}},
	// Warm-up, stable, decay (Hu et al. 2024, section 4).
	{name: "trapezoidal", ends: true, share: true, floor: 0, factor: func(s Schedule, step int64, _ float64) float64 {
		left := float64(s.Steps-step) / math.Max(1, s.Decay*float64(s.Steps))
		return s.Floor + (1-s.Floor)*min(1, math.Max(0, left))
	}},
	{name: "inverse-sqrt", floor: 0, factor: func(s Schedule, step int64, _ float64) float64 {
		return math.Max(s.Floor, math.Sqrt(math.Max(1, float64(s.Warmup))/math.Max(1, float64(step))))
	}},
	{name: "plateau", decays: true, patience: true, floor: 0},
}

// schedulesWhere returns the condition that the schedule's kind has a property.
func schedulesWhere(has func(scheduleKind) bool) []setting.Condition {
	var names []any
	for _, k := range scheduleKinds {
		if has(k) {
			names = append(names, k.name)
		}
	}
	return []setting.Condition{setting.Is("schedule.kind", names...)}
}

// Settings declares the settings of s, bound to its fields.
func (s *Schedule) Settings() []setting.Setting {
	var names setting.OneOf
	floor := setting.Value(0)
	for _, k := range scheduleKinds {
		names = append(names, k.name)
		if k.floor != nil && k.floor != 0 {
			floor = floor.When(setting.Is("schedule.kind", k.name), k.floor)
		}
	}
	return []setting.Setting{
		setting.Bind(&s.Kind, setting.Declaration{
			Key: "schedule.kind", Meaning: "how the learning rate changes; plateau decays it when an evaluation brings no new best",
			Domain: names, Default: setting.Value("constant"),
		}),
		setting.Bind(&s.Warmup, setting.Declaration{
			Key: "schedule.warmup", Meaning: "steps over which it rises linearly from 0",
			Domain: setting.AtLeast(0), Default: setting.Value(0),
		}),
		setting.Bind(&s.Steps, setting.Declaration{
			Key: "schedule.steps", Meaning: "step at which the decay ends; 0 is the run's last",
			Domain: setting.AtLeast(0), Default: setting.Value(0), Only: schedulesWhere(func(k scheduleKind) bool { return k.ends }),
		}),
		setting.Bind(&s.Floor, setting.Declaration{
			Key: "schedule.floor", Meaning: "smallest share of optimizer.lr",
			Domain: setting.Fraction, Default: floor, Only: schedulesWhere(func(k scheduleKind) bool { return k.floor != nil }),
		}),
		setting.Bind(&s.Gamma, setting.Declaration{
			Key: "schedule.gamma", Meaning: "factor of one decay",
			Domain: setting.Float{Min: 0, Max: 1, OpenMin: true}, Default: setting.Value(0.25), Only: schedulesWhere(func(k scheduleKind) bool { return k.decays }),
		}),
		setting.Bind(&s.Every, setting.Declaration{
			Key: "schedule.every", Meaning: "steps between decays",
			Domain: setting.AtLeast(1), Default: setting.Value(1000), Only: schedulesWhere(func(k scheduleKind) bool { return k.every }),
		}),
		setting.Bind(&s.Decay, setting.Declaration{
			Key: "schedule.decay", Meaning: "share of the steps, at the end, in which the learning rate falls linearly",
			Domain: setting.Float{Min: 0, Max: 1, OpenMin: true}, Default: setting.Value(0.2), Only: schedulesWhere(func(k scheduleKind) bool { return k.share }),
		}),
		setting.Bind(&s.Patience, setting.Declaration{
			Key: "schedule.patience", Meaning: "evaluations without a new best before a decay",
			Domain: setting.AtLeast(0), Default: setting.Value(0), Only: schedulesWhere(func(k scheduleKind) bool { return k.patience }),
		}),
	}
}

func (s Schedule) kind() (scheduleKind, bool) {
	for _, k := range scheduleKinds {
		if k.name == s.Kind {
			return k, true
		}
	}
	return scheduleKind{}, false
}

// Check returns an error if no run of total steps can follow the schedule. total is
// 0 if unknown.
func (s Schedule) Check(total int64) error {
	list := s.Settings()
	for _, p := range setting.Check(list, Lookup(list)) {
		return p
	}
	k, _ := s.kind()
	if s.Steps == 0 {
		s.Steps = total
	}
	if k.ends && s.Steps <= s.Warmup {
		return fmt.Errorf("schedule.steps is %d: the %s schedule needs the step at which it ends, after the warm-up of %d (or train.steps or train.epochs)", s.Steps, s.Kind, s.Warmup)
	}
	return nil
}

// Factor returns the factor on the learning rate at the step of this index, from 0,
// in a run of total steps. If the factor depends on evaluations, it is 1 after the
// warm-up.
func (s Schedule) Factor(step, total int64) float64 {
	if step < s.Warmup {
		return float64(step+1) / float64(s.Warmup)
	}
	k, known := s.kind()
	if !known || k.factor == nil {
		return 1
	}
	if s.Steps == 0 {
		s.Steps = total
	}
	done := min(1, float64(step-s.Warmup)/math.Max(1, float64(s.Steps-s.Warmup)))
	return k.factor(s, step, done)
}

// FollowsEvaluations reports whether the factor depends on the results of
// evaluations.
func (s Schedule) FollowsEvaluations() bool {
	k, _ := s.kind()
	return k.patience
}
