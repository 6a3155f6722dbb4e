package lm

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// NewOptimizer returns an optimizer over m's parameters that are not frozen, grouped by
// the kind's settings. Settings that values lacks take the defaults of the kind's authors.
func NewOptimizer(kind *spec.Kind, values setting.Values, m Model) (koala.Optimizer, error) {
	var params []koala.Param
	for _, p := range m.Params() {
		if p.trains() {
			params = append(params, koala.Param{
				Name: p.Name, Tensor: p.Tensor, Role: spec.Role(p.Role), Parts: p.Parts, PartsDim: p.PartsDim,
			})
		}
	}
	groups, err := koala.Groups(kind, values, params)
	if err != nil {
		return nil, err
	}
	optimizer, err := koala.New(kind, values, groups)
	if err != nil {
		return nil, lower(err, "model.layers, model.embed or model.hidden, or take an optimizer.kind with less state: koala-v and sgd without momentum have none")
	}
	return optimizer, nil
}

// Freeze makes the parameters whose names match one of the patterns constant, for an
// optimizer that is made later and for the gradients: * is any text. A pattern that
// matches no parameter is an error, and so is a model without any that trains.
func Freeze(m Model, patterns []string) error {
	if len(patterns) == 0 {
		return nil
	}
	params := m.Params()
	matches := func(pattern string) func(p Param) bool {
		return func(p Param) bool {
			ok, err := path.Match(pattern, p.Name)
			return ok && err == nil // bad patterns are not in the setting's domain
		}
	}
	for _, pattern := range patterns {
		if !slices.ContainsFunc(params, matches(pattern)) {
			return fmt.Errorf("train.freeze: no tensor of the model matches %q: their names are %s", pattern, strings.Join(shortNames(params), ", "))
		}
	}
	frozen := 0
	err := torch.Do(func(s *torch.Scope) error {
		for _, p := range params {
			if slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern)(p) }) {
				s.RequireGrad(p.Tensor, false)
				frozen++
			}
		}
		return s.Err()
	})
	if err == nil && frozen == len(params) {
		err = fmt.Errorf("train.freeze %s leaves nothing to train: it matches all %d tensors of the model", setting.Text(patterns), frozen)
	}
	return err
}

// trains reports whether the parameter is not frozen.
func (p Param) trains() bool {
	trains, err := p.Tensor.RequiresGrad()
	return trains && err == nil
}

// trained returns the tensors of m's parameters that are not frozen.
func trained(m Model) []*ts.Tensor {
	var tensors []*ts.Tensor
	for _, p := range m.Params() {
		if p.trains() {
			tensors = append(tensors, p.Tensor)
		}
	}
	return tensors
}

// CountFrozen returns the number of scalars in frozen parameters.
func CountFrozen(m Model) int64 {
	n := CountParams(m)
	for _, t := range trained(m) {
		n -= torch.Count(t)
	}
	return n
}

var numbers = regexp.MustCompile(`\d+`)

// shortNames returns the names of parameters, those that differ in numbers alone once:
// transformer.h.*.attn.c_attn.weight.
func shortNames(params []Param) []string {
	var names []string
	for _, p := range params {
		if name := numbers.ReplaceAllString(p.Name, "*"); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
