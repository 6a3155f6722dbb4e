package koala

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// copyOf returns a state that outlives its optimizer, like a checkpoint.
func copyOf(t testing.TB, s State) State {
	t.Helper()
	c := State{Kind: s.Kind, Scalars: maps.Clone(s.Scalars), Ints: maps.Clone(s.Ints), Tensors: map[string]*ts.Tensor{}}
	err := torch.Do(func(scope *torch.Scope) error {
		for key, tensor := range s.Tensors {
			c.Tensors[key] = scope.Keep(scope.Clone(tensor))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, tensor := range c.Tensors {
			_ = tensor.Drop()
		}
	})
	return c
}

// optionsFor are values with which the kind uses all of its state.
func optionsFor(kind *spec.Kind) setting.Values {
	o := defaults(kind)
	for key, value := range map[string]any{
		"momentum": 0.9, "nesterov": true, "centered": true, "precondition_frequency": 3, "average_from": 2,
	} {
		if kind.Has(key) {
			o[key] = value
		}
	}
	return o
}

// A run that continues from a saved state ends with the same bits as an
// uninterrupted one, even if the state was saved between Predict and Update.
func TestStateRestoresBitForBit(t *testing.T) {
	for _, kind := range spec.Kinds() {
		for _, between := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/between=%v", kind.Name, between), func(t *testing.T) {
				values := optionsFor(kind)
				if between && !kind.Averages {
					values["average"], values["average_memory"], values["average_start"] = "exponential", 0.6, 1
				}
				through := newRig(t, kind, gotch.Float, values, 5e-4)
				through.opt.SetLR(0.5)
				skip := hazards["one zero"] // leaves a tensor's state behind the others'
				bad := hazards["loss NaN"]
				through.step(t, 0, nil)
				through.step(t, 1, &skip)
				through.step(t, 2, &bad)
				through.step(t, 3, nil)
				if between {
					if err := through.opt.Predict(); err != nil {
						t.Fatal(err)
					}
				}
				saved := copyOf(t, stateOf(t, through.opt))

				resumed := newRig(t, kind, gotch.Float, values, 5e-4)
				err := torch.Do(func(s *torch.Scope) error {
					s.NoGrad(func() {
						for i, p := range resumed.params {
							s.CopyInto(p, through.params[i])
						}
					})
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := resumed.opt.Restore(saved); err != nil {
					t.Fatal(err)
				}
				for k := 4; k < 8; k++ {
					for _, r := range []*rig{through, resumed} {
						if k == 4 && between {
							r.update(t, k, nil)
						} else {
							r.step(t, k, nil)
						}
					}
				}
				if d := cmp.Diff(through.snapshot(t), resumed.snapshot(t)); d != "" {
					t.Errorf("-uninterrupted +resumed:\n%s", d)
				}
			})
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	r := newRig(t, spec.KoalaM, gotch.Float, defaults(spec.KoalaM), 0)
	r.step(t, 0, nil)
	good := copyOf(t, stateOf(t, r.opt))
	before := r.snapshot(t)
	for name, c := range map[string]struct {
		change func(s *State)
		want   string
	}{
		"kind":           {func(s *State) { s.Kind = spec.KoalaV.Name }, `koala-m: restore: the state belongs to optimizer "koala-v"`},
		"missing scalar": {func(s *State) { delete(s.Scalars, "p00") }, `koala-m: restore: scalar "p00" is missing`},
		"NaN":            {func(s *State) { s.Scalars["qw"] = math.NaN() }, `koala-m: restore: scalar "qw" is NaN: expected a number not below 0`},
		"zero":           {func(s *State) { s.Scalars["p00"] = 0 }, `koala-m: restore: scalar "p00" is 0: expected a number above 0`},
		"indefinite":     {func(s *State) { s.Scalars["p01"] = 1e6 }, `koala-m: restore: p01 is 1e+06: expected p01^2 <= p00 p11 = `},
		"phase":          {func(s *State) { s.Ints["predicted"] = 2 }, `koala-m: restore: integer "predicted" is 2: expected one from 0 to 1`},
		"missing int":    {func(s *State) { delete(s.Ints, "predicted") }, `koala-m: restore: integer "predicted" is missing`},
		"missing tensor": {func(s *State) { delete(s.Tensors, "velocity.p1") }, `koala-m: restore: tensor "velocity.p1" is missing`},
		"shape":          {func(s *State) { s.Tensors["velocity.p1"] = s.Tensors["velocity.p0"] }, `koala-m: restore: tensor "velocity.p1" is float32[3, 4]: expected float32[4]`},
		"nil":            {func(s *State) { s.Tensors["velocity.p1"] = nil }, `koala-m: restore: tensor "velocity.p1" is nil: expected float32[4]`},
		"not finite": {func(s *State) {
			s.Tensors["velocity.p1"] = newParam(t, gotch.Float, []float64{0, math.Inf(1), 0, 0}, 4)
		}, `koala-m: restore: a tensor of parameter p1 holds a number that is not finite`},
		"another's": {func(s *State) { s.Tensors["velocity.w"] = s.Tensors["velocity.p0"] }, `koala-m: restore: "velocity.w" belongs to no parameter or setting of this optimizer`},
		"empty":     {func(s *State) { *s = State{Kind: spec.KoalaM.Name} }, `koala-m: restore: scalar "p00" is missing; scalar "p01" is missing; scalar "p11" is missing; scalar "qw" is missing; scalar "velocity_factor" is missing; and 12 more`},
	} {
		t.Run(name, func(t *testing.T) {
			s := State{Kind: good.Kind, Scalars: maps.Clone(good.Scalars), Ints: maps.Clone(good.Ints), Tensors: maps.Clone(good.Tensors)}
			c.change(&s)
			err := r.opt.Restore(s)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("error\n%v\nwant\n%s", err, c.want)
			}
			if d := cmp.Diff(before, r.snapshot(t)); d != "" {
				t.Errorf("the refused state changed something:\n%s", d)
			}
		})
	}
}

// FuzzRestore passes states of arbitrary numbers and keys to Restore. Restore must
// refuse a state, or the following steps must stay finite.
func FuzzRestore(f *testing.F) {
	f.Add(0, "p0", 0.1, 0.0, 1.0, int64(0))
	f.Add(1, "p0", 0.1, -0.05, 2.0, int64(1))
	f.Add(2, "p9", 1e-300, 1e300, 0.0, int64(-1))
	f.Add(7, "", math.NaN(), math.Inf(1), -1.0, int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, which int, name string, x, y, z float64, n int64) {
		kinds := spec.Kinds()
		kind := kinds[((which%len(kinds))+len(kinds))%len(kinds)]
		p := newParam(t, gotch.Double, []float64{1, 2, 3}, 3)
		opt := newOptimizer(t, kind, []Group{{Params: Params(p)}}, optionsFor(kind))
		s := copyOf(t, stateOf(t, opt))
		values := []float64{x, y, z}
		i := 0
		for _, key := range slicesSorted(s.Scalars) {
			if v := values[i%3]; v != 0 { // 0 leaves a key as it is
				s.Scalars[key] = v
			}
			i++
		}
		for key := range s.Ints {
			s.Ints[key] = n
		}
		if name != "p0" {
			s.Scalars[name] = x
		}
		before := copyOf(t, stateOf(t, opt))
		if err := opt.Restore(s); err != nil {
			if d := cmp.Diff(before.Scalars, stateOf(t, opt).Scalars); d != "" {
				t.Errorf("the refused state changed something:\n%s", d)
			}
			return
		}
		setGrad(t, p, []float64{1, -1, 1})
		if s.Ints["predicted"] == 0 {
			if err := opt.Predict(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := opt.Update(Measurement{Loss: 1, MeanSquare: 1}); err != nil && !errors.Is(err, ErrPhase) {
			t.Fatal(err)
		}
		for _, v := range valuesOf(t, p) {
			if !finite(v) {
				t.Errorf("a parameter is %v after a step from %v %v", v, s.Scalars, s.Ints)
			}
		}
	})
}
