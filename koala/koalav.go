package koala

// koalaV is KOALA-V: the weights w are a random walk with covariance sigma I, and
// the loss L(w) is a measurement of its target 0 with variance R. Linearised at
// w with gradient g the extended Kalman filter is
//
//	predict:  sigma <- sigma + q
//	update:   S = sigma |g|^2 + R
//	          w <- w - lr (sigma/S) L g
//	          sigma <- sigma - sigma^2 |g|^2/S = sigma R/S
//
// with one S for each tensor and one sigma for all, which follows the largest
// |g|^2. The last form has no difference of near numbers: sigma stays positive.
//
// With weight decay wd a tensor's loss is L + wd/2 |w|^2, and its norm that of
// g + wd w; but the step is along g, unless Options.DecayInStep says otherwise.
type koalaV struct {
	base
	noise
	sigma, q    float64
	decayInStep bool
}

func newKoalaV(b base, o Options) (Optimizer, error) {
	return &koalaV{base: b, noise: newNoise(o), sigma: o.Sigma, q: o.Q, decayInStep: o.DecayInStep}, nil
}

func (o *koalaV) fields() fields {
	return fields{scalars: []scalarField{{key: "sigma", at: &o.sigma, over: true}, o.noise.field()}}
}

func (o *koalaV) State() (State, error) { return o.save(o.fields()) }

func (o *koalaV) Restore(s State) error { return o.restore(s, o.fields()) }

func (o *koalaV) Predict() error {
	return o.predict(func(*step) { o.sigma += o.q })
}

func (o *koalaV) Update(m Measurement) (StepInfo, error) {
	return o.updateFilter(m, gradientSums, func(st *step) {
		st.dropFlat()
		r := o.measure(m.LossVar)
		for _, l := range st.lanes {
			n2 := st.normSquare(l)
			rate := st.rate(l) * st.lossOf(l) * o.sigma / (o.sigma*n2 + r)
			l.K[0], l.K[1] = -rate*st.scale, 1
			if o.decayInStep {
				l.K[1] = 1 - rate*l.decay
			}
			st.note(l, n2, rate)
		}
		st.run(axpby)

		st.info.Gain = o.sigma * st.steepest / (o.sigma*st.steepest + r)
		o.sigma = update(o.sigma, st.steepest, r)
		st.info.Sigma, st.info.R = o.sigma, r
	})
}

// update returns sigma R/S, the variance after a measurement of variance r along
// a gradient of squared norm n2.
func update(sigma, n2, r float64) float64 {
	return max(minSigma, sigma*(r/(sigma*n2+r)))
}

// minSigma keeps a variance positive where a gradient is so steep that no
// float64 can hold what is left of it.
const minSigma = 1e-300
