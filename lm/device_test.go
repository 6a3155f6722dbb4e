package lm_test

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
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
			j := job{model: without(model), kind: koalaspec.AdamW, config: lm.TrainConfig{Train: spec.Train{Steps: 20}}, whole: 4}
			exact := j.trainOn(t, device).losses()
			j.config.Precision = spec.BFloat16
			sameLosses(t, "bfloat16", exact, j.trainOn(t, device).losses(), 0.1)
		})
	}
}

// waits is how often a step waits for the device with the optimizers that need more than
// one reading.
var waits = map[*koalaspec.Kind]float64{
	koalaspec.KoalaM: 2, // the distances from the average, which the step changes
	koalaspec.KoalaK: 3, // norms that clipping and the blocks of a matrix need
}

// A step waits for the device once, to read its loss and the sums that the optimizer
// needs. A logged step also measures how far it moved the parameters.
func TestDeviceWaits(t *testing.T) {
	table := []string{fmt.Sprintf("%-10s %-14s %9s %9s %9s %9s %6s", "model", "optimizer", "operators", "to device", "to host", "bytes", "waits")}
	forEach(func(shape string, kind *koalaspec.Kind) {
		j := job{model: shapes[shape], kind: kind, config: lm.TrainConfig{Train: spec.Train{LogEvery: 1000}}, whole: 4}
		count := func(steps int64) torchtest.Counts {
			j.config.Steps = steps
			c, counted := torchtest.Count(func() { j.trainOn(t, device) })
			if !counted {
				t.Skip("a GPU does not count")
			}
			return c
		}
		const steps = 8
		few, many := count(4), count(4+steps)
		per := func(field func(torchtest.Counts) int64) float64 { return float64(field(many)-field(few)) / steps }
		waited := per(func(c torchtest.Counts) int64 { return c.Waits })
		table = append(table, fmt.Sprintf("%-10s %-14s %9.1f %9.2f %9.2f %9.0f %6.2f", shape, kind.Name,
			per(func(c torchtest.Counts) int64 { return c.Launches }), per(func(c torchtest.Counts) int64 { return c.ToDevice }),
			per(func(c torchtest.Counts) int64 { return c.ToHost }),
			per(func(c torchtest.Counts) int64 { return c.ToDeviceBytes + c.ToHostBytes }), waited))
		if waited > max(1, waits[kind]) {
			t.Errorf("%s with %s waits %.2f times a step: %s", shape, kind.Name, waited, strings.Join(many.Reasons[len(many.Reasons)/2:][:10], "; "))
		}
	})
	t.Log("a step:\n" + strings.Join(table, "\n"))
}
