package configs

import (
	"fmt"
	"slices"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// Optimizer is the update rule and its hyperparameters, by the keys of its kind.
type Optimizer struct {
	Kind string
	setting.Values
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
	list := []setting.Setting{setting.Bind(&o.Kind, setting.Declaration{
		Key: "optimizer.kind", Meaning: "update rule", Domain: setting.OneOf(spec.Names()), Default: setting.Value("koala-v"),
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
	for _, k := range spec.Kinds() {
		for _, d := range k.Hyper {
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
	for _, k := range spec.Kinds() {
		i := slices.IndexFunc(k.Hyper, func(d setting.Declaration) bool { return d.Key == key })
		if i < 0 {
			continue
		}
		d := qualified(k.Hyper[i])
		kinds = append(kinds, k.Name)
		if meaning == "" {
			meaning = d.Meaning
		}
		meanings[d.Meaning] = append(meanings[d.Meaning], k.Name)
		text := d.Default.Text(d.Domain)
		v := slices.IndexFunc(variants, func(v variant) bool { return v.d.Default.Text(d.Domain) == text })
		if v < 0 {
			v = len(variants)
			variants = append(variants, variant{d: d})
		}
		variants[v].kinds = append(variants[v].kinds, k.Name)
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
	if len(kinds) < len(spec.Kinds()) {
		merged.Only = append(slices.Clone(merged.Only), setting.Is("optimizer.kind", kinds...))
	}
	return hyperparameter{key, merged}
}

// problems returns the values that do not fit together for the kind.
func (o *Optimizer) problems() []setting.Problem {
	kind, err := spec.Lookup(o.Kind)
	if err != nil || kind.Check == nil {
		return nil
	}
	list := kind.Check(o.Values)
	for n := range list {
		list[n].Text = "optimizer." + list[n].Text
		for m, key := range list[n].Keys {
			list[n].Keys[m] = "optimizer." + key
		}
	}
	return list
}
