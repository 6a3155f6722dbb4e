package sweep

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"go.yaml.in/yaml/v4"
)

// StopRule decides when to stop a trial early because others of its search are better:
// each search wants its own best point.
//
// asha is asynchronous successive halving (Li et al., "A System for Massively
// Parallel Hyperparameter Tuning", MLSys 2020): at each rung, the steps MinSteps *
// Factor^k, a trial pauses unless its value is among the best 1/Factor, rounded up, of
// all trials that reached the rung. Once the others have come there, the Runner
// continues those that are among the best after all: the order of the trials decides
// nothing.
//
// median is the median stopping rule (Golovin et al., "Google Vizier", KDD 2017): a
// trial stops if its best value up to a step is worse than the median of the running
// averages that the finished trials had at that step.
type StopRule struct {
	Kind     string // asha, median, or "" for none
	MinSteps int64
	Factor   int64 // for asha
}

// least is the smallest number of values for a decision.
const least = 3

// stopRule reads "stop: {kind: asha, min_steps: 100, factor: 3}".
func (r *reader) stopRule(n *yaml.Node) StopRule {
	rule := StopRule{Factor: 3}
	r.mapping(n, "stop", map[string]func(*yaml.Node){
		"kind":      func(n *yaml.Node) { rule.Kind = r.word(n, "kind") },
		"min_steps": func(n *yaml.Node) { rule.MinSteps = int64(r.countUpTo(n, "min_steps", math.MaxInt32)) },
		"factor":    func(n *yaml.Node) { rule.Factor = int64(r.countUpTo(n, "factor", 100)) },
	})
	switch {
	case rule.Kind != "asha" && rule.Kind != "median":
		r.add(n, "stop needs kind: asha or median, not %q", rule.Kind)
	case rule.MinSteps < 1:
		r.add(n, "stop needs min_steps, the steps that every trial trains")
	case rule.Factor < 2:
		r.add(n, "factor must be at least 2")
	}
	return rule
}

// evaluation is a value of the sweep's metric at a step.
type evaluation struct {
	step  int64
	value float64
}

// stopper applies a StopRule to the evaluations of a search's trials.
type stopper struct {
	rule    StopRule
	highest bool
	curves  map[string][]evaluation // by trial, in the order of steps
	ended   map[string]bool         // trials that trained to their end
}

func newStopper(rule StopRule, highest bool) *stopper {
	return &stopper{rule: rule, highest: highest, curves: map[string][]evaluation{}, ended: map[string]bool{}}
}

// add replaces the evaluations of a trial.
func (s *stopper) add(trial string, curve []evaluation, ended bool) {
	s.curves[trial], s.ended[trial] = curve, ended
}

// better compares two values; NaN is worse than all.
func (s *stopper) better(a, b float64) bool {
	switch {
	case math.IsNaN(a):
		return false
	case math.IsNaN(b):
		return true
	}
	return s.highest && a > b || !s.highest && a < b
}

// bestUpTo returns the best value of a curve up to a step, NaN for none.
func (s *stopper) bestUpTo(curve []evaluation, step int64) float64 {
	best := math.NaN()
	for _, e := range curve {
		if e.step <= step && s.better(e.value, best) {
			best = e.value
		}
	}
	return best
}

// stops returns the reason to stop a trial now, or "".
func (s *stopper) stops(trial string) string {
	curve := s.curves[trial]
	if len(curve) == 0 || curve[len(curve)-1].step < s.rule.MinSteps {
		return ""
	}
	if s.rule.Kind == "median" {
		return s.belowMedian(trial, curve)
	}
	return s.belowRung(trial, curve)
}

// belowRung checks the last rung of the trial that enough trials have reached: one that
// was good enough there is not judged again by an earlier rung. At a rung, a trial's
// value is its best one up to its first evaluation at or after the rung.
func (s *stopper) belowRung(trial string, curve []evaluation) string {
	var rungs []int64
	for rung := s.rule.MinSteps; rung <= curve[len(curve)-1].step; rung *= s.rule.Factor {
		rungs = append(rungs, rung)
	}
	for _, rung := range slices.Backward(rungs) {
		var values []float64
		own := math.NaN()
		for id, other := range s.curves {
			i := slices.IndexFunc(other, func(e evaluation) bool { return e.step >= rung })
			if i < 0 {
				continue
			}
			value := s.bestUpTo(other, other[i].step)
			values = append(values, value)
			if id == trial {
				own = value
			}
		}
		if int64(len(values)) < max(least, s.rule.Factor) {
			continue
		}
		slices.SortFunc(values, func(a, b float64) int {
			switch {
			case s.better(a, b):
				return -1
			case s.better(b, a):
				return 1
			}
			return 0
		})
		keep := (len(values) + int(s.rule.Factor) - 1) / int(s.rule.Factor)
		if s.better(values[keep-1], own) {
			return fmt.Sprintf("asha at step %d: %.4g is not among the best %d of %d", rung, own, keep, len(values))
		}
		return ""
	}
	return ""
}

func (s *stopper) belowMedian(trial string, curve []evaluation) string {
	step := curve[len(curve)-1].step
	var averages []float64
	for id, other := range s.curves {
		if id == trial || !s.ended[id] {
			continue
		}
		sum, n := 0.0, 0
		for _, e := range other {
			if e.step <= step && !math.IsNaN(e.value) && !math.IsInf(e.value, 0) {
				sum += e.value
				n++
			}
		}
		if n > 0 {
			averages = append(averages, sum/float64(n))
		}
	}
	if len(averages) < least {
		return ""
	}
	slices.SortFunc(averages, cmp.Compare[float64])
	median := (averages[(len(averages)-1)/2] + averages[len(averages)/2]) / 2
	if own := s.bestUpTo(curve, step); s.better(median, own) {
		return fmt.Sprintf("median at step %d: %.4g is worse than %.4g", step, own, median)
	}
	return ""
}
