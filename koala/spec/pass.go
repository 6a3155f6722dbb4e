package spec

import (
	"maps"
	"reflect"
	"strings"
	"unicode"
)

// A pass is one sweep over parameters. It has two forms that do the same: a fused
// kernel for the CPU (koala/native/optim.cpp), and the formula in operators, for any
// device and type. A is a struct of float64 arguments with the kernel's names, or an
// empty struct.
type pass[A any] struct {
	kernel    string // "" for operators alone
	operators func(p *Param, a A)
	sums      func(p *Param, a A) Sums // computed after the operators
}

type noArgs struct{}

// Run makes the sweep over params and stores its sums in them; args gives each one's
// arguments and may be nil if A has none.
func (ps pass[A]) Run(st *Step, params []*Param, args func(p *Param) A) {
	all := make([]A, len(params))
	for i, p := range params {
		if args != nil {
			all[i] = args(p)
		}
	}
	s := newSweep(ps.kernel, params, all)
	if ps.operators != nil {
		s.Operators = func(i int) { ps.operators(params[i], all[i]) }
	}
	if ps.sums != nil {
		s.Sums = func(i int) Sums { return ps.sums(params[i], all[i]) }
	}
	for i, sums := range st.Machine.Run(s) {
		maps.Copy(params[i].Sums, sums)
	}
}

// newSweep is the sweep of a kernel with each parameter's arguments.
func newSweep[A any](kernel string, params []*Param, args []A) Sweep {
	s := Sweep{Kernel: kernel, Args: argNames[A](), Params: params}
	for _, a := range args {
		s.Values = append(s.Values, argValues(a))
	}
	return s
}

func argNames[A any]() []string {
	t := reflect.TypeFor[A]()
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = snakeCase(t.Field(i).Name)
	}
	return names
}

func argValues[A any](a A) []float64 {
	v := reflect.ValueOf(a)
	values := make([]float64, v.NumField())
	for i := range values {
		values[i] = v.Field(i).Float()
	}
	return values
}

// snakeCase is the name in C++: RootCorrection is root_correction.
func snakeCase(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// squares sums |g|^2.
var squares = pass[noArgs]{
	kernel: "squares",
	sums:   func(p *Param, _ noArgs) Sums { return Sums{"gg": p.Gradient.Dot(p.Gradient)} },
}

// moments sums |g|^2, g.p and |p|^2.
var moments = pass[noArgs]{
	kernel: "moments",
	sums: func(p *Param, _ noArgs) Sums {
		return Sums{"gg": p.Gradient.Dot(p.Gradient), "gp": p.Gradient.Dot(p.Value), "pp": p.Value.Dot(p.Value)}
	},
}

// descentArgs are the arguments of p = keep p - rate g.
type descentArgs struct{ Rate, Keep float64 }

var descent = pass[descentArgs]{
	kernel: "descent",
	operators: func(p *Param, a descentArgs) {
		if a.Keep != 1 {
			p.Value.ScaleInPlace(a.Keep)
		}
		p.Value.AddInPlace(p.Gradient.Scale(-a.Rate))
	},
}
