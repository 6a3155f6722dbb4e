package spec

import (
	"math"
	"slices"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// Averages of the weights, for any kind. An average over the steps has less noise
// than the last weights, and replaces a falling learning rate (Polyak and Juditsky
// 1992; Izmailov et al. 2018).
const (
	noAverage   = "none"
	exponential = "exponential"
	uniform     = "uniform"
)

// averageSettings are the settings of the average, for every kind without its own
// average.
func averageSettings() []setting.Declaration {
	memory := share("average_memory", "memory of the exponential average", always(0.995))
	memory.Only = []setting.Condition{setting.Is("average", exponential)}
	start := hyper("average_start", "step after which the average begins", setting.AtLeast(0), always(0))
	start.Only = []setting.Condition{setting.IsNot("average", noAverage)}
	return []setting.Declaration{
		hyper("average", "average of the weights that is evaluated, saved and exported in their place; training continues from the weights",
			setting.OneOf{noAverage, exponential, uniform}, always(noAverage)),
		memory, start,
	}
}

// averaging is a rule with an average a of the weights w. After the n-th counted
// step,
//
//	a <- a + share (w - a),  share = max(1 - memory, 1/n)
//
// Uniform has memory 1: a is the mean of all n. The exponential average is also the
// mean until its memory is full, so that the first weights do not count more than
// others.
type averaging struct {
	Rule
	memory float64
	start  int64
	steps  int64
}

// weightAverage is the name of the state tensor with the average.
const weightAverage = "weight_average"

// withAverage returns the rule with the average that the values request, or the rule
// itself if they request none.
func withAverage(r Rule, v setting.Values) Rule {
	switch v.Word("average") {
	case exponential:
		return &averaging{Rule: r, memory: v.Float("average_memory"), start: v.Int("average_start")}
	case uniform:
		return &averaging{Rule: r, memory: 1, start: v.Int("average_start")}
	}
	return r
}

func (o *averaging) State() State {
	s := o.Rule.State()
	s.Ints = append(slices.Clip(s.Ints), Int{Key: "steps_to_average", At: &o.steps, Max: math.MaxInt64})
	s.Tensors = append(slices.Clip(s.Tensors), TensorState{Name: weightAverage, Optional: true})
	s.Average = weightAverage
	return s
}

func (o *averaging) Update(st *Step) {
	all := slices.Concat(st.Params, st.Skipped)
	o.Rule.Update(st)
	o.steps++
	n := o.steps - o.start
	if n < 1 {
		return
	}
	part := max(1-o.memory, 1/float64(n))
	for _, p := range all {
		if p.State[weightAverage] == nil {
			st.Machine.Create(p, weightAverage, p.Value)
		}
	}
	st.Machine.Each(all, func(p *Param) {
		a := p.State[weightAverage]
		a.AddInPlace(p.Value.Sub(a).Scale(part))
	})
}
