package spec

import (
	"slices"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// StateElements returns the number of elements that the state of an optimizer has for
// parameters, an average of the weights included, and whether there is one. Of a
// parameter it needs shape, count, role and parts.
func (k *Kind) StateElements(values setting.Values, params []*Param) (total int64, averages bool, err error) {
	if values, err = k.Complete(values, nil); err != nil {
		return 0, false, err
	}
	state := k.New(values).State()
	for _, t := range state.Tensors {
		for _, p := range params {
			if t.Shape == nil {
				total += p.Count
			} else if shape := t.Shape(p); shape != nil {
				total += product(shape)
			}
		}
	}
	return total, state.Average != "", nil
}

func product(shape []int64) int64 {
	n := int64(1)
	for _, size := range shape {
		n *= size
	}
	return n
}

// OfShape returns a parameter of a role for StateElements.
func OfShape(role Role, shape, parts []int64, partsDim int) *Param {
	return &Param{Shape: slices.Clone(shape), Count: product(shape), Role: role, Parts: parts, PartsDim: partsDim}
}
