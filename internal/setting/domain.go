package setting

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Literal is a value as a user writes it: a scalar, or a list of literals.
type Literal struct {
	Text   string
	Quoted bool // the text was in quotes, so it is not a number
	List   []Literal
	IsList bool
}

// A Domain is the set of values that a setting takes. All values of a domain have
// one type: string, bool, int64, float64, []int64, []string or time.Duration.
type Domain interface {
	// Parse returns a literal's value. ok is false if it is not in the domain.
	Parse(l Literal) (v any, ok bool)

	// Accept converts a Go value, such as an untyped constant in a declaration, to
	// the domain's type; ok is false if it is not in the domain.
	Accept(v any) (converted any, ok bool)

	// Show returns a value in the form for records and files: a string, bool,
	// int64, float64, []int64 or []string.
	Show(v any) any

	// Words returns the domain's words, nil if it has none.
	Words() []string

	// String completes "must be ...".
	String() string
}

// MaxInt bounds sizes: a product of two sizes fits int64, and a size fits an int32
// in a file.
const MaxInt = math.MaxInt32

// Domains that settings share.
var (
	AnyInt   = Int{math.MinInt64, math.MaxInt64}
	AnyReal  = Float{Min: math.Inf(-1), Max: math.Inf(1)}
	Positive = Float{Min: 0, Max: math.Inf(1), OpenMin: true}
	Natural  = Float{Min: 0, Max: math.Inf(1)} // not negative
	Fraction = Float{Min: 0, Max: 1}
	Below1   = Float{Min: 0, Max: 1, OpenMax: true} // in [0, 1): a probability or a decay
)

// AtLeast returns the domain of whole numbers from n to MaxInt.
func AtLeast(n int64) Int { return Int{n, MaxInt} }

// Int is the domain of whole numbers from Min to Max.
type Int struct{ Min, Max int64 }

func (d Int) Parse(l Literal) (any, bool) {
	v, err := strconv.ParseInt(l.Text, 10, 64)
	return v, err == nil && l.number() && d.contains(v)
}

func (d Int) Accept(v any) (any, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), d.contains(int64(v))
	case int64:
		return v, d.contains(v)
	}
	return nil, false
}

func (d Int) contains(v int64) bool { return v >= d.Min && v <= d.Max }

func (Int) Words() []string { return nil }

func (Int) Show(v any) any { return v }

func (d Int) String() string {
	switch {
	case d.Max == math.MaxInt64 && d.Min == math.MinInt64:
		return "a whole number"
	case d.Max >= MaxInt:
		return fmt.Sprintf("a whole number of at least %d", d.Min)
	}
	return fmt.Sprintf("a whole number from %d to %d", d.Min, d.Max)
}

// Float is the domain of finite numbers from Min to Max, without the open ends.
type Float struct {
	Min, Max         float64
	OpenMin, OpenMax bool
}

func (d Float) Parse(l Literal) (any, bool) {
	// ParseFloat also accepts hexadecimal, underscores, inf and nan.
	if !l.number() || strings.Trim(l.Text, "0123456789.eE+-") != "" {
		return nil, false
	}
	v, err := strconv.ParseFloat(l.Text, 64)
	return v, err == nil && d.contains(v)
}

func (d Float) Accept(v any) (any, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), d.contains(float64(v))
	case int64:
		return float64(v), d.contains(float64(v))
	case float64:
		return v, d.contains(v)
	}
	return nil, false
}

func (d Float) contains(v float64) bool {
	inside := v > d.Min && v < d.Max || v == d.Min && !d.OpenMin || v == d.Max && !d.OpenMax
	return inside && !math.IsInf(v, 0)
}

func (Float) Words() []string { return nil }

func (Float) Show(v any) any { return v }

func (d Float) String() string {
	low, high := "of at least "+number(d.Min), " and at most "+number(d.Max)
	if d.OpenMin {
		low = "greater than " + number(d.Min)
	}
	if d.OpenMax {
		high = " and less than " + number(d.Max)
	}
	if math.IsInf(d.Max, 1) {
		high = ""
	}
	if math.IsInf(d.Min, -1) {
		low, high = "", ""
	}
	return strings.TrimSpace("a number " + low + high)
}

// FloatOr is a domain of numbers and one word. The word is stored as 0, which must
// not be one of the numbers.
type FloatOr struct {
	Word    string
	Numbers Float
}

func (d FloatOr) Parse(l Literal) (any, bool) {
	if !l.IsList && l.Text == d.Word {
		return 0.0, true
	}
	return d.Numbers.Parse(l)
}

func (d FloatOr) Accept(v any) (any, bool) {
	if v == 0 || v == 0.0 || v == d.Word {
		return 0.0, true
	}
	return d.Numbers.Accept(v)
}

func (d FloatOr) Words() []string { return []string{d.Word} }

