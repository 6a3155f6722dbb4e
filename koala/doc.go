// Package koala trains any gotch model with KOALA, a Kalman filter over the loss,
// and with other optimizers for comparison.
//
// KOALA (Davtyan, Sameni, Cerkezi, Meishvili, Bielski, Favaro: "KOALA: A Kalman
// Optimization Algorithm with Loss Adaptivity", AAAI 2022) models the weights as
// the hidden state of a Kalman filter and the loss of a minibatch as a noisy
// measurement, whose target is zero. The filter's gain is the step size: it falls
// if the loss is noisy or the gradient steep and rises again with the process
// noise, so that it needs little tuning.
//
// The kinds are in package [github.com/koala-lm/koala-lm/koala/spec], one file
// each; README.md lists them. The calls of a step are the same for all kinds:
//
//	opt, err := koala.New(spec.KoalaV, setting.Values{"lr": 1}, groups)
//	...
//	err = opt.Predict()                  // may move the weights
//	loss := forward(batch); backward     // of the mean of the samples' losses
//	info, err := opt.Update(koala.Measurement{Loss: mean, MeanSquare: meanOfSquares})
//	err = opt.ZeroGrad()
//
// Tensors, gradients and errors are libtorch's, which keeps the gradient mode and
// the last error per thread: a program that calls gotch itself holds its
// goroutine on its thread (runtime.LockOSThread) while it does.
//
// A rule's formulas run through libtorch's operators, on any device and in any
// floating point type. On the CPU, in float32 or float64, most kinds have fused
// kernels too: a step is then two passes over the memory it touches, one that sums
// and one that writes. The recursions of the filter's own numbers run in float64,
// in forms that keep variances positive.
package koala
