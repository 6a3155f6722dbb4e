package configs

import "strings"

// resolved is the outcome of laying all layers over one another.
type resolved struct {
	settings Settings
	set      map[string]origin // what some layer set and no later one dropped
	broken   map[string]bool
}

// origin is where a value came from.
type origin struct {
	assignment
	layer int
}

func (b *Builder) resolve() resolved {
	r := resolved{set: map[string]origin{}, broken: map[string]bool{}}
	for i, l := range b.layers {
		r.drop(l)
		for key, a := range l.values {
			r.set[key] = origin{a, i}
		}
		for key := range l.broken {
			r.broken[key] = true
		}
	}
	for i := range fields {
		f := &fields[i]
		if !f.applies(&r.settings) {
			continue
		}
		if o, ok := r.set[f.key]; ok {
			f.set(&r.settings, o.value)
		} else {
			f.set(&r.settings, f.fallback(&r.settings))
		}
	}
	return r
}

// drop forgets what earlier layers chose for a kind that l changes, and a
// length that l says in another unit.
func (r *resolved) drop(l *layer) {
	var tuned []string
	if kind, ok := l.values["optimizer.kind"]; ok && kind.value != r.kind("optimizer.kind") {
		tuned = []string{"optimizer.", "train.clip"}
	}
	if kind, ok := l.values["model.kind"]; ok && (kind.value == Transformer) != (r.kind("model.kind") == Transformer) {
		tuned = []string{"model.", "optimizer.", "train.clip", "train.batch", "train.bptt", "train.alpha", "train.beta"}
	}
	// Steps and epochs are two ways to say how long: the later source says it.
	_, steps := l.values["train.steps"]
	_, epochs := l.values["train.epochs"]
	switch {
	case steps && !epochs:
		delete(r.set, "train.epochs")
	case epochs && !steps:
		delete(r.set, "train.steps")
	}
	for key := range r.set {
		for _, prefix := range tuned {
			if strings.HasPrefix(key, prefix) && key != "optimizer.kind" {
				delete(r.set, key)
			}
		}
	}
}

// kind is the value so far of a setting that chooses a kind.
func (r *resolved) kind(key string) any {
	if o, ok := r.set[key]; ok {
		return o.value
	}
	var s Settings
	return byKey[key].fallback(&s)
}

// checkKinds refuses settings that mean nothing beside the kind chosen, except
// where the kind was chosen over them by a later source.
func (r *resolved) checkKinds(problems *Problems) {
	for i := range fields {
		f := &fields[i]
		o, ok := r.set[f.key]
		if !ok || r.broken[f.kindKey] || f.applies(&r.settings) {
			continue
		}
		if kind, chosen := r.set[f.kindKey]; chosen && kind.layer > o.layer {
			continue
		}
		hint := ""
		if f.key == "train.bptt" {
			hint = " (its sequences have model.context tokens)"
		}
		problems.add(o.where, "%s is for %s %s, not %v%s",
			f.key, f.kindKey, orList(f.kinds), byKey[f.kindKey].get(&r.settings), hint)
	}
}
