package koala

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

var oracleDir = flag.String("oracle", "testdata/oracle", "folder of recorded trajectories of the published implementations")

// oracleHyper are a recording's settings, named as its authors name them.
type oracleHyper struct {
	LR          float64  `json:"lr"`
	WeightDecay float64  `json:"weight_decay"`
	Sigma       float64  `json:"sigma"`
	Q           float64  `json:"q"`
	R           *float64 `json:"r"`
	AlphaR      float64  `json:"alpha_r"`
	SW          float64  `json:"sw"`
	SC          float64  `json:"sc"`
	SV          float64  `json:"sv"`
	A           float64  `json:"a"`
	QW          float64  `json:"qw"`
	QV          float64  `json:"qv"`
	Momentum    float64  `json:"momentum"`
	Nesterov    bool     `json:"nesterov"`

	Betas []float64 `json:"betas"`
	Eps   *float64  `json:"eps"`
}

type oracleScalars struct {
	Sigma *float64   `json:"sigma"`
	R     *float64   `json:"R"`
	P     []float64  `json:"P"`
	QW    *float64   `json:"qw"`
	S     []*float64 `json:"S"`
}

type oracleStep struct {
	Loss       float64       `json:"loss"`
	LossVar    float64       `json:"loss_var"`
	Predict    oracleScalars `json:"predict"`
	ParamsPred [][]float64   `json:"params_pred"`
	Update     oracleScalars `json:"update"`
	Params     [][]float64   `json:"params"`
	V          [][]float64   `json:"v"`
	Avg        [][]float64   `json:"avg"`
	Grads      [][]float64   `json:"grads"`
}

type oracleCase struct {
	Variant    string       `json:"variant"`
	DType      string       `json:"dtype"`
	Inputs     string       `json:"inputs"`
	Label      string       `json:"label"`
	Hyper      oracleHyper  `json:"hyper"`
	LRSchedule []float64    `json:"lr_schedule"`
	GroupLRs   []float64    `json:"group_lrs"`
	Override   any          `json:"loss_var_override"` // one number for all steps, or one a step
	Steps      []oracleStep `json:"steps"`
	FinalLoss  float64      `json:"final_full_data_loss"`
}

type oracleInputs struct {
	Shapes [][]int64   `json:"shapes"`
	Init   [][]float64 `json:"init"`
	Sets   map[string][]struct {
		Loss    float64     `json:"loss"`
		LossVar float64     `json:"loss_var"`
		Grads   [][]float64 `json:"grads"`
	} `json:"sets"`
}

func (c oracleCase) name(i int) string {
	name := fmt.Sprintf("%s/%s/%s/wd=%v,lr=%v/%d", c.Variant, c.DType, c.Inputs, c.Hyper.WeightDecay, c.Hyper.LR, i)
	if c.Label != "" {
		name += "/" + c.Label
	}
	return name
}

func (c oracleCase) dtype() gotch.DType {
	if c.DType == "float64" {
		return gotch.Double
	}
	return gotch.Float
}

// kind returns the optimizer of a recording.
func (c oracleCase) kind(t *testing.T) (*spec.Kind, setting.Values) {
	kinds := map[string]*spec.Kind{
		"V": spec.KoalaV, "M": spec.KoalaM, "PP_sym": spec.KoalaPP, "PP_asym": spec.KoalaPP, "PP_lm": spec.KoalaPP,
		"sgd": spec.SGD, "adam": spec.Adam, "adamw": spec.AdamW,
	}
	kind, ok := kinds[c.Variant]
	if !ok {
		t.Fatalf("unknown variant %q", c.Variant)
	}
	h := c.Hyper
	o := defaults(kind)
	given := setting.Values{"lr": h.LR, "momentum": h.Momentum, "nesterov": h.Nesterov}
	if len(h.Betas) == 2 {
		given["beta1"], given["beta2"] = h.Betas[0], h.Betas[1]
	}
	if h.Eps != nil {
		given["eps"] = *h.Eps
	}
	if kind.Filter {
		maps.Copy(given, setting.Values{
			"sigma": h.Sigma, "q": h.Q, "alpha_r": h.AlphaR, "sw": h.SW, "sc": h.SC, "sv": h.SV, "a": h.A, "qw": h.QW, "qv": h.QV,
			"symmetric": c.Variant == "PP_sym",
		})
		if h.R != nil {
			given["r"] = *h.R
		}
	}
	for key, v := range given {
		if kind.Has(key) {
			o[key] = v
		}
	}
	return kind, o
}

// tolerances for parameters (and state of their shape) and for the filter's own
// numbers, relative above the floor.
type tolerances struct{ params, scalars, floor float64 }

func (c oracleCase) tolerances(rounded bool) tolerances {
	switch {
	case c.DType == "float32":
		return tolerances{5e-6, 2e-5, 1}
	case c.Variant == "M" && !rounded:
		return tolerances{1e-6, 1e-6, 1}
	}
	return tolerances{1e-12, 1e-12, 1e-3}
}

// readOracle decodes a file of the oracle; false where there is none.
func readOracle(t *testing.T, path string, into any) bool {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return true
}

