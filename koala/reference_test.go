package koala

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// A reference is the recorded trajectories of a public implementation
// (testdata/reference/README.md).
type reference struct {
	Kind  string
	Cases []referenceCase
}

type referenceCase struct {
	Hyper     map[string]any
	DType     string
	Set       string
	Note      string
	Tensors   []int
	LRFactors []float64 `json:"lr_factors"`
	Scale     float64   `json:"gradient_scale"` // 1 if it is not there
	At        []int
	Params    [][][]float64
	Average   [][][]float64
	Scalars   []map[string]float64
}

type referenceInputs struct {
	Tensors []struct {
		Name     string
		Role     spec.Role
		Shape    []int64
		Matrices int64
	}
	Init [][]float64
	Sets map[string][]struct {
		Loss       float64
		MeanSquare float64 `json:"mean_square"`
		Grads      [][]float64
	}
}

func (c referenceCase) name(i int) string { return fmt.Sprintf("%s/%s/%d", c.DType, c.Set, i) }

// values converts the case's settings from the implementation's names to the kind's:
// settings of the same name, and betas.
func (c referenceCase) values(kind *spec.Kind) setting.Values {
	v := setting.Values{"clip": 0}
	for key, value := range c.Hyper {
		if kind.Has(key) && value != nil && key != "weight_decay" {
			if whole, ok := value.(float64); ok && isWhole(kind, key) {
				value = int64(whole)
			}
			v[key] = value
		}
	}
	if betas, ok := c.Hyper["betas"].([]any); ok {
		v["beta1"], v["beta2"] = betas[0], betas[1]
	}
	return v
}

func isWhole(kind *spec.Kind, key string) bool {
	for _, d := range kind.Hyper {
		if _, whole := d.Domain.Accept(int64(2)); d.Key == key && whole {
			_, real := d.Domain.Accept(0.5)
			return !real
		}
	}
	return false
}

// A replay runs a reference's cases; the functions are optional.
type replay struct {
	skip   func(c referenceCase) bool
	values func(c referenceCase, v setting.Values)
	param  func(c referenceCase, p *Param)
	check  func(t *testing.T, c referenceCase, at int, opt Optimizer)

	tolerance func(c referenceCase) float64 // of cases that want another one; 0 for others

	least int // cases that must be compared; 0 for 6
}

// run compares the kind with its reference in both forms.
func (r replay) run(t *testing.T, kind *spec.Kind) {
	t.Helper()
	var inputs referenceInputs
	var ref reference
	if !readOracle(t, "testdata/reference/inputs.json", &inputs) || !readOracle(t, filepath.Join("testdata/reference", kind.Name+".json"), &ref) {
		t.Fatalf("there is no reference of %s", kind)
	}
	ran := 0
	for i, c := range ref.Cases {
		if r.skip != nil && r.skip(c) {
			continue
		}
		ran++
		t.Run(c.name(i), func(t *testing.T) {
			forms(t, func(t *testing.T, operators bool) { r.replay(t, kind, inputs, c, operators) })
		})
	}
	if least := cmp.Or(r.least, 6); ran < least {
		t.Errorf("only %d cases were compared", ran)
	}
}

func (r replay) replay(t *testing.T, kind *spec.Kind, inputs referenceInputs, c referenceCase, operators bool) {
	dtype, tolerance := gotch.Double, 1e-12
	if c.DType == "float32" {
		dtype, tolerance = gotch.Float, 5e-6
	}
	if r.tolerance != nil {
		tolerance = cmp.Or(r.tolerance(c), tolerance)
	}
	var params []Param
	for _, i := range c.Tensors {
		in := inputs.Tensors[i]
		p := Param{Name: in.Name, Role: in.Role, Tensor: newParam(t, dtype, inputs.Init[i], in.Shape...)}
		for range in.Matrices {
			p.Parts = append(p.Parts, in.Shape[0]/in.Matrices)
		}
		if r.param != nil {
			r.param(c, &p)
		}
		params = append(params, p)
	}
	v := c.values(kind)
	if r.values != nil {
		r.values(c, v)
	}
	decay, _ := c.Hyper["weight_decay"].(float64)
	opt := newOptimizer(t, kind, []Group{{Params: params, WeightDecay: decay}}, v)
	useOperators(opt, operators)
	recorded := 0
	for k, in := range inputs.Sets[c.Set] {
		if len(c.LRFactors) > 0 {
			opt.SetLR(c.LRFactors[k])
		}
		if err := opt.Predict(); err != nil {
			t.Fatal(err)
		}
		for j, i := range c.Tensors {
			setGrad(t, params[j].Tensor, scaled(in.Grads[i], cmp.Or(c.Scale, 1)))
		}
		info, err := opt.Update(Measurement{Loss: in.Loss, MeanSquare: in.MeanSquare})
		if err != nil || info.NonFinite {
			t.Fatalf("step %d: %+v, %v", k+1, info, err)
		}
		if recorded == len(c.At) || c.At[recorded] != k+1 {
			continue
		}
		compareReference(t, params, c.Params[recorded], fmt.Sprintf("after %d steps", k+1), tolerance)
		if c.Average != nil {
			if err := opt.Swap(); err != nil {
				t.Fatal(err)
			}
			compareReference(t, params, c.Average[recorded], fmt.Sprintf("average after %d steps", k+1), tolerance)
			if err := opt.Swap(); err != nil {
				t.Fatal(err)
			}
		}
		if r.check != nil {
			r.check(t, c, recorded, opt)
		}
		recorded++
	}
	if recorded != len(c.At) {
		t.Errorf("%d of %d records were compared", recorded, len(c.At))
	}
}

func compareReference(t *testing.T, params []Param, want [][]float64, when string, tolerance float64) {
	t.Helper()
	for j, p := range params {
		got := valuesOf(t, p.Tensor)
		for k := range got {
			if e := math.Abs(got[k] - want[j][k]); !(e <= tolerance) {
				t.Errorf("%s: %s[%d] is %v, recorded %v: off by %.2g", when, p.Name, k, got[k], want[j][k], e)
				break
			}
		}
	}
}

func scaled(values []float64, by float64) []float64 {
	values = slices.Clone(values)
	for i := range values {
		values[i] *= by
	}
	return values
}
