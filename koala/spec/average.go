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
	polynomial  = "polynomial"
)

// decay is the exponent of the polynomial average: the weights of step t count
// (t/n)^decay, so that the average is over about the last tenth of the steps,
// however many there are.
const decay = 9

// averageSettings are the settings of the average, for every kind without its own
// average.
func averageSettings(averaged bool) []setting.Declaration {
	usual := always(noAverage)
	if averaged {
		usual = usual.When(setting.Is("schedule.kind", "constant"), polynomial)
	}
	memory := share("average_memory", "memory of the exponential average", always(0.995))
	memory.Only = []setting.Condition{setting.Is("average", exponential)}
	start := hyper("average_start", "step after which the average begins", setting.AtLeast(0), always(0))
	start.Only = []setting.Condition{setting.IsNot("average", noAverage)}
	return []setting.Declaration{
		hyper("average", "average of the weights that is evaluated, saved and exported in their place; training continues from the weights",
			setting.OneOf{noAverage, exponential, uniform, polynomial}, usual),
		memory, start,
	}
}

// averaging is a rule with an average a of the weights w. After the n-th counted
// step,
//
//	a <- a + share (w - a)
//
// The share is 1/n for the uniform average, the mean of all n; max(1 - memory, 1/n)
// for the exponential one, which is the mean until its memory is full, so that the
// first weights do not count more than others; and (decay + 1)/(n + decay) for the
// polynomial one (Shamir and Zhang, ICML 2013, section 4).
type averaging struct {
	Rule
	share func(n float64) float64
	start int64
	steps int64
}

// weightAverage is the name of the state tensor with the average.
const weightAverage = "weight_average"

// withAverage returns the rule with the average that the values request, or the rule
// itself if they request none.
func withAverage(r Rule, v setting.Values) Rule {
	var share func(n float64) float64
	switch v.Word("average") {
	case exponential:
		memory := v.Float("average_memory")
		share = func(n float64) float64 { return max(1-memory, 1/n) }
	case uniform:
		share = func(n float64) float64 { return 1 / n }
	case polynomial:
		share = func(n float64) float64 { return (decay + 1) / (n + decay) }
	default:
		return r
	}
	return &averaging{Rule: r, share: share, start: v.Int("average_start")}
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
	part := o.share(float64(n))
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
