// Package koala trains any gotch model with KOALA, a Kalman filter over the
// loss, and with the baselines that one compares it to.
//
// KOALA (Davtyan, Sameni, Cerkezi, Meishvili, Bielski, Favaro: "KOALA: A Kalman
// Optimization Algorithm with Loss Adaptivity", AAAI 2022) takes the weights for
// the hidden state of a Kalman filter and the loss of a minibatch for a noisy
// measurement of it, whose target is zero. The filter's gain is the step size: it
// falls where the loss is noisy or the gradient steep and rises again with the
// process noise, so that it needs little tuning. The kinds are
//
//   - [KindV], koala-v: one variance for all weights; no memory beside them.
//   - [KindM], koala-m: weights and velocities, with their 2 x 2 covariance.
//   - [KindPP], koala++: follows the product of the covariance with the gradient
//     (KOALA++, NeurIPS 2025).
//   - [KindD], koala-d: a diagonal covariance in proportion to the inverse root
//     of the gradients' mean square; this project's own.
//   - [KindSGD], [KindAdam], [KindAdamW], [KindASGD]: the baselines, as PyTorch
//     has them.
//
// A step is the same for all kinds:
//
//	opt, err := koala.New(koala.KindV, groups, koala.Defaults(koala.KindV))
//	...
//	err = opt.Predict()                  // may move the weights
//	loss := forward(batch); backward     // of the mean of the samples' losses
//	info, err := opt.Update(koala.Measurement{Loss: mean, LossVar: meanOfSquares})
//	err = opt.ZeroGrad()
//
// Tensors, gradients and errors are libtorch's, which keeps the gradient mode and
// the last error per thread: a program that calls gotch itself holds its
// goroutine on its thread (runtime.LockOSThread) for as long as it does.
//
// On the CPU a step is two passes over the memory it touches, one that sums and
// one that writes, in float32 or float64. Other devices and types go through
// libtorch's operators. The recursions of the filter's own numbers run in
// float64 in forms that keep variances positive.
package koala
