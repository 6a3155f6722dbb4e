package lm

import (
	"math"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/torch"
)

func TestDropoutMasks(t *testing.T) {
	const steps, batch, width, p = 6, 50, 40, 0.3
	err := torch.Do(func(s *torch.Scope) error {
		if err := torch.Seed(1, 0, 0); err != nil {
			return err
		}
		x := s.Ones([]int64{steps, batch, width}, gotch.Float, gotch.CPU)
		for _, locked := range []bool{false, true} {
			y := torch.ToSlice[float64](s, drop(s, x, p, locked))
			zeros, same := 0, 0
			for i, v := range y {
				if v == 0 {
					zeros++
				} else if math.Abs(v-1/(1-p)) > 1e-6 {
					t.Fatalf("locked %v: element %g, want 0 or %g", locked, v, 1/(1-p))
				}
				if v == y[i%(batch*width)] {
					same++
				}
			}
			if locked != (same == len(y)) {
				t.Errorf("locked %v: %d of %d elements have the mask of the first time step", locked, same, len(y))
			}
			// Independent masks: n draws, three deviations.
			draws := float64(len(y))
			if locked {
				draws = batch * width
			}
			if share := float64(zeros) / float64(len(y)); math.Abs(share-p) > 3*math.Sqrt(p*(1-p)/draws) {
				t.Errorf("locked %v: %.4f of the elements are zero, want about %.2f", locked, share, p)
			}
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDropRowsDropsWholeWords(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		if err := torch.Seed(1, 0, 0); err != nil {
			return err
		}
		const rows, width = 400, 3
		w := torch.ToSlice[float64](s, dropRows(s, s.Ones([]int64{rows, width}, gotch.Float, gotch.CPU), 0.5))
		dropped := 0
		for r := range rows {
			if w[r*width] == 0 {
				dropped++
			}
			for c := range width {
				if w[r*width+c] != w[r*width] {
					t.Fatalf("row %d is dropped in part", r)
				}
			}
		}
		if dropped < 160 || dropped > 240 {
			t.Errorf("%d of %d rows dropped, want about half", dropped, rows)
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}
