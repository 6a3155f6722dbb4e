package run

import (
	"context"
	"maps"
	"slices"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/tracking"
)

// baselineBytes bounds the memory of the n-gram model that a run is compared with, and with
// it the time that it takes: about a second for each million tokens of train.
const baselineBytes = 128 << 20

// baseline records and prints the perplexities of an n-gram model beside the network's:
// was the network worth its time? They depend on the dataset alone, so that the first run
// on a dataset computes them, after its training, and later ones find them in the store. A
// dataset too large for it has none; eval --baseline computes them at any size.
func (r *recording) baseline(ctx context.Context) error {
	last := r.recorder.last
	splits, missing := slices.Collect(maps.Keys(last)), []string(nil)
	slices.SortFunc(splits, func(a, b string) int { return len(b) - len(a) }) // valid, test
	ppl := map[string]float64{}
	for _, split := range splits {
		v, known, err := r.store.DatasetMetric(ctx, r.dataset.Fingerprint(), metric.SplitPrefix[split]+metric.NGramPPL)
		if err != nil {
			return err
		}
		if known {
			ppl[split] = v
		} else {
			missing = append(missing, split)
		}
	}
	if len(missing) > 0 && r.dataset.NGramSize(missing...) <= baselineBytes {
		computed, err := r.dataset.KneserNeyPPL(ctx, data.MaxOrder, missing...)
		if err != nil {
			return err
		}
		maps.Copy(ppl, computed)
	}
	for _, split := range splits {
		v, known := ppl[split]
		if !known {
			continue
		}
		e := last[split]
		if err := r.run.Log(tracking.Point{Step: e.Step, Tokens: e.Tokens, Values: map[string]float64{metric.SplitPrefix[split] + metric.NGramPPL: v}}); err != nil {
			return err
		}
		network := e.Result.Perplexity()
		r.progress.say("%s: ppl %.2f is %.2f times that of a %d-gram model, %.2f (Kneser-Ney)", split, network, network/v, data.MaxOrder, v)
	}
	return nil
}
