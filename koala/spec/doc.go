// Package spec holds the optimizers. Each kind is one file, which declares its name,
// its hyperparameters and its state, and contains its step as a formula.
//
// A formula is written against [Tensor], a small algebra. Package koala runs it
// on libtorch's tensors, of any type and on any device; the package's own tests
// run it on plain float64 slices. The package does not depend on libtorch, so
// that programs that only read settings can import it.
//
// A kind is
//
//	var Lion = register(Kind{
//		Name: "lion", About: "...", DecoupledDecay: true,
//		Hyper: []setting.Declaration{lr(...), beta("beta1", ...)},
//		New:   func(v setting.Values) Rule { return &lion{...} },
//	})
//
// and a [Rule]: its [State] between steps, and its Update of the parameters. The
// parts that all kinds share are outside the rule: the list of parameters, clipping,
// the gate that keeps numbers that are not finite away from parameters and state,
// and saving and restoring the state.
//
// Settings, defaults, help, decay groups and documentation are derived from the
// list of kinds.
package spec
