package torch

import (
	"slices"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"
)

// A Bucket is parameters whose gradients are added up over a group together: their
// parts are views of Flat [N], in the parameters' shapes.
type Bucket struct {
	Flat          *ts.Tensor
	Params, Parts []*ts.Tensor
}

// A bucket is large, for a network sends many numbers in the time that a message
// takes to start, and there are few, since each costs that time again.
const (
	leastBucket = 1 << 18 // numbers, 4 bytes each
	mostBuckets = 16
)

// newBuckets makes room for the gradients of parameters, in buckets of at least so
// many numbers, but for the last. They begin with the last parameter, whose gradient
// backward makes first where parameters are in the order of their use.
func newBuckets(s *Scope, params []*ts.Tensor, least int64, device gotch.Device) []Bucket {
	var buckets []Bucket
	for rest := params; len(rest) > 0 && s.OK(); {
		from, n := len(rest), int64(0)
		for from > 0 && n < least {
			from--
			n += Count(rest[from])
		}
		b := Bucket{Flat: s.Keep(s.Zeros([]int64{n}, gotch.Float, device)), Params: slices.Clone(rest[from:])}
		slices.Reverse(b.Params)
		at := int64(0)
		for _, p := range b.Params {
			n := Count(p)
			b.Parts = append(b.Parts, s.Keep(s.Reshape(s.Narrow(b.Flat, 0, at, n), Shape(p)...)))
			at += n
		}
		buckets, rest = append(buckets, b), rest[:from]
	}
	return buckets
}

// Fill copies the gradients into their parts; zeros stand for none.
func (b Bucket) Fill(s *Scope) {
	for i, p := range b.Params {
		if g := s.Grad(p); g != nil {
			s.CopyInto(b.Parts[i], g)
		} else {
			s.Zero(b.Parts[i])
		}
	}
}

// drop frees the room.
func (b Bucket) drop() {
	for _, t := range append(b.Parts, b.Flat) {
		if t != nil { // as where there was no memory for it
			_ = t.Drop() // as all freeing, it has nothing to tell
		}
	}
}
