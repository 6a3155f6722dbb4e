package tracking

import (
	"math"
	"testing"
)

func TestResult(t *testing.T) {
	nan := math.NaN()
	for name, test := range map[string]struct {
		status       Status
		reason       string
		logged       bool
		last, best   float64
		want         Outcome
		wantBest     float64
		wantNoResult bool
	}{
		"finished":                         {Finished, "", true, 120, 110, Reached, 110, false},
		"running":                          {Running, "", true, 120, 110, Reached, 110, false},
		"interrupted":                      {Interrupted, "", true, 120, 110, Reached, 110, false},
		"finished with NaN":                {Finished, "", true, nan, 110, Diverged, nan, true},
		"finished with infinity":           {Finished, "", true, math.Inf(1), nan, Diverged, nan, true},
		"stopped because it diverged":      {Failed, "training diverged: the loss", true, 120, 110, Diverged, nan, true},
		"diverged before any evaluation":   {Failed, "training diverged: the loss", false, 0, 0, Diverged, nan, true},
		"failed":                           {Failed, "the disk is full", true, 120, 110, Broken, 110, false},
		"crashed":                          {Crashed, "", true, 120, 110, Broken, 110, false},
		"crashed before any evaluation":    {Crashed, "", false, 0, 0, Broken, nan, true},
		"running before any evaluation":    {Running, "", false, 0, 0, NoneSoFar, nan, true},
		"finished without any evaluation":  {Finished, "", false, 0, 0, NoneSoFar, nan, true},
		"finished, an infinity on the way": {Finished, "", true, 90, 80, Reached, 80, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := NewResult(test.status, test.reason, test.logged, test.last, test.best)
			if got.Outcome != test.want || math.IsNaN(got.Best) != test.wantNoResult || !test.wantNoResult && got.Best != test.wantBest {
				t.Errorf("%+v, want %s %v", got, test.want, test.wantBest)
			}
		})
	}
}