func (d FloatOr) Show(v any) any {
	if v == 0.0 {
		return d.Word
	}
	return v
}

func (d FloatOr) String() string { return d.Word + ", or " + d.Numbers.String() }

// Bool is the domain of true and false.
type Bool struct{}

func (Bool) Parse(l Literal) (any, bool) {
	return l.Text == "true", l.number() && (l.Text == "true" || l.Text == "false")
}

func (Bool) Accept(v any) (any, bool) {
	b, ok := v.(bool)
	return b, ok
}

func (Bool) Words() []string { return nil }

func (Bool) Show(v any) any { return v }

func (Bool) String() string { return "true or false" }

// OneOf is a domain of words.
type OneOf []string

func (d OneOf) Parse(l Literal) (any, bool) {
	return l.Text, !l.IsList && slices.Contains(d, l.Text)
}

func (d OneOf) Accept(v any) (any, bool) {
	word, ok := v.(string)
	return word, ok && slices.Contains(d, word)
}

func (d OneOf) Words() []string { return d }

func (OneOf) Show(v any) any { return v }

func (d OneOf) String() string { return "one of " + strings.Join(d, ", ") }

// Ascending is the domain of lists of positive whole numbers in ascending order,
// including the empty list.
type Ascending struct{}

func (Ascending) Parse(l Literal) (any, bool) {
	if !l.IsList {
		return nil, false
	}
	list := make([]int64, 0, len(l.List))
	for _, item := range l.List {
		v, ok := AtLeast(1).Parse(item)
		if !ok {
			return nil, false
		}
		list = append(list, v.(int64))
	}
	return list, ascends(list)
}

func (Ascending) Accept(v any) (any, bool) {
	list, ok := v.([]int64)
	return list, ok && ascends(list)
}

func ascends(list []int64) bool {
	last := int64(0)
	for _, v := range list {
		if v <= last || v > MaxInt {
			return false
		}
		last = v
	}
	return true
}

func (Ascending) Words() []string { return nil }

func (Ascending) Show(v any) any {
	list, _ := v.([]int64)
	return append([]int64{}, list...)
}

func (Ascending) String() string {
	return "a list of ascending whole numbers such as [2000, 10000]"
}

// Patterns is the domain of lists of patterns, as of file names: * is any text, ? any
// character and [a-c] one of several. A pattern alone is a list of one.
type Patterns struct{}

func (Patterns) Parse(l Literal) (any, bool) {
	if !l.IsList {
		l.List = []Literal{l}
	}
	list := make([]string, 0, len(l.List))
	for _, item := range l.List {
		if item.IsList {
			return nil, false
		}
		list = append(list, item.Text)
	}
	return Patterns{}.Accept(list)
}

func (Patterns) Accept(v any) (any, bool) {
	list, ok := v.([]string)
	for _, pattern := range list {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return nil, false
		}
	}
	return list, ok
}

func (Patterns) Words() []string { return nil }

func (Patterns) Show(v any) any {
	list, _ := v.([]string)
	return append([]string{}, list...)
}

func (Patterns) String() string {
	return `a list of patterns such as ["*.bias", "transformer.h.[0-3].*"]`
}

// Duration is the domain of durations of at least 0: 90s, 10m, 1h30m, or a number
// of seconds.
type Duration struct{}

func (Duration) Parse(l Literal) (any, bool) {
	if l.IsList {
		return nil, false
	}
	if d, err := time.ParseDuration(l.Text); err == nil {
		return d, d >= 0
	}
	seconds, err := strconv.ParseFloat(l.Text, 64)
	ok := err == nil && seconds >= 0 && seconds <= math.MaxInt64/1e9
	if !ok {
		return nil, false
	}
	return time.Duration(seconds * 1e9), true
}

func (Duration) Accept(v any) (any, bool) {
	d, ok := v.(time.Duration)
	if v == 0 {
		d, ok = 0, true
	}
	return d, ok && d >= 0
}

func (Duration) Words() []string { return nil }

func (Duration) Show(v any) any {
	d, _ := v.(time.Duration)
	return d.String()
}

func (Duration) String() string {
	return "a length of time such as 90s, 10m or 1h30m (0 is no limit)"
}

// number reports whether the literal can be a number or a truth value.
func (l Literal) number() bool { return !l.Quoted && !l.IsList }

// number writes v as a person would: 1e-08, but 1000000.
func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// Text returns a value of [Domain.Show] as a file's text.
func Text(v any) string {
	switch v := v.(type) {
	case float64:
		return number(v)
	case []int64:
		return textOf(v)
	case []string:
		return textOf(v)
	case []any: // a list that was read from JSON
		return textOf(v)
	}
	return fmt.Sprint(v)
}

func textOf[T any](list []T) string {
	items := make([]string, len(list))
	for i, item := range list {
		items[i] = quoted(item)
	}
	return "[" + strings.Join(items, ", ") + "]"
}
