package lm_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
)

// A localGroup is a process group whose ranks are goroutines.
type localGroup struct {
	sync.Mutex
	turn    *sync.Cond
	brought [][]*ts.Tensor // by rank, in the current all-reduce
	here    int
	made    int // all-reduces so far
	failed  bool
	err     error
}

func newLocalGroup(size int) *localGroup {
	c := &localGroup{brought: make([][]*ts.Tensor, size)}
	c.turn = sync.NewCond(c)
	return c
}

// leave fails the all-reduces in which the others wait.
func (c *localGroup) leave() {
	c.Lock()
	defer c.Unlock()
	c.failed = true
	c.turn.Broadcast()
}

type seat struct {
	*localGroup
	rank int
}

func (s seat) Rank() int { return s.rank }
func (s seat) Size() int { return len(s.brought) }

func (s seat) AllReduce(tensors ...*ts.Tensor) error {
	s.Lock()
	defer s.Unlock()
	s.brought[s.rank] = tensors
	turn := s.made
	if s.here++; s.here == len(s.brought) {
		s.here, s.made = 0, s.made+1
		s.err = add(s.brought)
		s.turn.Broadcast()
		return s.err
	}
	for s.made == turn && !s.failed {
		s.turn.Wait()
	}
	if s.made == turn {
		return errors.New("a rank has left")
	}
	return s.err
}

// NewReducer makes a reducer that all-reduces after backward has ended.
func (s seat) NewReducer(params []*ts.Tensor) (lm.Reducer, error) {
	return seatReducer{s, params}, nil
}

type seatReducer struct {
	seat
	params []*ts.Tensor
}

func (seatReducer) PrepareForBackward() {}
func (seatReducer) Close()              {}

func (r seatReducer) Finish(numbers []float64) (sums []float64, err error) {
	err = torch.Do(func(s *torch.Scope) error {
		all := slices.Clone(numbers)
		var tensors []*ts.Tensor
		s.NoGrad(func() {
			for _, p := range r.params {
				if g := s.Grad(p); g != nil {
					all, tensors = append(all, 1), append(tensors, g)
				} else {
					all, tensors = append(all, 0), append(tensors, s.Zeros(torch.Shape(p), gotch.Float, gotch.CPU))
				}
			}
		})
		beside := torch.FromSlice(s, all, int64(len(all)))
		if err := s.Err(); err != nil {
			return err
		}
		if err := r.AllReduce(append(tensors, beside)...); err != nil {
			return err
		}
		sums = torch.ToSlice[float64](s, beside)
		for i, p := range r.params {
			if s.OK() && sums[len(numbers)+i] > 0 {
				s.SetGrad(p, tensors[i])
			}
		}
		return s.Err()
	})
	if err != nil {
		return nil, err
	}
	return sums[:len(numbers)], nil
}

// add replaces each tensor by the sum over all ranks.
func add(brought [][]*ts.Tensor) error {
	return torch.Do(func(s *torch.Scope) error {
		s.NoGrad(func() {
			for i, first := range brought[0] {
				for _, other := range brought[1:] {
					if torch.Describe(other[i]) != torch.Describe(first) {
						s.Fail(fmt.Errorf("%s is to be added to %s", torch.Describe(other[i]), torch.Describe(first)))
						return
					}
					s.AddInPlace(first, other[i])
				}
				for _, other := range brought[1:] {
					s.CopyInto(other[i], first)
				}
			}
		})
		return s.Err()
	})
}
