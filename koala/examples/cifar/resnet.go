package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala"
)

// A resNet is ResNet-18 (He et al. 2016) in its form for small images: the first
// convolution is 3 x 3 with stride 1, and no pooling follows it. Parameters have
// torchvision's names and order.
type resNet struct {
	device  gotch.Device
	params  []koala.Param
	buffers []*ts.Tensor // running means and variances

	stem         convNorm
	blocks       []block
	weight, bias *ts.Tensor // of the last layer
}

// A convNorm is a convolution with batch norm.
type convNorm struct {
	filters, gain, shift, mean, variance *ts.Tensor
	stride, padding                      int64
}

func (l convNorm) forward(s *torch.Scope, x *ts.Tensor, training bool) *ts.Tensor {
	x = s.Conv2d(x, l.filters, l.stride, l.padding)
	return s.BatchNorm(x, l.gain, l.shift, l.mean, l.variance, training, 0.1, 1e-5)
}

// A block is two convolutions beside a shortcut, which is the identity if nil.
type block struct {
	first, second convNorm
	shortcut      *convNorm
}

func (b block) forward(s *torch.Scope, x *ts.Tensor, training bool) *ts.Tensor {
	y := s.ReLU(b.first.forward(s, x, training))
	y = b.second.forward(s, y, training)
	if b.shortcut != nil {
		x = b.shortcut.forward(s, x, training)
	}
	return s.ReLU(s.Add(y, x))
}

// forward returns the logits of images [N, 3, height, width].
func (n *resNet) forward(s *torch.Scope, x *ts.Tensor, training bool) *ts.Tensor {
	x = s.ReLU(n.stem.forward(s, x, training))
	for _, b := range n.blocks {
		x = b.forward(s, x, training)
	}
	return s.Linear(s.MeanDims(x, 2, 3), n.weight, n.bias)
}

// A filler returns a parameter's first values.
type filler func(name string, shape ...int64) []float64

// newResNet returns a network whose first stage has width channels; 64 is
// ResNet-18's.
func newResNet(width, classes int64, dtype gotch.DType, device gotch.Device, fill filler) (*resNet, error) {
	n := &resNet{device: device}
	err := torch.Do(func(s *torch.Scope) error {
		tensor := func(values []float64, shape ...int64) *ts.Tensor {
			t := s.Clone(s.To(torch.FromSlice(s, values, shape...), dtype, device))
			if !s.OK() {
				return nil
			}
			return s.Keep(t)
		}
		param := func(name string, shape ...int64) *ts.Tensor {
			p := tensor(fill(name, shape...), shape...)
			s.RequireGrad(p, true)
			if p != nil {
				n.params = append(n.params, koala.Param{Name: name, Tensor: p})
			}
			return p
		}
		buffer := func(value float64, length int64) *ts.Tensor {
			values := make([]float64, length)
			for i := range values {
				values[i] = value
			}
			t := tensor(values, length)
			if t != nil {
				n.buffers = append(n.buffers, t)
			}
			return t
		}
		layer := func(conv, norm string, in, out, size, stride int64) convNorm {
			return convNorm{
				filters: param(conv+".weight", out, in, size, size), stride: stride, padding: size / 2,
				gain: param(norm+".weight", out), shift: param(norm+".bias", out), mean: buffer(0, out), variance: buffer(1, out),
			}
		}
		n.stem = layer("conv1", "bn1", 3, width, 3, 1)
		in := width
		for stage := range int64(4) {
			out := width << stage
			for i := range 2 {
				name, stride := fmt.Sprintf("layer%d.%d.", stage+1, i), int64(1)
				if stage > 0 && i == 0 {
					stride = 2
				}
				b := block{
					first:  layer(name+"conv1", name+"bn1", in, out, 3, stride),
					second: layer(name+"conv2", name+"bn2", out, out, 3, 1),
				}
				if in != out {
					shortcut := layer(name+"downsample.0", name+"downsample.1", in, out, 1, stride)
					b.shortcut = &shortcut
				}
				n.blocks = append(n.blocks, b)
				in = out
			}
		}
		n.weight, n.bias = param("fc.weight", classes, in), param("fc.bias", classes)
		return nil
	})
	if err != nil {
		n.free()
		return nil, err
	}
	return n, nil
}

func (n *resNet) free() {
	for _, p := range n.params {
		_ = p.Tensor.Drop()
	}
	for _, t := range n.buffers {
		_ = t.Drop()
	}
}

// random returns torchvision's initialization but for the last bias, 0: Kaiming's for filters, 1 and 0 in
// batch norms, and uniform numbers in the last layer.
func random(r *rand.Rand) filler {
	return func(name string, shape ...int64) []float64 {
		count := int64(1)
		for _, size := range shape {
			count *= size
		}
		values := make([]float64, count)
		fanIn := count / shape[0]
		for i := range values {
			switch {
			case len(shape) == 4:
				values[i] = r.NormFloat64() * math.Sqrt(2/float64(shape[0]*shape[2]*shape[3]))
			case len(shape) == 2:
				values[i] = (2*r.Float64() - 1) / math.Sqrt(float64(fanIn))
			case strings.HasSuffix(name, ".weight"):
				values[i] = 1
			}
		}
		return values
	}
}
