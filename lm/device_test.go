package lm_test

import (
	"maps"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/torch/torchtest"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// device is a CUDA device: the test device, or a GPU if the environment asks for one.
var device gotch.Device

func TestMain(m *testing.M) {
	device = torchtest.Open()
	os.Exit(m.Run())
}

// on runs f with the tests' models on d.
func on(d gotch.Device, f func()) {
	before := trainedOn
	trainedOn = d
	defer func() { trainedOn = before }()
	f()
}

// trainOn trains a job on a device.
func (j job) trainOn(t *testing.T, d gotch.Device) (r *came) {
	t.Helper()
	on(d, func() { r = j.mustRun(t, 1, nil)[0] })
	return r
}

// forEach runs test for every model with two optimizers, and for every optimizer with
// GPT-2's model: what an optimizer does on a device does not depend on the model.
func forEach(test func(shape string, kind *koalaspec.Kind)) {
	for _, shape := range slices.Sorted(maps.Keys(shapes)) {
		for _, kind := range koalaspec.Kinds() {
			if shape == "gpt2" || kind == koalaspec.AdamW || kind == koalaspec.KoalaV {
				test(shape, kind)
			}
		}
	}
}

// A CUDA device gives the CPU's losses from the same weights and texts, with every
// model and optimizer, in training and in evaluation.
func TestDeviceTrainsAsTheCPU(t *testing.T) {
	forEach(func(shape string, kind *koalaspec.Kind) {
		t.Run(shape+" "+kind.Name, func(t *testing.T) {
			tolerance := 1e-4
			switch kind {
			case koalaspec.Muon, koalaspec.KoalaK: // orthogonalize in bfloat16 on a device
				tolerance = 5e-3
			case koalaspec.RMSprop: // its first steps divide gradients by a tenth of themselves
				tolerance = 5e-3
			case koalaspec.SOAP: // divides by gradients in a basis that rounding turns
				tolerance = 3e-2
			}
			j := job{model: without(shapes[shape]), kind: kind, config: lm.TrainConfig{Train: spec.Train{Steps: 6}, Eval: spec.Eval{Every: 3}}, whole: 4}
			onCPU, onDevice := j.trainOn(t, gotch.CPU), j.trainOn(t, device)
			sameLosses(t, "the device", onCPU.losses(), onDevice.losses(), tolerance)
			for i, e := range onDevice.evaluations {
				if w := onCPU.evaluations[i]; e.Result.Tokens != w.Result.Tokens || math.Abs(e.Result.Nats-w.Result.Nats) > tolerance {
					t.Errorf("the device evaluates %s to %+v, the CPU to %+v", e.Split, e.Result, w.Result)
				}
			}
		})
	})
}

// On a CUDA device bfloat16 learns like float32, with larger rounding errors.
func TestDeviceBFloat16(t *testing.T) {
	for shape, model := range shapes {
		t.Run(shape, func(t *testing.T) {
			j := job{model: without(model), kind: koalaspec.AdamW, config: lm.TrainConfig{Train: spec.Train{Steps: 60}}, whole: 4}
			exact := j.trainOn(t, device).losses()
			j.config.Precision = spec.BFloat16
			sameLosses(t, "bfloat16", exact, j.trainOn(t, device).losses(), 0.1)
		})
	}
}
