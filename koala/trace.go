package koala

import (
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// Formulas are written for one tensor. On a GPU an operator takes as long to start as to
// run on a small tensor, and a model has hundreds of them. So the machine does not run the
// operations of formulas at once. It records them, for as many parameters as come one after
// another, and then runs those of one operator that do not need each other's results as one
// operator on lists of tensors (torch.Foreach). A result is freed after its last reader.

// tensor is a tensor of a formula: its value, or the operation that will compute it. A
// tensor with neither is the result of a failed operation.
type tensor struct {
	m    *machine
	t    *ts.Tensor
	base *tensor // the tensor whose storage it shares; nil if it has its own

	level   int  // of the recorded operation that computes it; 0 if it is there
	owned   bool // it is a result, which the scope owns
	readers int  // recorded operations that read it
	held    bool // it stays until the step ends
}

// root is the tensor that has t's storage.
func (a *tensor) root() *tensor {
	for a.base != nil {
		a = a.base
	}
	return a
}

// An operation is a recorded operator.
type operation struct {
	name   string            // of an operator on lists
	alone  func() *ts.Tensor // in its place an operator on one tensor
	inputs []*tensor         // an operator on lists has one or two
	values []float64         // its second operand if that is a number
	out    *tensor           // nil if it changes inputs[0]
	level  int
}

// A trace is the recorded operations that have not run. Operations of one level do not
// depend on each other.
type trace struct {
	operations []*operation
	places     map[*tensor]*place // by the tensor that has the storage
}

// A place holds the levels of the last operations that write and read a storage.
type place struct{ written, read int }

// add records an operation.
func (tr *trace) add(op *operation) {
	if tr.places == nil {
		tr.places = map[*tensor]*place{}
	}
	at := func(t *tensor) *place {
		p := tr.places[t.root()]
		if p == nil {
			p = &place{}
			tr.places[t.root()] = p
		}
		return p
	}
	for _, in := range op.inputs {
		op.level = max(op.level, 1+in.level, 1+at(in).written)
		in.readers++
	}
	if op.out == nil {
		changed := at(op.inputs[0])
		op.level = max(op.level, 1+changed.read)
		changed.written = op.level
	} else {
		op.out.level, op.out.owned = op.level, true
	}
	for _, in := range op.inputs {
		p := at(in)
		p.read = max(p.read, op.level)
	}
	tr.operations = append(tr.operations, op)
}

// take returns the recorded operations, by level or one by one, and forgets them.
func (tr *trace) take(byLevel bool) [][]*operation {
	var levels [][]*operation
	for i, op := range tr.operations {
		if !byLevel {
			op.level = 1 + i
		}
		for len(levels) < op.level {
			levels = append(levels, nil)
		}
		levels[op.level-1] = append(levels[op.level-1], op)
	}
	*tr = trace{}
	return levels
}

// do records an operation, or runs it at once outside of [machine.Within], and returns its
// result.
func (m *machine) do(op *operation) *tensor {
	m.trace.add(op)
	if m.depth == 0 {
		m.flush(false)
	}
	return op.out
}

// flush runs the recorded operations. With last the formula is at its end: results that no
// operation reads any more are freed.
func (m *machine) flush(last bool) {
	for _, level := range m.trace.take(m.lists) {
		for _, group := range m.groups(level) {
			m.run(group)
			for _, op := range group {
				for _, in := range op.inputs {
					if in.readers--; last && in.readers == 0 && in.owned && !in.held {
						m.scope.Free(in.t)
						in.t = nil
					}
				}
			}
		}
	}
}

// groups returns the operations that run as one operator.
func (m *machine) groups(level []*operation) [][]*operation {
	type alike struct {
		name         string
		first, other any // types of the operands
		same         bool
	}
	var groups [][]*operation
	index := map[alike]int{}
	for _, op := range level {
		if op.name == "" || !m.lists || !m.scope.OK() {
			groups = append(groups, []*operation{op})
			continue
		}
		a, b := op.inputs[0].t, (*ts.Tensor)(nil)
		key := alike{name: op.name}
		if a != nil {
			key.first = a.DType()
		}
		if len(op.inputs) > 1 {
			if b = op.inputs[1].t; b != nil {
				key.other, key.same = b.DType(), a == b
			}
		}
		if a == nil || len(op.inputs) > 1 && b == nil || !torch.Alike(a, b) {
			groups = append(groups, []*operation{op})
			continue
		}
		i, known := index[key]
		if !known {
			i = len(groups)
			index[key], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], op)
	}
	return groups
}

// run runs one operator on the operands of all operations.
func (m *machine) run(group []*operation) {
	var results []*ts.Tensor
	if first := group[0]; first.alone != nil {
		results = []*ts.Tensor{first.alone()}
	} else {
		var a, b []*ts.Tensor
		var v []float64
		for _, op := range group {
			a = append(a, op.inputs[0].t)
			if len(op.inputs) > 1 {
				b = append(b, op.inputs[1].t)
			}
			v = append(v, op.values...)
		}
		results = m.scope.Foreach(first.name, a, b, v)
	}
	for i, op := range group {
		if op.out == nil {
			continue
		}
		op.out.level = 0
		if results != nil {
			op.out.t = results[i]
		}
		if op.out.held {
			m.release(op.out)
		}
	}
}

// release makes the step own a result of the formula.
func (m *machine) release(t *tensor) {
	if t.owned && m.scope != m.step {
		m.step.Own(m.scope.Keep(t.t))
	}
}
