package lm

import (
	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// NewOptimizer returns an optimizer over m's parameters, grouped by the kind's
// settings. Settings that values lacks take the defaults of the kind's authors.
func NewOptimizer(kind *spec.Kind, values setting.Values, m Model) (koala.Optimizer, error) {
	var params []koala.Param
	for _, p := range m.Params() {
		params = append(params, koala.Param{
			Name: p.Name, Tensor: p.Tensor, Role: spec.Role(p.Role), Parts: p.Parts, PartsDim: p.PartsDim,
		})
	}
	groups, err := koala.Groups(kind, values, params)
	if err != nil {
		return nil, err
	}
	return koala.New(kind, values, groups)
}
