package lm

import (
	"math"
	"testing"

	"github.com/koala-lm/koala-lm/lm/spec"
)

func TestScheduleFactors(t *testing.T) {
	tests := map[string]struct {
		config spec.Schedule
		want   map[int64]float64
	}{
		"constant":     {spec.Schedule{Kind: "constant"}, map[int64]float64{0: 1, 999: 1}},
		"warmup":       {spec.Schedule{Kind: "constant", Warmup: 4}, map[int64]float64{0: 0.25, 3: 1, 4: 1}},
		"step":         {spec.Schedule{Kind: "step", Every: 10, Gamma: 0.5}, map[int64]float64{9: 1, 10: 0.5, 29: 0.25}},
		"cosine":       {spec.Schedule{Kind: "cosine", Steps: 100, Floor: 0.1}, map[int64]float64{0: 1, 50: 0.55, 100: 0.1, 500: 0.1}},
		"linear":       {spec.Schedule{Kind: "linear", Warmup: 10, Steps: 110}, map[int64]float64{10: 1, 60: 0.5, 110: 0}},
		"trapezoidal":  {spec.Schedule{Kind: "trapezoidal", Warmup: 10, Steps: 100, Decay: 0.2}, map[int64]float64{0: 0.1, 10: 1, 80: 1, 90: 0.5, 100: 0, 500: 0}},
		"inverse-sqrt": {spec.Schedule{Kind: "inverse-sqrt", Warmup: 4}, map[int64]float64{3: 1, 4: 1, 16: 0.5, 64: 0.25}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := NewSchedule(test.config, 0)
			if err != nil {
				t.Fatal(err)
			}
			for step, want := range test.want {
				if got := s.Factor(step); math.Abs(got-want) > 1e-12 {
					t.Errorf("step %d: factor %g, want %g", step, got, want)
				}
			}
		})
	}
}

func TestPlateauDividesWithoutANewBest(t *testing.T) {
	s, err := NewSchedule(spec.Schedule{Kind: "plateau", Gamma: 0.25, Patience: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := 1.0
	for i, best := range []bool{true, false, true, false, false, false, false} {
		s.Evaluated(best)
		if i == 4 || i == 6 {
			want /= 4
		}
		if got := s.Factor(0); got != want {
			t.Errorf("after evaluation %d: factor %g, want %g", i, got, want)
		}
	}
}

func TestSchedulesThatCannotBe(t *testing.T) {
	for _, c := range []spec.Schedule{{Kind: "cosine"}, {Kind: "step"}, {Kind: "nonsense"}, {Kind: "linear", Warmup: 10, Steps: 10}} {
		if _, err := NewSchedule(c, 0); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

func TestRangeTest(t *testing.T) {
	r := RangeTest{Lowest: 0.01, Highest: 100, Steps: 5}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	for step, want := range map[int64]float64{0: 0.01, 2: 1, 3: 10, 4: 100, 9: 100} {
		if got := r.Factor(step); math.Abs(got-want) > 1e-12*want {
			t.Errorf("step %d: factor %g, want %g", step, got, want)
		}
	}
	for _, r := range []RangeTest{{}, {Lowest: 1, Highest: 1, Steps: 5}, {Lowest: 0.1, Highest: 1, Steps: 1}} {
		if r.Check() == nil {
			t.Errorf("%+v: no error", r)
		}
	}
}
