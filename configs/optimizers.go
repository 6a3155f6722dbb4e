package configs

import (
	"fmt"
	"slices"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// Optimizer is the update rule and its hyperparameters, by the keys of its kind.
type Optimizer struct {
	Kind string
	setting.Values
}

// An optimizerKind declares an optimizer's hyperparameters.
type optimizerKind struct {
	name  string
	hyper []setting.Declaration
	// check finds what does not fit together; nil if each value stands alone. Keys
	// and texts are without the section's name.
	check func(setting.Values) []setting.Problem
}

// clipKey is the hyperparameter that is set as train.clip.
const clipKey = "clip"

// qualified is a hyperparameter's declaration as a setting.
func qualified(d setting.Declaration) setting.Declaration {
	if d.Key == clipKey {
		d.Key = "train." + clipKey
	}
	return d.Within("optimizer")
}

// settings declares optimizer.kind and the hyperparameters of all kinds, each once,
// bound to o.
func (o *Optimizer) settings() []setting.Setting {
	if o.Values == nil {
		o.Values = setting.Values{}
	}
	var names setting.OneOf
	for _, k := range optimizerKinds {
		names = append(names, k.name)
	}
	list := []setting.Setting{setting.Bind(&o.Kind, setting.Declaration{
		Key: "optimizer.kind", Meaning: "update rule", Domain: names, Default: setting.Value("koala-v"),
	})}
	for _, d := range hyperparameters() {
		list = append(list, o.Bind(d.Key, d.setting))
	}
	return list
}

// A hyperparameter is what several kinds declare under one key, as one setting.
type hyperparameter struct {
	Key     string
	setting setting.Declaration
}

// hyperparameters merges the declarations of all kinds by key.
func hyperparameters() []hyperparameter {
	var list []hyperparameter
	for _, k := range optimizerKinds {
		for _, d := range k.hyper {
			if !d.Hidden && !slices.ContainsFunc(list, func(h hyperparameter) bool { return h.Key == d.Key }) {
				list = append(list, merge(d.Key))
			}
		}
	}
	return list
}

// merge makes one setting of the hyperparameter key. Its default is the one that
// half of the kinds or more have, if there is one, and otherwise given by kind.
func merge(key string) hyperparameter {
	type variant struct {
		d     setting.Declaration
		kinds []any
	}
	var variants []variant // by default
	var kinds []any
	meanings := map[string][]string{}
	var meaning string
	for _, k := range optimizerKinds {
		i := slices.IndexFunc(k.hyper, func(d setting.Declaration) bool { return d.Key == key })
		if i < 0 {
			continue
		}
		d := qualified(k.hyper[i])
		kinds = append(kinds, k.name)
		if meaning == "" {
			meaning = d.Meaning
		}
		meanings[d.Meaning] = append(meanings[d.Meaning], k.name)
		text := d.Default.Text(d.Domain)
		v := slices.IndexFunc(variants, func(v variant) bool { return v.d.Default.Text(d.Domain) == text })
		if v < 0 {
			v = len(variants)
			variants = append(variants, variant{d: d})
		}
		variants[v].kinds = append(variants[v].kinds, k.name)
	}
	usual := slices.MaxFunc(variants, func(a, b variant) int { return len(a.kinds) - len(b.kinds) })
	merged := usual.d
	if 2*len(usual.kinds) < len(kinds) {
		usual, merged.Default = variant{}, setting.Default{}
	}
	for _, v := range variants {
		if usual.kinds == nil || v.d.Default.Text(v.d.Domain) != usual.d.Default.Text(v.d.Domain) {
			merged.Default = merged.Default.When(setting.Is("optimizer.kind", v.kinds...), v.d.Default)
		}
	}
	merged.Meaning = meaning
	for other, names := range meanings {
		if other != meaning {
			merged.Meaning += fmt.Sprintf("; %s: %s", setting.OrList(names), other)
		}
	}
	if len(kinds) < len(optimizerKinds) {
		merged.Only = append(slices.Clone(merged.Only), setting.Is("optimizer.kind", kinds...))
	}
	return hyperparameter{key, merged}
}

// problems returns the values that do not fit together for the kind.
func (o *Optimizer) problems() []setting.Problem {
	i := slices.IndexFunc(optimizerKinds, func(k optimizerKind) bool { return k.name == o.Kind })
	if i < 0 || optimizerKinds[i].check == nil {
		return nil
	}
	list := optimizerKinds[i].check(o.Values)
	for n := range list {
		list[n].Text = "optimizer." + list[n].Text
		for m, key := range list[n].Keys {
			list[n].Keys[m] = "optimizer." + key
		}
	}
	return list
}

func byFamily(recurrent, transformer any) setting.Default {
	return setting.Value(recurrent).When(setting.Is(spec.FamilyKey, string(spec.TransformerFamily)), transformer)
}

func hyper(key, meaning string, domain setting.Domain, d setting.Default) setting.Declaration {
	return setting.Declaration{Key: key, Meaning: meaning, Domain: domain, Default: d}
}

func base(lr setting.Default, decay any, clip setting.Default) []setting.Declaration {
	return []setting.Declaration{
		hyper("lr", "learning rate; KOALA's multiplies the filter's own step", setting.Positive, lr),
		hyper("weight_decay", "pull towards zero; decoupled for adamw and koala-d", setting.Natural, setting.Value(decay)),
		hyper(clipKey, "largest norm of the gradient; 0 is no limit", setting.Natural, clip),
	}
}

func adamHypers(beta2 setting.Default) []setting.Declaration {
	return []setting.Declaration{
		hyper("beta1", "memory of the gradient's mean", setting.Below1, setting.Value(0.9)),
		hyper("beta2", "memory of the gradient's mean square", setting.Below1, beta2),
		hyper("eps", "added to the root of that mean square", setting.Positive, setting.Value(1e-8)),
	}
}

func filterHypers() []setting.Declaration {
	alpha := hyper("alpha_r", "memory of the adaptive r", setting.Below1, setting.Value(0.9))
	alpha.Idle = []setting.Idle{{When: []setting.Condition{setting.IsNot("r", "adaptive")}, Reason: "the variance is fixed"}}
	return []setting.Declaration{
		hyper("r", "variance of the measured loss; adaptive follows the losses' second moment",
			setting.FloatOr{Word: "adaptive", Numbers: setting.Positive}, setting.Value("adaptive")),
		alpha,
	}
}

func variances(sigma any, q setting.Default) []setting.Declaration {
	return []setting.Declaration{
		hyper("sigma", "initial variance of the parameters", setting.Positive, setting.Value(sigma)),
		hyper("q", "variance added each step; the step grows with its root", setting.Natural, q),
	}
}

func decayInStep() setting.Declaration {
	d := hyper("decay_in_step", "step along g + weight_decay p, not g", setting.Bool{}, setting.Value(false))
	d.Idle = []setting.Idle{{
		When: []setting.Condition{setting.Is("weight_decay", 0)}, Reason: "there is no weight decay",
		Means: setting.Amounts(setting.Value(false)),
	}}
	return d
}

var (
	noClip    = setting.Value(0)
	usualClip = byFamily(0.25, 1)
)

// optimizerKinds declares the hyperparameters of each kind, in the order in which
// kinds are listed.
var optimizerKinds = []optimizerKind{
	{name: "koala-v", hyper: slices.Concat(base(byFamily(1, 0.3), 0, noClip), variances(0.1, byFamily(10, 1)), filterHypers(),
		[]setting.Declaration{decayInStep()})},
	{name: "koala-m", hyper: slices.Concat(base(byFamily(0.1, 0.03), 0, noClip), filterHypers(), []setting.Declaration{
		hyper("sw", "initial variance of the weights", setting.Positive, setting.Value(0.1)),
		hyper("sc", "initial covariance of weights and velocity; sc^2 is at most sw sv", setting.AnyReal, setting.Value(0)),
		hyper("sv", "initial variance of the velocity", setting.Natural, setting.Value(0.1)),
		hyper("a", "share of the velocity that is left after a step", setting.Fraction, setting.Value(0.9)),
		hyper("qw", "variance added to the weights each step, at the start", setting.Natural, setting.Value(0.01)),
		hyper("qv", "variance added to the velocity each step", setting.Natural, byFamily(100, 3)),
	}), check: func(v setting.Values) []setting.Problem {
		sc, sw, sv := v.Float("sc"), v.Float("sw"), v.Float("sv")
		if sc*sc <= sw*sv {
			return nil
		}
		return []setting.Problem{{
			Keys: []string{"sc", "sw", "sv"},
			Text: fmt.Sprintf("sc %v is no covariance of variances sw %v and sv %v: its square must be at most their product", sc, sw, sv),
		}}
	}},
	{name: "koala++", hyper: slices.Concat(base(setting.Value(1), 0, usualClip), variances(0.1, byFamily(100, 1)), filterHypers(), []setting.Declaration{
		hyper("symmetric", "the symmetric form, as in the paper's Algorithm 1", setting.Bool{}, setting.Value(true)),
	})},
	{name: "koala-d", hyper: slices.Concat(base(byFamily(10, 1), 0, usualClip), variances(0.01, setting.Value(1e-3)), filterHypers(), adamHypers(byFamily(0.999, 0.99)))},
	{name: "sgd", hyper: append(base(byFamily(20, 1), 0, usualClip),
		hyper("momentum", "share of the last step's direction that is kept", setting.Below1, setting.Value(0)),
		hyper("nesterov", "look ahead along the momentum", setting.Bool{}, setting.Value(false)),
	), check: func(v setting.Values) []setting.Problem {
		if !v.Bool("nesterov") || v.Float("momentum") > 0 {
			return nil
		}
		return []setting.Problem{{
			Keys: []string{"nesterov", "momentum"}, Text: "nesterov needs a momentum: set optimizer.momentum, such as 0.9",
		}}
	}},
	{name: "adam", hyper: append(base(byFamily(0.002, 0.001), 0, usualClip), adamHypers(setting.Value(0.999))...)},
	{name: "adamw", hyper: append(base(byFamily(0.002, 0.001), 0.01, usualClip), adamHypers(setting.Value(0.999))...)},
	{name: "asgd", hyper: append(base(byFamily(30, 1), 1.2e-6, usualClip),
		hyper("nonmono", "evaluations without a new best before the weights are averaged (NT-ASGD)", setting.AtLeast(1), setting.Value(5)),
	)},
}
