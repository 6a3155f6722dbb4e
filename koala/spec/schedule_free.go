package spec

import (
	"math"
	"slices"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// ScheduleFreeAdamW is Schedule-Free AdamW (Defazio et al. 2024, The Road Less
// Scheduled): averaging in place of a falling learning rate. With z, where AdamW
// steps, x, the average that is evaluated, and y between them, where the gradient g
// is taken and which the parameters are in training,
//
//	v = beta2 v + (1 - beta2) g^2,  d = g/(sqrt(v/(1 - beta2^t)) + eps) + wd y
//	z <- z - lr d
//	x <- (1 - c) x + c z,  c = w_t/(w_1 + ... + w_t),  w_t = t^r max(lr)^2
//	y <- (1 - beta1) z + beta1 x
var ScheduleFreeAdamW = register(Kind{
	Name: "schedule-free-adamw", Averages: true, Rank: 12, DecoupledDecay: true,
	About: "AdamW that averages the weights in place of a schedule (Defazio et al. 2024)",
	Hyper: append([]setting.Declaration{
		lr(always(0.0025)), weightDecay(always(0)), usualClip(),
		hidden(hyper("warmup_steps", "steps in which the learning rate rises", setting.AtLeast(0), always(0))),
		hidden(hyper("step_power", "power of the step in a step's weight, r", setting.Natural, always(0))),
		hidden(hyper("lr_power", "power of the largest learning rate in it", setting.Natural, always(2))),
	}, adamSettings()...),
	Published: setting.Values{"clip": 0},
	Temporary: copies(4),
	New: func(v setting.Values) Rule {
		return &scheduleFree{
			beta1: v.Float("beta1"), beta2: v.Float("beta2"), eps: v.Float("eps"),
			warmup: float64(v.Int("warmup_steps")), stepPower: v.Float("step_power"), lrPower: v.Float("lr_power"),
		}
	},
})

type scheduleFree struct {
	baseline
	beta1, beta2, eps          float64
	warmup, stepPower, lrPower float64

	steps             int64
	largestLR, weight float64 // weight is w_1 + ... + w_t
}

// State's optional tensors start as the parameters are at the first step.
func (o *scheduleFree) State() State {
	return State{
		Scalars: []Scalar{{Key: "largest_lr", At: &o.largestLR}, {Key: "weight", At: &o.weight}},
		Ints:    []Int{{Key: "steps", At: &o.steps, Max: math.MaxInt64 - 1}},
		Tensors: []TensorState{{Name: "square", Squares: true}, {Name: "z", Optional: true}, {Name: "average", Optional: true}},
		Average: "average",
	}
}

func (o *scheduleFree) Update(st *Step) {
	for _, p := range slices.Concat(st.Params, st.Skipped) {
		for _, name := range []string{"z", "average"} {
			if p.State[name] == nil {
				st.Machine.Create(p, name, p.Value)
			}
		}
	}
	o.steps++
	t, rise := float64(o.steps), 1.0
	if t <= o.warmup {
		rise = t / o.warmup
	}
	o.largestLR = max(o.largestLR, st.LR*rise)
	weight := math.Pow(t, o.stepPower) * math.Pow(o.largestLR, o.lrPower)
	o.weight += weight
	c := 0.0
	if o.weight > 0 {
		c = weight / o.weight
	}
	_, c2 := corrections(o.beta1, o.beta2, t)
	st.Each(func(p *Param) {
		g, y, z, x, v := st.ClippedGradient(p), p.Value, p.State["z"], p.State["average"], p.State["square"]
		v.Set(v.Mix(o.beta2, g.Square(), 1-o.beta2))
		d := g.Div(v.Scale(1/c2).Sqrt().Shift(o.eps)).Mix(1, y, p.WeightDecay)
		z.AddInPlace(d.Scale(-st.Rate(p) * rise))
		x.Set(x.Mix(1-c, z, c))
		y.Set(z.Mix(1-o.beta1, x, o.beta1))
	})
	st.Info.EffectiveLR = st.LR * rise
}
