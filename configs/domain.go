package configs

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// A domain is the set of values that a setting takes.
type domain interface {
	// parse reads a YAML value; ok is false where it is not in the domain.
	parse(n *yaml.Node) (v any, ok bool)
	// String completes "must be ...".
	String() string
}

// plain is the text of an unquoted scalar: a number in quotes is text.
func plain(n *yaml.Node) (string, bool) {
	quoted := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	return n.Value, n.Kind == yaml.ScalarNode && !quoted
}

// whole is the whole numbers from min to max.
type whole struct{ min, max int64 }

func (d whole) parse(n *yaml.Node) (any, bool) {
	text, ok := plain(n)
	if !ok {
		return nil, false
	}
	v, err := strconv.ParseInt(text, 10, 64)
	return v, err == nil && v >= d.min && v <= d.max
}

func (d whole) String() string {
	switch {
	case d.max == math.MaxInt64 && d.min == math.MinInt64:
		return "a whole number"
	case d.max >= maxInt:
		return fmt.Sprintf("a whole number of at least %d", d.min)
	}
	return fmt.Sprintf("a whole number from %d to %d", d.min, d.max)
}

// decimal is the finite numbers between min and max, without the ends that are
// open.
type decimal struct {
	min, max         float64
	openMin, openMax bool
}

func (d decimal) parse(n *yaml.Node) (any, bool) {
	text, ok := plain(n)
	// ParseFloat also takes hexadecimal, underscores, inf and nan.
	if !ok || strings.Trim(text, "0123456789.eE+-") != "" {
		return nil, false
	}
	v, err := strconv.ParseFloat(text, 64)
	inside := v > d.min && v < d.max || v == d.min && !d.openMin || v == d.max && !d.openMax
	return v, err == nil && !math.IsInf(v, 0) && inside
}

func (d decimal) String() string {
	low, high := "of at least "+number(d.min), " and at most "+number(d.max)
	if d.openMin {
		low = "greater than " + number(d.min)
	}
	if d.openMax {
		high = " and less than " + number(d.max)
	}
	if math.IsInf(d.max, 1) {
		high = ""
	}
	if math.IsInf(d.min, -1) {
		low, high = "", ""
	}
	return strings.TrimSpace("a number " + low + high)
}

// adaptive is a number of numbers, or the word adaptive (a nil *float64).
type adaptive struct{ numbers decimal }

func (d adaptive) parse(n *yaml.Node) (any, bool) {
	if n.Kind == yaml.ScalarNode && n.Value == "adaptive" {
		return (*float64)(nil), true
	}
	v, ok := d.numbers.parse(n)
	if !ok {
		return nil, false
	}
	f := v.(float64)
	return &f, true
}

func (d adaptive) String() string { return "adaptive, or " + d.numbers.String() }

// truth is true and false.
type truth struct{}

func (truth) parse(n *yaml.Node) (any, bool) {
	text, ok := plain(n)
	return text == "true", ok && (text == "true" || text == "false")
}

func (truth) String() string { return "true or false" }

// oneOf is a choice among words.
type oneOf []string

func (d oneOf) parse(n *yaml.Node) (any, bool) {
	return n.Value, n.Kind == yaml.ScalarNode && slices.Contains(d, n.Value)
}

func (d oneOf) String() string { return "one of " + strings.Join(d, ", ") }

// ascending is lists of positive whole numbers, each greater than the one
// before; empty ones too.
type ascending struct{}

func (ascending) parse(n *yaml.Node) (any, bool) {
	if n.Kind != yaml.SequenceNode {
		return nil, false
	}
	list := make([]int, 0, len(n.Content))
	last := 0
	for _, item := range n.Content {
		v, ok := whole{int64(last) + 1, maxInt}.parse(item)
		if !ok {
			return nil, false
		}
		last = int(v.(int64))
		list = append(list, last)
	}
	return list, true
}

func (ascending) String() string { return "a list of ascending whole numbers such as [2000, 10000]" }

// span is a length of time that is not negative: 90s, 10m, 1h30m, or a number
// of seconds.
type span struct{}

func (span) parse(n *yaml.Node) (any, bool) {
	if n.Kind != yaml.ScalarNode {
		return nil, false
	}
	if d, err := time.ParseDuration(n.Value); err == nil {
		return d, d >= 0
	}
	seconds, err := strconv.ParseFloat(n.Value, 64)
	ok := err == nil && seconds >= 0 && seconds <= math.MaxInt64/1e9
	if !ok {
		return nil, false
	}
	return time.Duration(seconds * 1e9), true
}

func (span) String() string { return "a length of time such as 90s, 10m or 1h30m (0 is no limit)" }

// maxInt keeps products of two sizes, and a size as int32 in a file, in range.
const maxInt = math.MaxInt32

var (
	any64    = whole{math.MinInt64, math.MaxInt64}
	positive = decimal{min: 0, max: math.Inf(1), openMin: true}
	natural  = decimal{min: 0, max: math.Inf(1)}
	anyReal  = decimal{min: math.Inf(-1), max: math.Inf(1)}
	fraction = decimal{min: 0, max: 1}
	below1   = decimal{min: 0, max: 1, openMax: true}
)

func atLeast(n int64) whole { return whole{n, maxInt} }

// number writes v as one would: 1e-08, but 1000000.
func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
