package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/lm/spec"
)

// fields are the fields of a config.json, read one by one. An absent field has
// transformers' default. Fields that package lm cannot compute are collected by name
// and value.
type fields struct {
	prefix   string // of nested fields, for messages
	values   map[string]any
	defaults map[string]any
	problems *[]string
}

func newFields(content []byte) (*fields, error) {
	f := &fields{problems: new([]string)}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber() // a float64 would round large whole numbers
	if err := decoder.Decode(&f.values); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	return f, nil
}

// rename gives fields with another name their own.
func (f *fields) rename(aliases map[string]string) {
	for alias, key := range aliases {
		if v := f.values[alias]; v != nil {
			f.values[key] = v
		}
	}
}

// get returns a field's value. A null counts as a value: it overrides the default.
func (f *fields) get(key string) any {
	if v, ok := f.values[key]; ok {
		return v
	}
	return f.defaults[key]
}

func (f *fields) has(key string) bool { return f.values[key] != nil }

// isNull reports whether a field is given as null, which transformers takes for some
// fields only.
func (f *fields) isNull(key string) bool {
	v, given := f.values[key]
	return given && v == nil
}

func (f *fields) bad(key, format string, args ...any) {
	*f.problems = append(*f.problems, fmt.Sprintf("%s%s is %s, ", f.prefix, key, text(f.get(key)))+fmt.Sprintf(format, args...))
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil || len(b) > 60 {
		return fmt.Sprintf("%.60s...", b)
	}
	return string(b)
}

// size reads a count.
func (f *fields) size(key string) int64 {
	v, whole := number(f.get(key))
	if !whole || v < 1 || v > math.MaxInt32 {
		f.bad(key, "not a whole number from 1 to %d", math.MaxInt32)
		return 1
	}
	return int64(v)
}

// optionalSize reads a count; 0 if the field is absent or null.
func (f *fields) optionalSize(key string) int64 {
	if f.get(key) == nil {
		return 0
	}
	return f.size(key)
}

// integer refuses a field that is neither absent, null nor a whole number.
func (f *fields) integer(key string) {
	if _, whole := number(f.get(key)); !whole && f.get(key) != nil {
		f.bad(key, "not a whole number")
	}
}

// real reads a number; 0 if the field is absent or null.
func (f *fields) real(key string) float64 {
	v := f.get(key)
	if v == nil {
		return 0
	}
	n, _ := number(v)
	if math.IsNaN(n) || math.IsInf(n, 0) {
		f.bad(key, "not a number")
		return 0
	}
	return n
}

// positive reads a number above 0.
func (f *fields) positive(key string) float64 {
	n, _ := number(f.get(key))
	if !(n > 0) || math.IsInf(n, 0) {
		f.bad(key, "not a number above 0")
		return 1
	}
	return n
}

// epsilon reads a number that must have a decimal point or an exponent, as transformers
// wants it.
func (f *fields) epsilon(key string) float64 {
	if _, whole := number(f.get(key)); whole || f.get(key) == nil {
		f.bad(key, "not a number such as 1e-5")
	}
	return f.real(key)
}

// withPoint is the inverse of epsilon.
func withPoint(v float64) any {
	if v == math.Trunc(v) {
		return json.Number(fmt.Sprintf("%.1f", v))
	}
	return v
}

// number converts a number; NaN if v is not a number. A whole one is written without a
// decimal point and exponent: transformers refuses 16.0 heads.
func number(v any) (n float64, whole bool) {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Float64()
		if err != nil {
			return math.NaN(), false
		}
		return n, !strings.ContainsAny(v.String(), ".eE")
	case int:
		return float64(v), true
	case float64:
		return v, false
	}
	return math.NaN(), false
}

func (f *fields) truth(key string) bool {
	switch v := f.get(key).(type) {
	case nil:
		if f.isNull(key) {
			break
		}
		return false
	case bool:
		return v
	}
	f.bad(key, "not true or false")
	return false
}

func (f *fields) word(key string) string {
	switch v := f.get(key).(type) {
	case nil:
		return ""
	case string:
		return v
	}
	f.bad(key, "not a string")
	return ""
}

// mustNot refuses a field that is true.
func (f *fields) mustNot(key string) {
	if f.truth(key) {
		f.bad(key, "which is not supported")
	}
}

// list reads a list; nil if the field is absent.
func (f *fields) list(key string) []any {
	switch v := f.get(key).(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	f.bad(key, "not a list")
	return nil
}

// object reads nested fields; nil if the field is absent.
func (f *fields) object(key string) *fields {
	switch v := f.get(key).(type) {
	case nil:
		return nil
	case map[string]any:
		return &fields{prefix: f.prefix + key + ".", values: v, problems: f.problems}
	}
	f.bad(key, "not an object")
	return nil
}

// ids reads a token id or a list of them, as eos_token_id is.
func (f *fields) ids(key string) []int64 {
	v := f.get(key)
	list, isList := v.([]any)
	if !isList && v != nil {
		list = []any{v}
	}
	var ids []int64
	for _, item := range list {
		n, whole := number(item)
		if item == nil || n < 0 && whole { // -1 means none in some files
			continue
		}
		if !whole || n > math.MaxInt32 {
			f.bad(key, "not token ids")
			return nil
		}
		ids = append(ids, int64(n))
	}
	return ids
}

func (f *fields) err() error {
	if len(*f.problems) == 0 {
		return nil
	}
	return errors.New("this model cannot be computed here: " + strings.Join(*f.problems, "; "))
}

// activations pairs the names of transformers with package spec's. Several are
// different approximations of one function; gelu_fast and gelu_new differ by rounding.
var activations = []struct{ theirs, ours string }{
	{"gelu_new", spec.GELU}, {"gelu_pytorch_tanh", spec.GELU}, {"gelu_fast", spec.GELU}, {"gelu_accurate", spec.GELU}, {"gelu_python_tanh", spec.GELU},
	{"gelu", "gelu-exact"}, {"gelu_python", "gelu-exact"}, {"quick_gelu", "quick-gelu"},
	{"gelu_10", "gelu-10"}, {"relu", "relu"}, {"relu2", "relu-squared"}, {"relu6", "relu6"}, {"leaky_relu", "leaky-relu"},
	{"silu", "silu"}, {"swish", "silu"}, {"hardswish", "hard-swish"}, {"mish", "mish"},
	{"tanh", "tanh"}, {"sigmoid", "sigmoid"}, {"laplace", "laplace"}, {"sqrtsoftplus", "sqrt-softplus"}, {"linear", "linear"},
}

func (f *fields) activation(key string) string {
	name := f.word(key)
	for _, a := range activations {
		if a.theirs == name {
			return a.ours
		}
	}
	var known []string
	for _, a := range activations {
		known = append(known, a.theirs)
	}
	f.bad(key, "not one of %s", strings.Join(known, ", "))
	return spec.GELU
}

// activationName returns transformers' name of an activation.
func activationName(ours string) string {
	i := slices.IndexFunc(activations, func(a struct{ theirs, ours string }) bool { return a.ours == ours })
	return activations[i].theirs
}
