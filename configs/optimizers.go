package configs

import (
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/internal/setting"
	optimizers "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// Optimizer is the update rule and its hyperparameters, by the keys of its kind.
type Optimizer struct {
	Kind string
	setting.Values
}

// defaultOptimizer is the kind of a run that names none.
var defaultOptimizer = optimizers.KoalaK.Name

// elsewhere holds the hyperparameters whose setting has another key than
// optimizer.KEY.
var elsewhere = map[string]string{
	"clip": "train.clip", "average": "train.average", "average_memory": "train.average_memory", "average_start": "train.average_start",
}

// settings declares optimizer.kind and the hyperparameters of all kinds, each once,
// bound to o.
func (o *Optimizer) settings() []setting.Setting {
	if o.Values == nil {
		o.Values = setting.Values{}
	}
	list := []setting.Setting{setting.Bind(&o.Kind, setting.Declaration{
		Key: "optimizer.kind", Meaning: "update rule", Domain: setting.OneOf(optimizers.Names()), Default: setting.Value(defaultOptimizer),
	})}
	for _, key := range hyperparameters() {
		list = append(list, o.Bind(key, merged(key)))
	}
	return list
}

// hyperparameters lists the keys of all kinds' hyperparameters, each once.
func hyperparameters() []string {
	var keys []string
	for _, k := range optimizers.Kinds() {
		for _, d := range k.Hyper {
			if !d.Hidden && !slices.Contains(keys, d.Key) {
				keys = append(keys, d.Key)
			}
		}
	}
	return keys
}

// settingKey returns the key under which users set a hyperparameter.
func settingKey(key string) string {
	if other, ok := elsewhere[key]; ok {
		return other
	}
	return "optimizer." + key
}

// asSetting returns a kind's hyperparameter as a setting of this kind alone.
func asSetting(d setting.Declaration) setting.Declaration {
	var families []any
	for _, family := range spec.Families() {
		families = append(families, string(family))
	}
	d.Default = d.Default.Over(spec.FamilyKey, families...)
	return d.Renamed(func(key string) string {
		if strings.Contains(key, ".") {
			return key
		}
		return settingKey(key)
	})
}

// A variant is the declaration of a setting that some kinds share.
type variant struct {
	setting.Declaration
	kinds []any // their names
}

// merged makes one setting of a hyperparameter that several kinds may declare. Its
// default is the one that at least half of the kinds share, with exceptions by kind;
// without such a default, each kind has its own. Its meaning is the first kind's,
// followed by the differing meanings of other kinds.
func merged(key string) setting.Declaration {
	var defaults, meanings []variant
	var kinds, others []any // with the hyperparameter and without
	for _, k := range optimizers.Kinds() {
		i := slices.IndexFunc(k.Hyper, func(d setting.Declaration) bool { return d.Key == key })
		if i < 0 {
			others = append(others, k.Name)
			continue
		}
		d := asSetting(k.Hyper[i])
		kinds = append(kinds, k.Name)
		defaults = group(defaults, d, k.Name, func(d setting.Declaration) string { return d.Default.Text(d.Domain) })
		meanings = group(meanings, d, k.Name, func(d setting.Declaration) string { return d.Meaning })
	}
	m := meanings[0].Declaration
	for _, v := range meanings[1:] {
		m.Meaning += "; " + setting.Is("", v.kinds...).Values() + ": " + v.Meaning
	}
	m.Default = setting.Default{}
	usual := slices.MaxFunc(defaults, func(a, b variant) int { return len(a.kinds) - len(b.kinds) })
	hasUsual := 2*len(usual.kinds) >= len(kinds)
	if hasUsual {
		m.Default = usual.Default
	}
	for _, v := range defaults {
		if !hasUsual || v.kinds[0] != usual.kinds[0] {
			m.Default = m.Default.When(setting.Is("optimizer.kind", v.kinds...), v.Default)
		}
	}
	if len(others) > 0 {
		only := setting.Is("optimizer.kind", kinds...)
		if 3*len(others) < len(kinds) {
			only = setting.IsNot("optimizer.kind", others...)
		}
		m.Only = append(slices.Clip(m.Only), only)
	}
	return m
}

// group adds kind's declaration to the variant that has the same text, or as a new
// one.
func group(list []variant, d setting.Declaration, kind string, text func(setting.Declaration) string) []variant {
	for i := range list {
		if text(list[i].Declaration) == text(d) {
			list[i].kinds = append(list[i].kinds, kind)
			return list
		}
	}
	return append(list, variant{d, []any{kind}})
}

// problems returns the errors of values that do not fit together for the kind.
func (o *Optimizer) problems() []setting.Problem {
	kind, err := optimizers.Lookup(o.Kind)
	if err != nil || kind.Check == nil {
		return nil
	}
	list := kind.Check(o.Values)
	for n, p := range list {
		list[n].Text = "optimizer." + p.Text
		list[n].Keys = make([]string, len(p.Keys))
		for i, key := range p.Keys {
			list[n].Keys[i] = settingKey(key)
		}
	}
	return list
}
