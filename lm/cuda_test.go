package lm_test

import (
	"math"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/torch"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// cuda returns the first CUDA device. A test that needs one is skipped without it.
func cuda(t *testing.T) cudaDevice {
	t.Helper()
	if _, err := torch.CUDADevices(); err != nil {
		t.Skipf("needs a CUDA device: %v", err)
	}
	return cudaDevice{gotch.CudaBuilder(0)}
}

type cudaDevice struct{ gotch.Device }

// run trains a job on the device.
func (d cudaDevice) run(t *testing.T, j job) *came {
	t.Helper()
	trainedOn = d.Device
	defer func() { trainedOn = gotch.CPU }()
	return j.mustRun(t, 1, nil)[0]
}

// A CUDA device gives the CPU's losses from the same weights and texts, with every
// model and optimizer, in training and in evaluation.
func TestCUDATrainsAsTheCPU(t *testing.T) {
	device := cuda(t)
	for shape, model := range shapes {
		for _, kind := range koalaspec.Kinds() {
			t.Run(shape+" "+kind.Name, func(t *testing.T) {
				j := job{model: without(model), kind: kind, config: lm.TrainConfig{Train: spec.Train{Steps: 30}, Eval: spec.Eval{Every: 10}}, whole: 4}
				onCPU := j.mustRun(t, 1, nil)[0]
				onCUDA := device.run(t, j)
				sameLosses(t, "CUDA", onCPU.losses(), onCUDA.losses(), 1e-3)
				for i, e := range onCUDA.evaluations {
					if w := onCPU.evaluations[i]; e.Result.Tokens != w.Result.Tokens || math.Abs(e.Result.Nats-w.Result.Nats) > 1e-3 {
						t.Errorf("CUDA evaluates %s to %+v, the CPU to %+v", e.Split, e.Result, w.Result)
					}
				}
			})
		}
	}
}

// On a CUDA device bfloat16 learns like float32, with larger rounding errors.
func TestCUDABFloat16(t *testing.T) {
	device := cuda(t)
	for shape, model := range shapes {
		t.Run(shape, func(t *testing.T) {
			j := job{model: without(model), kind: koalaspec.AdamW, config: lm.TrainConfig{Train: spec.Train{Steps: 100}}, whole: 4}
			exact := device.run(t, j).losses()
			j.config.Precision = spec.BFloat16
			sameLosses(t, "bfloat16", exact, device.run(t, j).losses(), 0.1)
		})
	}
}
