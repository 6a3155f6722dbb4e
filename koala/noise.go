package koala

// noise is the variance R of the measurement: fixed, or the running mean of the
// losses' mean squares, from 1.
type noise struct {
	r     float64 // 0 before the first of fromFirst
	fixed bool
	alpha float64
}

// minNoise keeps R and what is divided by it positive where the losses are zero
// for thousands of steps.
const minNoise = 1e-100

func newNoise(o Options) noise {
	if o.R > 0 {
		return noise{r: o.R, fixed: true}
	}
	return noise{r: 1, alpha: o.AlphaR}
}

// fromFirst has the running mean start at the first mean square, not at 1.
func (n *noise) fromFirst() {
	if !n.fixed {
		n.r = 0
	}
}

// measure returns R for a step with the given mean square.
func (n *noise) measure(lossVar float64) float64 {
	if !n.fixed && n.r == 0 {
		n.r = max(minNoise, lossVar)
	} else if !n.fixed {
		n.r = max(minNoise, n.alpha*n.r+(1-n.alpha)*lossVar)
	}
	return n.r
}

func (n *noise) field() scalarField { return scalarField{key: "r", at: &n.r} }
