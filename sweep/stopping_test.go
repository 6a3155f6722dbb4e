package sweep

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

func curve(values ...float64) []evaluation {
	list := make([]evaluation, len(values))
	for i, v := range values {
		list[i] = evaluation{int64(10 * (i + 1)), v}
	}
	return list
}

func TestASHA(t *testing.T) {
	s := newStopper(StopRule{Kind: "asha", MinSteps: 10, Factor: 3}, false)
	for i, value := range []float64{50, 60} {
		s.add(fmt.Sprint(i), curve(value), false)
		if why := s.stops(fmt.Sprint(i)); why != "" {
			t.Errorf("stopped after %d values: %s", i+1, why)
		}
	}
	for i, want := range map[int]string{2: "70 is not among the best 1 of 3", 3: "", 4: "NaN is not among"} {
		s.add(fmt.Sprint(i), curve(map[int]float64{2: 70, 3: 40, 4: math.NaN()}[i]), false)
		if why := s.stops(fmt.Sprint(i)); i != 4 && len(s.curves) == 3 && !strings.Contains(why, want) {
			t.Errorf("trial %d: %q, want %q", i, why, want)
		}
	}
	if why := s.stops("4"); !strings.Contains(why, "NaN is not among the best 2 of 5") {
		t.Errorf("NaN: %q", why)
	}
	if why := s.stops("3"); why != "" {
		t.Errorf("the best one: %q", why)
	}
	// At the second rung, step 30, the best value up to that step counts.
	s = newStopper(StopRule{Kind: "asha", MinSteps: 10, Factor: 3}, false)
	for i, values := range [][]float64{{9, 8, 7}, {10, 9, 8}, {9, 8.5, 20}, {9, 9, 6}} {
		s.add(fmt.Sprint(i), curve(values...), false)
	}
	for i, stops := range []bool{false, true, true, false} { // the best 2 of 4
		if why := s.stops(fmt.Sprint(i)); (why != "") != stops {
			t.Errorf("trial %d: %q", i, why)
		}
	}
}

func TestMedianRule(t *testing.T) {
	s := newStopper(StopRule{Kind: "median", MinSteps: 20}, false)
	for i := range 3 {
		s.add(fmt.Sprint(i), curve(100, 50+float64(i), 40), true)
	}
	s.add("early", curve(200), false)
	s.add("bad", curve(200, 90), false)
	s.add("good", curve(200, 70), false)
	for trial, stops := range map[string]bool{"early": false, "bad": true, "good": false} {
		t.Run(trial, func(t *testing.T) {
			if why := s.stops(trial); (why != "") != stops {
				t.Errorf("%q", why)
			}
		})
	}
	s.ended["2"] = false
	if why := s.stops("bad"); why != "" {
		t.Errorf("two finished trials make no median: %q", why)
	}
}

// On synthetic curves, asha finds the same winner as the whole search with a
// fraction of the steps.
func TestASHASavesSteps(t *testing.T) {
	const trials, steps, every = 27, 270, 10
	s := newStopper(StopRule{Kind: "asha", MinSteps: 30, Factor: 3}, false)
	trained := 0
	best, winner := math.Inf(1), -1
	for i := range trials { // one after the other, as with --jobs 1
		quality := float64((i*11)%trials) / trials // each value once, in a mixed order
		var c []evaluation
		for step := int64(every); step <= steps; step += every {
			c = append(c, evaluation{step, 20 + 30*quality + 100*math.Exp(-float64(step)/60)})
			trained += every
			s.add(fmt.Sprint(i), c, step == steps)
			if s.stops(fmt.Sprint(i)) != "" {
				break
			}
		}
		if last := c[len(c)-1]; last.step == steps && last.value < best {
			best, winner = last.value, i
		}
	}
	if winner != 0 {
		t.Errorf("winner %d, want 0", winner)
	}
	if share := float64(trained) / (trials * steps); share > 0.5 {
		t.Errorf("%.0f %% of the steps of the whole search", 100*share)
	}
}
