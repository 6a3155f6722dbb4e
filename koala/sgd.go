package koala

import "github.com/koala-lm/koala-lm/internal/torch"

// sgd is gradient descent with momentum as PyTorch has it:
//
//	d = g + wd p
//	a = momentum a + d
//	p <- p - lr a, with Nesterov p - lr (d + momentum a)
type sgd struct {
	base
	momentum float64
	nesterov bool
}

func newSGD(b base, o Options) (Optimizer, error) {
	f := &sgd{base: b, momentum: o.Momentum, nesterov: o.Nesterov}
	if f.momentum == 0 {
		return f, nil
	}
	return f, f.allocate(1)
}

func (o *sgd) fields() fields {
	if o.momentum == 0 {
		return fields{}
	}
	return fields{a: "momentum"}
}

func (o *sgd) State() (State, error) { return o.save(o.fields()) }

func (o *sgd) Restore(s State) error { return o.restore(s, o.fields()) }

func (o *sgd) Update(m Measurement) (StepInfo, error) {
	return o.update(m, squareSums, func(st *step) {
		st.info.EffectiveLR = st.LR()
		if o.momentum == 0 {
			for _, l := range st.lanes {
				lr := st.rate(l)
				l.K[0], l.K[1] = -lr*st.scale, 1-lr*l.decay
			}
			st.run(axpby)
			return
		}
		for _, l := range st.lanes {
			l.K[0], l.K[1], l.K[2] = st.scale, l.decay, o.momentum
			l.K[3], l.K[4] = st.rate(l), 0
			if o.nesterov {
				l.K[3], l.K[4] = st.rate(l)*o.momentum, st.rate(l)
			}
		}
		st.run(momentum)
	})
}

// momentum is d = k0 g + k1 p; a = k2 a + d; p -= k3 a + k4 d.
var momentum = pass{
	kernel: torch.KernelMomentum,
	operators: func(s *torch.Scope, l *lane) {
		d := decayed(s, l)
		s.ScaleInPlace(l.A, l.K[2])
		s.AddInPlace(l.A, d)
		s.AddInPlace(l.P, mix(s, -l.K[3], l.A, -l.K[4], d))
	},
}
