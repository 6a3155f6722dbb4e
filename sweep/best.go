package sweep

import (
	"context"
	"fmt"
	"math"
)

// Repeats lists the trials that follow Trials: the best point of each search with its
// best_seeds. result returns a trial's result, or false for a trial that failed,
// diverged or was stopped. A point's result is the mean over its seeds; a point with
// such a trial cannot be the best.
func (f *File) Repeats(dataset string, result func(id string) (value float64, ok bool)) ([]Trial, error) {
	l := list{file: f, dataset: dataset}
	for i := range f.searches {
		s := &f.searches[i]
		if len(s.bestSeeds) == 0 {
			continue
		}
		best, found, err := f.best(s, dataset, result)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		if !found {
			continue
		}
		for _, p := range best.seeded(s.bestSeeds) {
			l.add(s, p)
		}
	}
	if len(l.problems) > 0 {
		return nil, l.problems
	}
	return l.trials, nil
}

// IDs returns the ids of every trial that the file can ask for: of Trials, and of any
// point with its best_seeds.
func (f *File) IDs(ctx context.Context, dataset string) (map[string]bool, error) {
	if err := f.checkSize(); err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	l := list{file: f, dataset: dataset}
	for i := range f.searches {
		s := &f.searches[i]
		for _, p := range s.points() {
			for _, seeded := range append(p.seeded(s.seeds), p.seeded(s.bestSeeds)...) {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				l.add(s, seeded)
			}
		}
	}
	if len(l.problems) > 0 {
		return nil, l.problems
	}
	for _, trial := range l.trials {
		ids[trial.ID] = true
	}
	return ids, nil
}

// Further returns the largest number of trials that Repeats can add.
func (f *File) Further() int {
	n := 0
	for i := range f.searches {
		n += len(f.searches[i].bestSeeds)
	}
	return n
}

// best returns the point of a search with the best mean result.
func (f *File) best(s *search, dataset string, result func(string) (float64, bool)) (best point, found bool, err error) {
	lowest := math.Inf(1)
	for _, p := range s.points() {
		seeded := p.seeded(s.seeds)
		sum := 0.0
		for _, q := range seeded {
			trial, err := f.trial(q, dataset)
			if err != nil {
				return best, false, err
			}
			value, ok := result(trial.ID)
			if !ok {
				value = math.Inf(1)
			}
			sum += value
		}
		if mean := sum / float64(len(seeded)); mean < lowest {
			best, found, lowest = p, true, mean
		}
	}
	return best, found, nil
}
