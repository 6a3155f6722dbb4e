package koala

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/internal/torch/torchtest"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// transformerParams are parameters of GPT-2's form with so many layers, on the device.
func transformerParams(t *testing.T, dtype gotch.DType, layers int) []Param {
	random := rand.New(rand.NewPCG(1, 2))
	var params []Param
	add := func(role spec.Role, parts []int64, shape ...int64) {
		n := int64(1)
		for _, size := range shape {
			n *= size
		}
		values := make([]float64, n)
		for i := range values {
			values[i] = random.NormFloat64()
		}
		params = append(params, Param{
			Tensor: newParam(t, dtype, values, shape...), Name: fmt.Sprint("p", len(params)), Role: role, Parts: parts, PartsDim: len(shape) - 1,
		})
	}
	const d = 8
	add(spec.Embedding, nil, 20, d)
	for range layers {
		add(spec.Vector, nil, d)
		add(spec.Matrix, []int64{d, d, d}, d, 3*d)
		add(spec.Vector, nil, 3*d)
		add(spec.Matrix, nil, d, d)
		add(spec.Matrix, nil, d, 4*d)
		add(spec.Matrix, nil, 4*d, d)
	}
	return params
}

// stepsOnDevice makes steps with random gradients, with operators on lists of tensors or on one
// at a time, and returns what the device did in the last one and the parameters and state
// after it.
func stepsOnDevice(t *testing.T, kind *spec.Kind, values setting.Values, dtype gotch.DType, layers, steps int, lists bool) (torchtest.Counts, [][]float64) {
	placed = cuda
	defer func() { placed = gotch.CPU }()
	params := transformerParams(t, dtype, layers)
	groups, err := Groups(kind, values, params)
	if err != nil {
		t.Fatal(err)
	}
	opt := newOptimizer(t, kind, groups, values)
	opt.(*optimizer).machine.lists = lists
	random := rand.New(rand.NewPCG(3, 4))
	var counts torchtest.Counts
	for range steps {
		for _, p := range params {
			gradient := make([]float64, torch.Count(p.Tensor))
			for i := range gradient {
				gradient[i] = random.NormFloat64()
			}
			setGrad(t, p.Tensor, gradient)
		}
		opt.MeasureLength(true)
		counts, _ = torchtest.Count(func() {
			if err := opt.Predict(); err != nil {
				t.Fatal(err)
			}
			if _, err := opt.Update(Measurement{Loss: 2, MeanSquare: 5}); err != nil {
				t.Fatal(err)
			}
		})
	}
	var after [][]float64
	for _, p := range params {
		after = append(after, valuesOf(t, p.Tensor))
	}
	state := stateOf(t, opt)
	for _, key := range slicesSorted(state.Tensors) {
		after = append(after, valuesOf(t, state.Tensors[key]))
	}
	for _, key := range slicesSorted(state.Scalars) {
		after = append(after, []float64{state.Scalars[key]})
	}
	return counts, after
}

// perMatrix are the kinds whose step has products of matrices, or numbers of one tensor that
// scale it, which are operators for each tensor.
var perMatrix = []*spec.Kind{spec.Muon, spec.KoalaK, spec.SOAP, spec.Adafactor}

// On a device a step runs as many operators for a model with many tensors as for one with few,
// and never more than one tensor at a time would need.
func TestLaunches(t *testing.T) {
	table := []string{fmt.Sprintf("%-30s %20s %20s", "", "one at a time", "on lists"), fmt.Sprintf("%-30s %9s %10s %9s %10s", "optimizer", "2 layers", "12 layers", "2 layers", "12 layers")}
	check := func(name string, kind *spec.Kind, values setting.Values) {
		var launches [4]int64
		for i := range launches {
			c, _ := stepsOnDevice(t, kind, values, gotch.Float, 2+10*(i%2), 3, i >= 2)
			if launches[i] = c.Launches; launches[i] == 0 {
				t.Skip("a GPU does not count")
			}
		}
		table = append(table, fmt.Sprintf("%-30s %9d %10d %9d %10d", name, launches[0], launches[1], launches[2], launches[3]))
		if launches[3] != launches[2] && !slices.Contains(perMatrix, kind) {
			t.Errorf("%s: a step runs %d operators for 12 layers and %d for 2", name, launches[3], launches[2])
		}
		if 2*launches[3] > launches[1] {
			t.Errorf("%s: a step runs %d operators on lists, %d one at a time", name, launches[3], launches[1])
		}
	}
	for _, kind := range spec.Kinds() {
		values := setting.Values{"weight_decay": 0.1, "clip": 1.0}
		check(kind.Name, kind, values)
		if kind.Has("average") {
			check(kind.Name+", average", kind, with(values, "average", "exponential"))
		}
	}
	t.Log("operators a step:\n" + strings.Join(table, "\n"))
}

// Operators on lists give the bits of operators on one tensor at a time, parameters and state.
func TestListsGiveTheSameBits(t *testing.T) {
	for _, kind := range spec.Kinds() {
		for _, dtype := range []gotch.DType{gotch.Float, gotch.Double} {
			t.Run(fmt.Sprint(kind.Name, " ", dtype), func(t *testing.T) {
				values := setting.Values{"weight_decay": 0.1, "clip": 1.0}
				if kind.Has("average") {
					values["average"] = "uniform"
				}
				const steps = 12 // SOAP's bases are made again in the tenth
				counts, want := stepsOnDevice(t, kind, values, dtype, 2, steps, false)
				_, got := stepsOnDevice(t, kind, values, dtype, 2, steps, true)
				tolerance := 0.0
				if counts.Launches == 0 {
					tolerance = 1e-5 // a GPU has other kernels for lists
				}
				if len(got) != len(want) || len(want) <= 13 {
					t.Fatalf("%d and %d tensors and numbers", len(got), len(want))
				}
				for i := range want {
					if e := worst(got[i], want[i], 1e-3); e > tolerance {
						t.Fatalf("tensor %d differs by %g: %v, not %v", i, e, got[i][:min(4, len(got[i]))], want[i][:min(4, len(want[i]))])
					}
				}
			})
		}
	}
}
