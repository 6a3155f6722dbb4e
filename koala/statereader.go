package koala

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// largest bounds the numbers of a state, so that products of a few of them are
// finite; lowest as a minimum allows all of them.
const (
	largest = 1e100
	lowest  = -largest
)

// A stateReader takes a state apart key by key, and notes all that is wrong.
type stateReader struct {
	scalars  map[string]float64
	ints     map[string]int64
	tensors  map[string]*ts.Tensor
	problems []string
}

func newStateReader(s State) *stateReader {
	return &stateReader{scalars: maps.Clone(s.Scalars), ints: maps.Clone(s.Ints), tensors: maps.Clone(s.Tensors)}
}

func (r *stateReader) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

func (r *stateReader) scalar(f scalarField) float64 {
	v, ok := r.scalars[f.key]
	delete(r.scalars, f.key)
	switch {
	case !ok:
		r.problem("scalar %q is missing", f.key)
	case !(v >= f.min && v <= largest), f.over && v == f.min:
		want := "a finite number"
		switch {
		case f.over:
			want = fmt.Sprintf("a number above %v", f.min)
		case f.min > lowest:
			want = fmt.Sprintf("a number not below %v", f.min)
		}
		r.problem("scalar %q is %v: expected %s", f.key, v, want)
	}
	return v
}

func (r *stateReader) integer(f intField) {
	v, ok := r.ints[f.key]
	delete(r.ints, f.key)
	if !ok {
		r.problem("integer %q is missing", f.key)
	} else if v < f.min || v > f.max {
		r.problem("integer %q is %d: expected one from %d to %d", f.key, v, f.min, f.max)
	}
}

func (r *stateReader) tensor(name string, p *param, optional bool) *ts.Tensor {
	if name == "" {
		return nil
	}
	key := stateKey(name, p)
	t, ok := r.tensors[key]
	delete(r.tensors, key)
	if !ok {
		if !optional {
			r.problem("tensor %q is missing", key)
		}
		return nil
	}
	if have, want := torch.Describe(t), torch.Describe(p.p); have != want {
		r.problem("tensor %q is %s: expected %s", key, have, want)
		return nil
	}
	return t
}

// end refuses what no one asked for: it would be of another model or settings.
func (r *stateReader) end() error {
	left := slices.Concat(slices.Sorted(maps.Keys(r.scalars)), slices.Sorted(maps.Keys(r.ints)), slices.Sorted(maps.Keys(r.tensors)))
	for _, key := range left {
		r.problem("%q belongs to no parameter or setting of this optimizer", key)
	}
	const most = 5 // a state of another model has hundreds
	if n := len(r.problems); n > most {
		r.problems = append(r.problems[:most], fmt.Sprintf("and %d more", n-most))
	}
	if len(r.problems) > 0 {
		return errors.New(strings.Join(r.problems, "; "))
	}
	return nil
}
