package koala

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch/torchtest"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// A step holds as many numbers beside the state as its kind declares, by libtorch's allocator.
func TestTemporary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, kind := range spec.Kinds() {
		for _, shape := range []struct {
			role  spec.Role
			sizes []int64
		}{{spec.Matrix, []int64{200, 300}}, {spec.Embedding, []int64{400, 50}}, {spec.Vector, []int64{60_000}}} {
			for _, average := range []string{"none", "uniform"} {
				values := setting.Values{"weight_decay": 0.1, "clip": 1.0}
				if kind.Has("average") {
					values["average"] = average
				} else if average != "none" {
					continue
				}
				t.Run(fmt.Sprint(kind.Name, " ", shape.role, " ", average), func(t *testing.T) {
					n := int64(1)
					for _, size := range shape.sizes {
						n *= size
					}
					numbers := func() []float64 {
						v := make([]float64, n)
						for i := range v {
							v[i] = random.NormFloat64()
						}
						return v
					}
					p := Param{Tensor: newParam(t, gotch.Float, numbers(), shape.sizes...), Role: shape.role}
					groups, err := Groups(kind, values, []Param{p})
					if err != nil {
						t.Fatal(err)
					}
					opt := newOptimizer(t, kind, groups, values)
					var peaks []int64
					for range 12 {
						setGrad(t, p.Tensor, numbers())
						c, counted := torchtest.Count(func() {
							if err := opt.Predict(); err != nil {
								t.Fatal(err)
							}
							if _, err := opt.Update(Measurement{Loss: 2, MeanSquare: 5}); err != nil {
								t.Fatal(err)
							}
						})
						if !counted {
							t.Skip("only the test device counts")
						}
						peaks = append(peaks, c.HostPeak)
					}
					_, said, err := kind.StateElements(values, []*spec.Param{spec.OfShape(shape.role, shape.sizes, nil, 0)})
					if err != nil {
						t.Fatal(err)
					}
					said *= 4
					// The first step may make state. Sums take a few bytes.
					if most := slices.Max(peaks[1:]); most > said+said/10+16<<10 || most < said*7/10 {
						t.Errorf("a step holds %d bytes, %.2f copies, not %d", most, float64(most)/float64(4*n), said)
					}
				})
			}
		}
	}
}
