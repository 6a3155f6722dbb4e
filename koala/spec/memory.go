package spec

import (
	"slices"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// copies is the Temporary of a kind whose operators hold so many tensors like p at a time.
func copies(n int64) func(v setting.Values, p *Param) int64 {
	return func(_ setting.Values, p *Param) int64 { return n * p.Count }
}

// orthogonalTemporary is that of a kind that makes matrices orthogonal: the kernel's scratch,
// 3 m n + 4 m m numbers (koala/native/orthogonal.cpp), is largest for a square matrix.
func orthogonalTemporary(_ setting.Values, p *Param) int64 {
	if p.isMatrix() {
		return 7 * p.Count
	}
	return 0
}

// StateElements returns the number of elements that the state of an optimizer has for
// parameters, an average of the weights included, and how many its step holds beside it,
// where it moves one parameter after another. Of a parameter it needs shape, count, role
// and parts.
func (k *Kind) StateElements(values setting.Values, params []*Param) (total, temporary int64, err error) {
	if values, err = k.Complete(values, nil); err != nil {
		return 0, 0, err
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
	for _, p := range params {
		if k.Temporary != nil {
			temporary = max(temporary, k.Temporary(values, p))
		}
		if state.Average == weightAverage {
			temporary = max(temporary, 2*p.Count)
		}
	}
	return total, temporary, nil
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
