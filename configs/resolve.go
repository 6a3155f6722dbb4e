package configs

import (
	"slices"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// resolved is the result of combining all layers.
type resolved struct {
	settings Settings
	list     []setting.Setting // bound to settings
	get      setting.Lookup    // looks up values in list
	set      map[string]origin // values that a layer set and no later layer dropped
	broken   map[string]bool
	problems Problems
}

// origin is the source of a value.
type origin struct {
	assignment
	layer    int
	recorded bool
}

func (b *Builder) resolve() *resolved {
	r := &resolved{set: map[string]origin{}, broken: map[string]bool{}}
	r.list = r.settings.list()
	r.get = spec.Lookup(r.list)
	for i, l := range b.layers {
		r.drop(l)
		for key, a := range l.values {
			r.set[key] = origin{a, i, l.recorded}
		}
		for key := range l.broken {
			r.broken[key] = true
		}
	}
	r.assign()
	r.checkConditions()
	r.settleIdle()
	return r
}

// assign gives each setting its set value or its default.
func (r *resolved) assign() {
	for i := range r.list {
		s := &r.list[i]
		if !s.Applies(r.get) {
			continue
		}
		if o, ok := r.set[s.Key]; ok {
			s.Set(o.value)
			continue
		}
		if value := s.Default.Value(r.get); !s.Set(value) && !r.broken[s.Key] {
			r.problems.add("", "%s must be %s, and its default %s is %s: set it", s.Key, s.Domain, s.Default.Text(s.Domain), setting.Text(value))
		}
	}
}

// drop removes the values that earlier layers set for a kind that l changes, and a
// length that l gives in another unit.
func (r *resolved) drop(l *layer) {
	tuned := func(setting.Declaration) bool { return false }
	if kind, ok := l.values["optimizer.kind"]; ok && kind.value != r.valueOf("optimizer.kind") {
		tuned = func(d setting.Declaration) bool {
			return sectionOf(d.Key) == "optimizer" || d.Default.DependsOn("optimizer.kind")
		}
	}
	if kind, ok := l.values["model.kind"]; ok && familyOf(kind.value) != familyOf(r.valueOf("model.kind")) {
		tuned = func(d setting.Declaration) bool {
			return sectionOf(d.Key) == "model" || sectionOf(d.Key) == "optimizer" || d.Default.DependsOn(spec.FamilyKey)
		}
	}
	// Steps and epochs both give a run's length: the later source decides.
	_, steps := l.values["train.steps"]
	_, epochs := l.values["train.epochs"]
	switch {
	case steps && !epochs:
		delete(r.set, "train.epochs")
	case epochs && !steps:
		delete(r.set, "train.steps")
	}
	for _, d := range declared().list {
		if tuned(d) && d.Key != "optimizer.kind" {
			delete(r.set, d.Key)
		}
	}
}

// valueOf returns the current value of a setting that chooses a kind.
func (r *resolved) valueOf(key string) any {
	if o, ok := r.set[key]; ok {
		return o.value
	}
	d, _ := declaration(key)
	return d.Default.Value(func(string) any { return nil })
}

// familyOf returns the family of a kind, or the kind's own name if it is unknown.
func familyOf(kind any) spec.Family {
	name, _ := kind.(string)
	k, err := spec.LookupKind(name)
	if err != nil {
		return spec.Family(name)
	}
	return k.Family
}

// later reports whether a layer after o's set one of the keys, or left it broken.
func (r *resolved) later(o origin, keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool {
		by, ok := r.set[key]
		return ok && by.layer > o.layer || r.broken[key]
	})
}

// checkConditions refuses settings that do not exist for the chosen kinds, unless a
// later source chose the kind.
func (r *resolved) checkConditions() {
	for i := range r.list {
		s := &r.list[i]
		o, ok := r.set[s.Key]
		if !ok {
			continue
		}
		for _, c := range s.Only {
			if c.Holds(r.get) || r.later(o, c.Key) {
				continue
			}
			hint := ""
			if s.Key == "train.bptt" {
				hint = " (its sequences have model.context tokens)"
			}
			r.problems.add(o.where, "%s is for %s, not %s%s", s.Key, c, setting.Text(r.get(c.Key)), hint)
		}
	}
}

// settleIdle handles settings without effect in this combination: it gives them the
// value that says so, or their default, and refuses other values. A value that an
// earlier version recorded stays, and a source that chooses the combination
// overrides the sources before it.
func (r *resolved) settleIdle() {
	for i := range r.list {
		s := &r.list[i]
		if !s.Applies(r.get) {
			continue
		}
		idle := s.IdleCase(r.get)
		if idle == nil {
			continue
		}
		o, given := r.set[s.Key]
		if given && o.recorded || r.broken[s.Key] {
			continue
		}
		before := setting.Text(s.Get())
		amounts := &s.Default
		if idle.Means != nil {
			amounts = idle.Means
		}
		if s.Set(amounts.Value(r.get)); !given || setting.Text(s.Get()) == before {
			continue
		}
		var keys []string
		for _, c := range idle.When {
			keys = append(keys, c.Key)
		}
		if !r.later(o, keys...) {
			r.problems.add(o.where, "%s %s has no effect with %s: %s", s.Key, before, idle, idle.Reason)
		}
	}
}

// checkTogether finds values that are each in range but do not fit together. It
// skips a check if one of its settings is already broken.
func (r *resolved) checkTogether() {
	s := &r.settings
	r.add(s.Model.Problems())
	r.add(s.Optimizer.problems())
	r.add(s.Train.Problems(&s.Schedule))
}

// add adds problems, each at the place of the last setting that causes it.
func (r *resolved) add(list []setting.Problem) {
	for _, p := range list {
		where, latest := "", -1
		broken := false
		for _, key := range p.Keys {
			broken = broken || r.broken[key]
			if o, ok := r.set[key]; ok && o.layer >= latest {
				where, latest = o.where, o.layer
			}
		}
		if !broken {
			r.problems.add(where, "%s", p.Text)
		}
	}
}
