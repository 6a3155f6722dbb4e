package setting

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// A Lookup returns another setting's value by its key, as [Domain.Show] gives it;
// nil if there is none.
type Lookup func(key string) any

// A Condition holds if a setting has one of the values in In.
type Condition struct {
	Key  string
	In   []any
	Less bool // negated: holds if the setting has none of them
}

// Is returns the condition that the setting key has one of the values.
func Is(key string, values ...any) Condition { return Condition{Key: key, In: values} }

// IsNot returns the condition that the setting key has none of the values.
func IsNot(key string, values ...any) Condition { return Condition{Key: key, In: values, Less: true} }

// Holds evaluates the condition.
func (c Condition) Holds(get Lookup) bool {
	value := Text(get(c.Key))
	has := slices.ContainsFunc(c.In, func(v any) bool { return Text(v) == value })
	return has != c.Less
}

// String returns the condition in words: "model.kind lstm or gru".
func (c Condition) String() string {
	not := ""
	if c.Less {
		not = "other than "
	}
	return c.Key + " " + not + c.Values()
}

// Values lists the values in words: "lstm or gru".
func (c Condition) Values() string { return OrList(c.words()) }

// with returns the text of a value under the condition. It is "cosine 0.1" for a
// condition on words, which need no key, or else "0 with train.steps other than 0".
func (c Condition) with(value string) string {
	for _, v := range c.In {
		if _, word := v.(string); !word || c.Less {
			return value + " with " + c.String()
		}
	}
	return strings.Join(c.words(), " and ") + " " + value
}

func (c Condition) words() []string {
	words := make([]string, len(c.In))
	for i, v := range c.In {
		words[i] = Text(v)
	}
	return words
}

// A Default is the value of a setting that the user does not set: a constant or a
// formula, with others under conditions. Text derives its description. The zero
// Default has a value only if a condition of When holds.
type Default struct {
	base  formula
	cases []exception
}

type exception struct {
	when Condition
	then Default
}

// formula computes a value from other settings.
type formula interface {
	value(get Lookup) any
	text(d Domain) string
}

// Value returns the constant default v.
func Value(v any) Default { return Default{base: constant{v}} }

// SameAs returns the default that equals the setting key.
func SameAs(key string) Default { return Default{base: multiple{key, 1, 1, 1}} }

// Times returns the default numerator/denominator times the setting key, a whole
// number, rounded up to a multiple of step.
func Times(numerator, denominator int64, key string, step int64) Default {
	return Default{base: multiple{key, numerator, denominator, step}}
}

// When returns the default with v, a value or a Default, for the case that c holds.
// If several conditions hold, the last one added counts.
func (d Default) When(c Condition, v any) Default {
	then, ok := v.(Default)
	if !ok {
		then = Value(v)
	}
	d.cases = append(slices.Clip(d.cases), exception{c, then})
	return d
}

// Value computes the default.
func (d Default) Value(get Lookup) any {
	for _, e := range slices.Backward(d.cases) {
		if e.when.Holds(get) {
			return e.then.Value(get)
		}
	}
	if d.base == nil {
		return nil
	}
	return d.base.value(get)
}

// Text returns the default in words, such as "10; koala-d 0.001 (transformer 0.01)".
func (d Default) Text(in Domain) string {
	var texts []string
	if d.base != nil {
		texts = append(texts, d.base.text(in))
	}
	for _, e := range d.cases {
		then := Default{base: e.then.base}.Text(in)
		for _, nested := range e.then.cases {
			then += " (" + nested.when.with(nested.then.Text(in)) + ")"
		}
		texts = append(texts, e.when.with(then))
	}
	return strings.Join(texts, "; ")
}

type constant struct{ v any }

func (c constant) value(Lookup) any { return c.v }

func (c constant) text(d Domain) string {
	v, ok := d.Accept(c.v)
	if !ok {
		return fmt.Sprintf("%v, which is not %s", c.v, d)
	}
	return Text(d.Show(v))
}

type multiple struct {
	key                          string
	numerator, denominator, step int64
}

func (m multiple) value(get Lookup) any {
	v := get(m.key)
	if n, ok := v.(int64); ok {
		v = (n*m.numerator/m.denominator + m.step - 1) / m.step * m.step
	}
	return v
}

func (m multiple) text(Domain) string {
	text := m.key
	switch {
	case m.denominator != 1:
		text = fmt.Sprintf("%d/%d x %s", m.numerator, m.denominator, m.key)
	case m.numerator != 1:
		text = fmt.Sprintf("%d x %s", m.numerator, m.key)
	}
	if m.step != 1 {
		text += fmt.Sprintf(" rounded up to a multiple of %d", m.step)
	}
	return text
}

// OrList returns "a", "a or b", "a, b or c".
func OrList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// Over returns the default restricted to the given values of the setting key: the
// first value's default, with the other values' as exceptions. Cases of no given
// value are left out. It returns d itself if d also looks up another setting.
func (d Default) Over(key string, values ...any) Default {
	if slices.ContainsFunc(d.cases, func(e exception) bool { return e.when.Key != key }) || len(values) == 0 {
		return d
	}
	of := func(value any) Default {
		get := func(string) any { return value }
		for _, e := range slices.Backward(d.cases) {
			if e.when.Holds(get) {
				return e.then
			}
		}
		return Default{base: d.base}
	}
	over := of(values[0])
	for _, value := range values[1:] {
		if other := of(value); !reflect.DeepEqual(other, of(values[0])) {
			over = over.When(Is(key, value), other)
		}
	}
	return over
}

// DependsOn reports whether the default looks up the setting key.
func (d Default) DependsOn(key string) bool {
	if m, ok := d.base.(multiple); ok && m.key == key {
		return true
	}
	return slices.ContainsFunc(d.cases, func(e exception) bool { return e.when.Key == key || e.then.DependsOn(key) })
}
