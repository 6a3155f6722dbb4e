package setting

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Declaration describes a setting completely, except for the place of its value.
type Declaration struct {
	Key     string // dotted key in files and on the command line
	Meaning string // one line, with its unit
	Domain  Domain
	Default Default // may look up settings that are declared before this one

	// Hidden marks a setting that only programs may set: files and flags do not accept
	// it, and it is not listed.
	Hidden bool

	// Only lists conditions. The setting exists if all of them hold; otherwise it has
	// no value, and setting it is an error.
	Only []Condition

	// Idle lists the cases in which the setting exists but has no effect. In such a
	// case, setting it to another value than it has there is an error.
	Idle []Idle
}

// Idle is a case in which a setting changes nothing.
type Idle struct {
	When   []Condition // all hold
	Reason string      // completes "has no effect with ...: "
	// Means is the setting's value in this case, if it is not the default. The user
	// may set this value.
	Means *Default
}

// Amounts is a Default for Idle.Means.
func Amounts(d Default) *Default { return &d }

// Applies reports whether the setting exists, given the other settings' values.
func (d *Declaration) Applies(get Lookup) bool {
	return !slices.ContainsFunc(d.Only, func(c Condition) bool { return !c.Holds(get) })
}

// IdleCase returns the case in which the setting has no effect, nil if it has one.
func (d *Declaration) IdleCase(get Lookup) *Idle {
	for i := range d.Idle {
		if idle := &d.Idle[i]; !slices.ContainsFunc(idle.When, func(c Condition) bool { return !c.Holds(get) }) {
			return idle
		}
	}
	return nil
}

// String returns the case in words: "model.layers 1 and model.tied true".
func (i *Idle) String() string {
	parts := make([]string, len(i.When))
	for n, c := range i.When {
		parts[n] = c.String()
	}
	return strings.Join(parts, " and ")
}

// Within returns the declaration as part of a section: the section's name and a dot
// precede its key and all keys without a dot that it refers to.
func (d Declaration) Within(section string) Declaration {
	return d.Renamed(func(key string) string {
		if strings.Contains(key, ".") {
			return key
		}
		return section + "." + key
	})
}

// Renamed returns the declaration with its own key and the keys that it refers to
// renamed.
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

// Get returns the value in the form of [Domain.Show].
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

// Valid reports whether the current value is in the domain.
func (s *Setting) Valid() bool {
	_, ok := s.Domain.Accept(s.get())
	return ok
}

// Bind declares the setting whose value is *p. The domain's type must fit T: int64
// for integers, float64, string, bool, []int64, []string or time.Duration.
func Bind[T string | bool | int | int64 | float64 | []int64 | []string | time.Duration](p *T, d Declaration) Setting {
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

// Values holds values of settings by key, each with its domain's type.
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

// Complete returns a copy of v, converted to the domains' types, with the defaults of
// the declared settings that v does not have. get looks up further settings on which
// defaults depend; it may be nil. Values that are not in their domain and keys that
// are not declared are Problems.
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

// A Problem is an error in the values of some settings.
type Problem struct {
	Keys []string // of the settings that cause it
	Text string   // the error and the right values
}

func (p Problem) Error() string { return p.Text }

// Check returns a Problem for each setting of list that exists and whose value is not
// in its domain.
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