// TestOracle runs every recorded trajectory. With -args -oracle DIR it runs the
// trajectories in another folder of the same format.
func TestOracle(t *testing.T) {
	ran := 0
	var inputs oracleInputs
	if readOracle(t, filepath.Join(*oracleDir, "inputs.json"), &inputs) {
		files, err := filepath.Glob(filepath.Join(*oracleDir, "traj_*.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			var f struct{ Cases []oracleCase }
			readOracle(t, file, &f)
			for i, c := range f.Cases {
				ran++
				t.Run(c.name(i), func(t *testing.T) {
					forms(t, func(t *testing.T, operators bool) {
						c.replay(t, inputs, operators, true)
						if c.Variant == "M" {
							c.replay(t, inputs, operators, false)
						}
					})
				})
			}
		}
	}
	ran += runSoftmax(t, filepath.Join(*oracleDir, "softmax.json"))
	if ran == 0 {
		t.Fatalf("%s holds no recorded cases", *oracleDir)
	}
}

// replay feeds a recording's inputs to the optimizer and compares each step.
func (c oracleCase) replay(t *testing.T, inputs oracleInputs, operators, rounded bool) {
	kind, o := c.kind(t)
	if c.Variant == "M" {
		o["float32_scalars"] = rounded
	}
	tol := c.tolerances(rounded)
	params := make([]*ts.Tensor, len(inputs.Shapes))
	for i, shape := range inputs.Shapes {
		params[i] = newParam(t, c.dtype(), inputs.Init[i], shape...)
	}
	groups := []Group{{Params: Params(params...), WeightDecay: c.Hyper.WeightDecay}}
	if len(c.GroupLRs) == 2 {
		o["lr"] = 1
		groups = []Group{
			{Params: Params(params[:1]...), LR: c.GroupLRs[0], WeightDecay: c.Hyper.WeightDecay},
			{Params: Params(params[1:]...), LR: c.GroupLRs[1], WeightDecay: c.Hyper.WeightDecay},
		}
	}
	opt := newOptimizer(t, kind, groups, o)
	useOperators(opt, operators)
	set, ok := inputs.Sets[c.Inputs]
	if !ok || len(set) < len(c.Steps) {
		t.Fatalf("input set %q has %d steps, the recording %d", c.Inputs, len(set), len(c.Steps))
	}
	for k, want := range c.Steps {
		in := set[k]
		if err := opt.Predict(); err != nil {
			t.Fatal(err)
		}
		compareScalars(t, opt, k, "predict", want.Predict, tol)
		compareAll(t, k, "predicted parameters", params, want.ParamsPred, tol)
		if len(c.LRSchedule) > 0 {
			opt.SetLR(c.LRSchedule[k] / o.Float("lr"))
		}
		for i, p := range params {
			setGrad(t, p, in.Grads[i])
		}
		meanSquare := in.LossVar
		switch v := c.Override.(type) {
		case float64:
			meanSquare = v
		case []any:
			meanSquare = v[k].(float64)
		}
		if _, err := opt.Update(Measurement{Loss: in.Loss, MeanSquare: meanSquare}); err != nil {
			t.Fatal(err)
		}
		compareScalars(t, opt, k, "update", want.Update, tol)
		compareAll(t, k, "parameters", params, want.Params, tol)
		compareState(t, opt, k, "velocity", want.V, tol)
		compareState(t, opt, k, "covariance", want.V, tol)
		compareState(t, opt, k, "average", want.Avg, tol)
		if t.Failed() {
			return
		}
	}
}

func compareAll(t *testing.T, step int, what string, got []*ts.Tensor, want [][]float64, tol tolerances) {
	t.Helper()
	for i := range want {
		if e := worst(valuesOf(t, got[i]), want[i], tol.floor); e > tol.params {
			t.Errorf("step %d: %s of tensor %d are off by %.2g, tolerance %.2g", step, what, i, e, tol.params)
		}
	}
}

// compareState compares the state tensors of that name, if the optimizer has them. A
// recorded null is a tensor that was never updated.
func compareState(t *testing.T, opt Optimizer, step int, name string, want [][]float64, tol tolerances) {
	t.Helper()
	state := stateOf(t, opt)
	for i := range want {
		tensor := state.Tensors[fmt.Sprintf("%s.p%d", name, i)]
		if tensor == nil || want[i] == nil {
			continue
		}
		if e := worst(valuesOf(t, tensor), want[i], tol.floor); e > tol.params {
			t.Errorf("step %d: %s of tensor %d is off by %.2g, tolerance %.2g", step, name, i, e, tol.params)
		}
	}
}

func compareScalars(t *testing.T, opt Optimizer, step int, phase string, want oracleScalars, tol tolerances) {
	t.Helper()
	state := stateOf(t, opt).Scalars
	check := func(name string, got, want float64) {
		t.Helper()
		if e := worst([]float64{got}, []float64{want}, tol.floor); e > tol.scalars {
			t.Errorf("step %d: %s after %s is %v, recorded %v: off by %.2g, tolerance %.2g", step, name, phase, got, want, e, tol.scalars)
		}
	}
	if want.Sigma != nil {
		check("sigma", state["sigma"], *want.Sigma)
	}
	if want.R != nil {
		check("R", state["r"], *want.R)
	}
	if want.QW != nil {
		check("qw", state["qw"], *want.QW)
	}
	if want.P != nil {
		check("P00", state["p00"], want.P[0])
		check("P01", state["p01"], want.P[1])
		check("P11", state["p11"], want.P[3])
	}
	for i, s := range want.S {
		if s != nil {
			check(fmt.Sprintf("S of tensor %d", i), state[fmt.Sprintf("s.p%d", i)], *s)
		}
	}
}
