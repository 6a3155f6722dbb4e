package sweep

import (
	"fmt"
	"math"
)

// Repeats lists what is left to do once Trials are done: the best point of each
// search again, with its best_seeds. A point's result is the mean over its
// seeds; result is that of one trial, the lower the better, and not ok for one
// that failed, whose point is not the best then.
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

// best is the point of a search whose mean result is lowest.
func (f *File) best(s *search, dataset string, result func(string) (float64, bool)) (best point, found bool, err error) {
	points, err := s.points()
	if err != nil {
		return best, false, err
	}
	lowest := math.Inf(1)
	for _, p := range points {
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
