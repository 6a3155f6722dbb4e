package koala_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/koala"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// A convolutional network learns to tell bars in noisy 8 x 8 images apart:
// horizontal, vertical or diagonal. KOALA-V runs with its default settings: there
// is no learning rate to tune.
func Example() {
	runtime.LockOSThread() // libtorch keeps its gradient mode per thread
	defer runtime.UnlockOSThread()

	random := rand.New(rand.NewPCG(1, 2))
	net := newConvNet(random)
	defer net.free()

	opt, err := koala.New(spec.KoalaV, nil, []koala.Group{{Params: koala.Params(net.params...)}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer opt.Close()

	for range 100 {
		if err := opt.Predict(); err != nil {
			fmt.Println(err)
			return
		}
		images, labels := bars(random, 64)
		m, _ := net.run(images, labels, true)
		if _, err := opt.Update(m); err != nil {
			fmt.Println(err)
			return
		}
		if err := opt.ZeroGrad(); err != nil {
			fmt.Println(err)
			return
		}
	}

	images, labels := bars(random, 500)
	m, correct := net.run(images, labels, false)
	fmt.Println("loss below 0.2:", m.Loss < 0.2)
	fmt.Println("nine in ten are right:", correct > 450)
	// Output:
	// loss below 0.2: true
	// nine in ten are right: true
}

// convNet is a layer of 3 x 3 filters, their mean over the image, and a linear
// layer on top.
type convNet struct {
	params                               []*ts.Tensor
	filters, filterBias, weight, outBias *ts.Tensor
}

func newConvNet(random *rand.Rand) *convNet {
	n := &convNet{}
	param := func(scale float64, shape ...int64) *ts.Tensor {
		size := int64(1)
		for _, d := range shape {
			size *= d
		}
		values := make([]float32, size)
		for i := range values {
			values[i] = float32(scale * random.NormFloat64())
		}
		var a arena
		defer a.free()
		flat := a.own(ts.OfSlice(values))
		p := must(flat.Reshape(shape, false))
		if err := p.RequiresGrad_(true); err != nil {
			panic(err)
		}
		n.params = append(n.params, p)
		return p
	}
	n.filters, n.filterBias = param(0.3, 12, 1, 3, 3), param(0, 12)
	n.weight, n.outBias = param(0.3, 3, 12), param(0, 3)
	return n
}

func (n *convNet) free() {
	for _, p := range n.params {
		_ = p.Drop()
	}
}

// run returns the mean loss and mean squared loss of the images, and how many
// are classified right. With learn it leaves the gradients in the parameters.
func (n *convNet) run(images []float32, labels []int64, learn bool) (m koala.Measurement, correct int) {
	var a arena
	defer a.free()
	count := int64(len(labels))
	flat := a.own(ts.OfSlice(images))
	x := a.own(flat.Reshape([]int64{count, 1, 8, 8}, false))
	y := a.own(a.own(ts.OfSlice(labels)).Unsqueeze(1, false))

	maps := a.own(ts.Conv2d(x, n.filters, n.filterBias, []int64{1, 1}, []int64{1, 1}, []int64{1, 1}, 1))
	means := a.own(a.own(maps.Relu(false)).MeanDim([]int64{2, 3}, false, gotch.Float, false))
	logits := a.own(ts.Linear(means, n.weight, n.outBias))
	logp := a.own(logits.LogSoftmax(1, gotch.Float, false))
	losses := a.own(a.own(logp.Gather(1, y, false, false)).Neg(false))

	if learn {
		if err := a.own(losses.Mean(gotch.Float, false)).Backward(); err != nil {
			panic(err)
		}
	}
	for _, l := range losses.Float64Values() {
		m.Loss += l / float64(count)
		m.MeanSquare += l * l / float64(count)
	}
	best := a.own(logits.Argmax([]int64{1}, false, false)).Int64Values()
	for i, label := range labels {
		if best[i] == label {
			correct++
		}
	}
	return m, correct
}

// bars draws count images of a bar in noise.
func bars(random *rand.Rand, count int) (images []float32, labels []int64) {
	for range count {
		label, at := random.IntN(3), random.IntN(8)
		for y := range 8 {
			for x := range 8 {
				on := [3]bool{y == at, x == at, (x+y)%8 == at}[label]
				v := 0.3 * random.NormFloat64()
				if on {
					v++
				}
				images = append(images, float32(v))
			}
		}
		labels = append(labels, int64(label))
	}
	return images, labels
}

// An arena frees the tensors of a step.
type arena []*ts.Tensor

func (a *arena) own(t *ts.Tensor, err error) *ts.Tensor {
	*a = append(*a, must(t, err))
	return t
}

func (a *arena) free() {
	for _, t := range *a {
		_ = t.Drop()
	}
}

func must(t *ts.Tensor, err error) *ts.Tensor {
	if err != nil {
		panic(err)
	}
	return t
}
