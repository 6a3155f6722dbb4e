package spec

import (
	"slices"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// StateElements returns the number of elements that the state of an optimizer has for
// parameters, an average of the weights included. Of a parameter it needs shape, count,
// role and parts.
func (k *Kind) StateElements(values setting.Values, params []*Param) (int64, error) {
	values, err := k.Complete(values, nil)
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, t := range k.New(values).State().Tensors {
		for _, p := range params {
			if t.Shape == nil {
				total += p.Count
			} else if shape := t.Shape(p); shape != nil {
				total += product(shape)
			}
		}
	}
	return total, nil
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
