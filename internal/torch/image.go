package torch

import "github.com/sugarme/gotch/ts"

// Operators of image models. Images are [N, channels, height, width].

// Conv2d convolves x with the filters w [out, in, k, k], without a bias.
func (s *Scope) Conv2d(x, w *ts.Tensor, stride, padding int64) *ts.Tensor {
	return s.Apply("conv2d", func() (*ts.Tensor, error) {
		return ts.Conv2d(x, w, ts.None, []int64{stride, stride}, []int64{padding, padding}, []int64{1, 1}, 1)
	}, x, w)
}

// BatchNorm normalises each channel of x, and scales and shifts it by gain and shift
// [channels]. In training it takes mean and variance from x, and moves the running ones
// towards them by the share momentum; else it takes the running ones.
func (s *Scope) BatchNorm(x, gain, shift, mean, variance *ts.Tensor, training bool, momentum, eps float64) *ts.Tensor {
	return s.Apply("batch_norm", func() (*ts.Tensor, error) {
		return ts.BatchNorm(x, gain, shift, mean, variance, training, momentum, eps, true)
	}, x, gain, shift, mean, variance)
}

// MeanDims is the mean over the given dimensions, which the result does not have.
func (s *Scope) MeanDims(a *ts.Tensor, dims ...int64) *ts.Tensor {
	return s.Apply("mean", func() (*ts.Tensor, error) { return a.MeanDim(dims, false, a.DType(), false) }, a)
}

// CrossEntropies is the cross-entropy of each row of logits [N, classes] with its int64
// target.
func (s *Scope) CrossEntropies(logits, targets *ts.Tensor) *ts.Tensor {
	const each, noTarget = 0, -100 // libtorch's reduction "none", and its default
	return s.Apply("cross_entropy_loss", func() (*ts.Tensor, error) {
		return logits.CrossEntropyLoss(targets, ts.None, each, noTarget, 0, false)
	}, logits, targets)
}
