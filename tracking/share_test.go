package tracking

import (
	"math"
	"testing"
)

func TestShare(t *testing.T) {
	for name, c := range map[string]struct {
		run  RunSummary
		want float64
	}{
		"steps":           {RunSummary{Steps: 30, Settings: map[string]any{"train.steps": int64(120), "train.epochs": int64(0), "train.time_limit": "0s"}}, 0.25},
		"epochs":          {RunSummary{Tokens: 500, TrainTokens: 1000, Settings: map[string]any{"train.steps": int64(0), "train.epochs": int64(2)}}, 0.25},
		"time":            {RunSummary{Seconds: 30, Settings: map[string]any{"train.time_limit": "2m0s"}}, 0.25},
		"nearest of two":  {RunSummary{Steps: 10, Seconds: 90, Settings: map[string]any{"train.steps": int64(100), "train.time_limit": "2m0s"}}, 0.75},
		"beyond":          {RunSummary{Steps: 130, Settings: map[string]any{"train.steps": int64(120)}}, 1},
		"ended early":     {RunSummary{Status: Finished, Steps: 10, Settings: map[string]any{"train.steps": int64(100)}}, 1},
		"stopped":         {RunSummary{Status: Interrupted, Steps: 10, Settings: map[string]any{"train.steps": int64(100)}}, 0.1},
		"no limit":        {RunSummary{Steps: 10}, math.NaN()},
		"unknown dataset": {RunSummary{Tokens: 10, Settings: map[string]any{"train.epochs": int64(3)}}, math.NaN()},
	} {
		if got := c.run.Share(); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
