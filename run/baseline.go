package run

import (
	"context"
	"maps"
	"slices"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
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
	last, err := r.lastEvaluations(ctx)
	if err != nil {
		return err
	}
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
		torch.Trim() // the activations' memory does for the counts
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
		if err := r.run.Log(tracking.Point{Step: e.step, Tokens: e.tokens, Values: map[string]float64{metric.SplitPrefix[split] + metric.NGramPPL: v}}); err != nil {
			return err
		}
		r.progress.say("%s: ppl %.2f is %.2f times that of a %d-gram model, %.2f (Kneser-Ney)", split, e.ppl, e.ppl/v, data.MaxOrder, v)
	}
	return nil
}

type evaluated struct {
	step, tokens int64
	ppl          float64
}

// lastEvaluations returns the last evaluation of each split: of this process or, if the
// run was killed after it, of the one before, which the store has.
func (r *recording) lastEvaluations(ctx context.Context) (map[string]evaluated, error) {
	stored, err := r.store.Run(ctx, r.run.ID())
	if err != nil {
		return nil, err
	}
	last := map[string]evaluated{}
	for split, prefix := range metric.SplitPrefix {
		if e, here := r.recorder.last[split]; here {
			last[split] = evaluated{e.Step, e.Tokens, e.Result.Perplexity()}
		} else if s, before := stored.Metrics[prefix+metric.PPL]; before {
			last[split] = evaluated{s.Step, stored.Tokens, s.Last}
		}
	}
	return last, nil
}
