package setting

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Declaration says everything about a setting but where its value is kept.
type Declaration struct {
	Key     string // dotted, as in files and on the command line
	Meaning string // one line, with its unit
	Domain  Domain
	Default Default // may look up settings that are declared before this one

	// Hidden marks what programs may choose and users may not: it is no setting of
	// files and flags, and is not listed.
	Hidden bool

	// Only lists the conditions under which the setting exists: without them it
	// has no value, and setting it is an error.
	Only []Condition

	// Idle lists the cases in which the setting exists and changes nothing: setting it
	// to another value than it has there is an error.
	Idle []Idle
}

// Idle is a case in which a setting changes nothing.
type Idle struct {
	When   []Condition // all hold
	Reason string      // completes "has no effect with ...: "
	// Means is what the setting amounts to in this case, if it is not the default. It
	// is the setting's value then, which may be given all the same.
	Means *Default
}

// Amounts is a Default for Idle.Means.
func Amounts(d Default) *Default { return &d }

// Applies says that the setting exists beside the values of get.
func (d *Declaration) Applies(get Lookup) bool {
	return !slices.ContainsFunc(d.Only, func(c Condition) bool { return !c.Holds(get) })
}

// IdleCase returns the case in which the setting changes nothing, nil if it has an
// effect.
func (d *Declaration) IdleCase(get Lookup) *Idle {
	for i := range d.Idle {
		if idle := &d.Idle[i]; !slices.ContainsFunc(idle.When, func(c Condition) bool { return !c.Holds(get) }) {
			return idle
		}
	}
	return nil
}

// String is the case in words: "model.layers 1 and model.tied true".
func (i *Idle) String() string {
	parts := make([]string, len(i.When))
	for n, c := range i.When {
		parts[n] = c.String()
	}
	return strings.Join(parts, " and ")
}

// Within is the declaration as one of a section: its key, and the keys in it that
// have no dot, follow the section's name and a dot.
func (d Declaration) Within(section string) Declaration {
	return d.Renamed(func(key string) string {
		if strings.Contains(key, ".") {
			return key
		}
		return section + "." + key
	})
}

// Renamed is the declaration with other keys, its own and the ones in it.
func (d Declaration) Renamed(full func(key string) string) Declaration {
	conditions := func(list []Condition) []Condition {
		list = slices.Clone(list)
		for i := range list {
			list[i].Key = full(list[i].Key)
		}
		return list
	}
	d.Key, d.Only = full(d.Key), conditions(d.Only)
	d.Idle = slices.Clone(d.Idle)
	for i := range d.Idle {
		d.Idle[i].When = conditions(d.Idle[i].When)
		if means := d.Idle[i].Means; means != nil {
			d.Idle[i].Means = Amounts(means.within(full))
		}
	}
	d.Default = d.Default.within(full)
	return d
}

func (d Default) within(full func(string) string) Default {
	if m, ok := d.base.(multiple); ok {
		m.key = full(m.key)
		d.base = m
	}
	d.cases = slices.Clone(d.cases)
	for i := range d.cases {
		d.cases[i].when.Key = full(d.cases[i].when.Key)
		d.cases[i].then = d.cases[i].then.within(full)
	}
	return d
}

// A Setting is a declaration and the place of its value.
type Setting struct {
	Declaration
	get func() any
	set func(any)
}

// Get returns the value as it is recorded, see [Domain.Show].
func (s *Setting) Get() any { return s.Domain.Show(s.get()) }

// Set stores a value. It reports false and stores nothing if the value is not in
// the domain.
func (s *Setting) Set(v any) bool {
	converted, ok := s.Domain.Accept(v)
	if ok {
		s.set(converted)
	}
	return ok
}

// Valid says that the value that is kept is in the domain.
func (s *Setting) Valid() bool {
	_, ok := s.Domain.Accept(s.get())
	return ok
}

// Bind declares the setting whose value is *p. The domain's type must fit T: int64
// for integers, float64, string, bool, []int64 or time.Duration.
func Bind[T string | bool | int | int64 | float64 | []int64 | time.Duration](p *T, d Declaration) Setting {
	s := Setting{Declaration: d}
	switch p := any(p).(type) {
	case *int:
		s.get = func() any { return int64(*p) }
		s.set = func(v any) { *p = int(v.(int64)) }
	default:
		s.get = func() any { return *p.(*T) }
		s.set = func(v any) { *p.(*T) = v.(T) }
	}
	return s
}

// Values holds settings' values by key, each of its domain's type.
type Values map[string]any

// Bind declares a setting whose value is kept in v under key.
func (v Values) Bind(key string, d Declaration) Setting {
	return Setting{
		Declaration: d,
		get:         func() any { return v[key] },
		set:         func(value any) { v[key] = value },
	}
}

// Float returns a number, 0 if the key has none.
func (v Values) Float(key string) float64 { f, _ := v[key].(float64); return f }

// Int returns a whole number, 0 if the key has none.
func (v Values) Int(key string) int64 { i, _ := v[key].(int64); return i }

// Bool returns a truth value, false if the key has none.
func (v Values) Bool(key string) bool { b, _ := v[key].(bool); return b }

// Word returns a word, "" if the key has none.
func (v Values) Word(key string) string { s, _ := v[key].(string); return s }

// Complete returns a copy of v, converted to the domains' types, with the defaults
// of the declared settings that v does not have. get looks up what defaults
// depend on beside v; it may be nil. Values that are not in their domain and
// keys that are not declared are Problems.
func (v Values) Complete(declared []Declaration, get Lookup) (Values, []Problem) {
	var problems []Problem
	full := make(Values, len(declared))
	lookup := func(key string) any {
		if value, ok := full[key]; ok {
			return value
		}
		if get != nil {
			return get(key)
		}
		return nil
	}
	for i := range declared {
		d := &declared[i]
		value, given := v[d.Key]
		if !given {
			value = d.Default.Value(lookup)
		}
		converted, ok := d.Domain.Accept(value)
		if !ok {
			problems = append(problems, Problem{[]string{d.Key}, fmt.Sprintf("%s is %v: it must be %s", d.Key, value, d.Domain)})
			continue
		}
		full[d.Key] = converted
	}
	for key := range v {
		if !slices.ContainsFunc(declared, func(d Declaration) bool { return d.Key == key }) {
			problems = append(problems, Problem{[]string{key}, key + " is not a setting of it"})
		}
	}
	slices.SortFunc(problems, func(a, b Problem) int { return strings.Compare(a.Text, b.Text) })
	return full, problems
}

// A Problem is one thing that is wrong with the values of some settings.
type Problem struct {
	Keys []string // of the settings that cause it
	Text string   // what is wrong and what would be right
}

func (p Problem) Error() string { return p.Text }

// Check returns the settings among list that exist and whose value is not in the
// domain.
func Check(list []Setting, get Lookup) []Problem {
	var problems []Problem
	for i := range list {
		if s := &list[i]; s.Applies(get) && !s.Valid() {
			problems = append(problems, Problem{[]string{s.Key}, fmt.Sprintf("%s is %s: it must be %s", s.Key, quoted(s.Get()), s.Domain)})
		}
	}
	return problems
}

func quoted(v any) string {
	if word, ok := v.(string); ok {
		return fmt.Sprintf("%q", word)
	}
	return Text(v)
}
