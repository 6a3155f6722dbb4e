package lm_test

import (
	"errors"
	"fmt"
	"sync"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
)

// A circle is a group of goroutines: what processes do to one another, without
// their cost.
type circle struct {
	sync.Mutex
	turn    *sync.Cond
	brought [][]*ts.Tensor // by rank, of the sum that is being made
	here    int
	made    int // sums so far
	failed  bool
	err     error
}

func newCircle(size int) *circle {
	c := &circle{brought: make([][]*ts.Tensor, size)}
	c.turn = sync.NewCond(c)
	return c
}

// leave leaves the circle, and those who wait for it without hope.
func (c *circle) leave() {
	c.Lock()
	defer c.Unlock()
	c.failed = true
	c.turn.Broadcast()
}

type seat struct {
	*circle
	rank int
}

func (s seat) Rank() int { return s.rank }
func (s seat) Size() int { return len(s.brought) }

func (s seat) Sum(tensors ...*ts.Tensor) error {
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

// Watch begins no sum before backward has ended.
func (s seat) Watch(params []*ts.Tensor) (lm.Watch, error) {
	w := seatWatch{seat: s}
	err := torch.Do(func(s *torch.Scope) error {
		for _, p := range params {
			flat := s.Keep(s.Zeros([]int64{torch.Count(p)}, gotch.Float, gotch.CPU))
			part := s.Keep(s.Reshape(flat, torch.Shape(p)...))
			w.buckets = append(w.buckets, torch.Bucket{Flat: flat, Params: []*ts.Tensor{p}, Parts: []*ts.Tensor{part}})
		}
		return s.Err()
	})
	return w, err
}

type seatWatch struct {
	seat
	buckets []torch.Bucket
}

func (w seatWatch) Arm() {}

func (w seatWatch) Sum(others ...*ts.Tensor) ([]torch.Bucket, error) {
	err := torch.Do(func(s *torch.Scope) error {
		for _, b := range w.buckets {
			s.NoGrad(func() { b.Fill(s) })
			others = append(others, b.Flat)
		}
		return s.Err()
	})
	if err != nil {
		return nil, err
	}
	return w.buckets, w.seat.Sum(others...)
}

func (w seatWatch) Close() {
	for _, b := range w.buckets {
		_, _ = b.Parts[0].Drop(), b.Flat.Drop()
	}
}

// add leaves the sum of all ranks' tensors in each.
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
