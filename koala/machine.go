package koala

import (
	"fmt"
	"slices"
	"sync"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// machine runs a rule's passes on libtorch. A pass with a fused kernel makes one
// sweep over all parameters that kernels accept. Otherwise the operators run, on the
// CPU one parameter after another, and on a device as trace.go says.
type machine struct {
	params    map[*spec.Param]*param
	step      *torch.Scope // of the whole step
	scope     *torch.Scope // of the parameter at work, or step
	operators bool         // use no kernels: tests compare the kernels with this form
	lists     bool         // operators run on the tensors of many parameters at a time
	depth     int          // of calls of Within
	trace     trace        // what was recorded in the innermost one

	reading  *Reading // the measurement of this step, until it is read
	measured Measurement
}

var _ spec.Machine = (*machine)(nil)

// kernels caches the native library's descriptions of its kernels.
var kernels sync.Map // name to *torch.Kernel, nil if there is none

func findKernel(name string) *torch.Kernel {
	if name == "" {
		return nil
	}
	k, ok := kernels.Load(name)
	if !ok {
		k, _ = kernels.LoadOrStore(name, torch.FindKernel(name))
	}
	return k.(*torch.Kernel)
}

func (m *machine) Run(pass spec.Sweep) []map[string]float64 {
	kernel := findKernel(pass.Kernel)
	if pass.Kernel != "" && kernel == nil {
		m.step.Fail(fmt.Errorf("there is no kernel %q", pass.Kernel))
		return nil
	}
	sums := make([]map[string]float64, len(pass.Params))
	byType := map[gotch.DType][]int{}
	var rest []int
	for i, p := range pass.Params {
		sums[i] = map[string]float64{}
		if own := m.params[p]; kernel != nil && own.fused && !m.operators {
			byType[own.tensor.DType()] = append(byType[own.tensor.DType()], i)
		} else {
			rest = append(rest, i)
		}
	}
	for _, dtype := range []gotch.DType{gotch.Float, gotch.Double} {
		m.runKernel(kernel, pass, byType[dtype], sums)
	}
	if pass.Together != nil {
		m.Within(func() { pass.Together(rest) })
	} else {
		m.runOperators(pass, rest, sums)
	}
	return sums
}

func (m *machine) runKernel(kernel *torch.Kernel, pass spec.Sweep, which []int, sums []map[string]float64) {
	if len(which) == 0 {
		return
	}
	order, err := match(kernel.Args, pass.Args)
	if err != nil {
		m.step.Fail(fmt.Errorf("kernel %s: %w", pass.Kernel, err))
		return
	}
	work := make([]torch.KernelParam, len(which))
	for j, i := range which {
		p := m.params[pass.Params[i]]
		w := &work[j]
		w.P, w.G = p.tensor, p.gradient
		for k, name := range kernel.State {
			if name == "" {
				continue
			}
			if w.State[k] = p.state[name]; w.State[k] == nil {
				m.step.Fail(fmt.Errorf("kernel %s: parameter %s has no state %q", pass.Kernel, p.Name, name))
				return
			}
		}
		for _, at := range order {
			w.Args = append(w.Args, pass.Values[i][at])
		}
	}
	m.step.RunKernel(kernel, work)
	if !m.step.OK() {
		return
	}
	for j, i := range which {
		for k, name := range kernel.Sums {
			sums[i][name] = work[j].Sums[k]
		}
	}
}

// match returns the index in have of each name in want. Both have the same names.
func match(want, have []string) ([]int, error) {
	order := make([]int, len(want))
	for i, name := range want {
		if order[i] = slices.Index(have, name); order[i] < 0 || len(want) != len(have) {
			return nil, fmt.Errorf("its arguments are %v, not %v", want, have)
		}
	}
	return order, nil
}

// runOperators runs the operator form, and brings all sums to the host in one
// transfer.
func (m *machine) runOperators(pass spec.Sweep, which []int, sums []map[string]float64) {
	type place struct {
		i    int
		name string
	}
	var (
		places  []place
		scalars []spec.Tensor
	)
	m.each(len(which), func(j int) *spec.Param { return pass.Params[which[j]] }, func(j int) {
		i := which[j]
		if pass.Operators != nil {
			pass.Operators(i)
		}
		if pass.Sums == nil || !m.scope.OK() {
			return
		}
		for name, v := range pass.Sums(i) {
			places, scalars = append(places, place{i, name}), append(scalars, m.Hold(v))
		}
	})
	for j, v := range m.Values(scalars...) {
		sums[places[j].i][places[j].name] = v
	}
}

func (m *machine) Each(params []*spec.Param, f func(p *spec.Param)) {
	m.each(len(params), func(i int) *spec.Param { return params[i] }, func(i int) { f(params[i]) })
}

// each runs f for n parameters.
func (m *machine) each(n int, param func(i int) *spec.Param, f func(i int)) {
	for i := 0; i < n && m.scope.OK(); {
		m.Within(func() {
			for bytes := int64(0); i < n && bytes == 0 || m.lists && i < n && bytes < spec.Together; i++ {
				bytes += torch.ByteCount(m.params[param(i)].tensor)
				f(i)
			}
		})
	}
}

func (m *machine) Within(f func()) {
	m.flush(false)
	outer, inner := m.scope, torch.NewScope()
	m.scope = inner
	m.depth++
	defer func() {
		m.depth--
		m.trace = trace{}
		m.scope = outer
		outer.Fail(inner.Err())
		inner.Close()
	}()
	f()
	m.flush(true)
}

func (m *machine) Hold(t spec.Tensor) spec.Tensor {
	own := operand(t)
	if own.held = true; own.level == 0 {
		m.release(own)
	}
	return t
}

func (m *machine) Create(p *spec.Param, name string, from spec.Tensor) {
	own := m.params[p]
	t := m.step.ZerosLike(own.tensor)
	m.step.CopyInto(t, raw(from))
	if m.step.OK() {
		own.keep(m, name, m.step.Keep(t))
	}
}

func (m *machine) Values(scalars ...spec.Tensor) []float64 {
	tensors := make([]*ts.Tensor, len(scalars))
	for i, t := range scalars {
		tensors[i] = raw(t)
	}
	if m.reading != nil {
		tensors = append(tensors, m.reading.Values...)
	}
	if len(tensors) == 0 || !m.scope.OK() {
		return nil
	}
	values := torch.ToSlice[float64](m.scope, joined(m.scope, tensors))
	if m.reading != nil && m.scope.OK() {
		m.measured, m.reading = m.reading.Read(values[len(scalars):]), nil
		values = values[:len(scalars)]
	}
	return values
}

// measurement returns the step's measurement, which came with the values of the first
// pass if that had some.
func (m *machine) measurement() Measurement {
	if m.reading != nil && len(m.reading.Values) == 0 {
		m.measured, m.reading = m.reading.Read(nil), nil
	}
	m.Values()
	m.reading = nil
	return m.measured
}

func (m *machine) FastBFloat16() bool {
	for _, p := range m.params {
		d, err := p.tensor.Device()
		return err == nil && torch.FastBFloat16(d)
	}
	return false
}

func wide(s *torch.Scope, t *ts.Tensor) *ts.Tensor {
	return s.Apply("to", func() (*ts.Tensor, error) { return t.Totype(gotch.Double, false) }, t)
}
