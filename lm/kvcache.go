package lm

import (
	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// kvCache holds the keys and values of the tokens that a Transformer has seen. A
// nil cache is that of a forward pass, which has seen nothing and keeps nothing.
type kvCache struct {
	layers []layerCache
	seen   int64
}

// layerCache is one layer's: keys and values [B, kvHeads, context, width].
type layerCache struct {
	cache        *kvCache
	keys, values *ts.Tensor
}

func newKVCache(s *torch.Scope, m *transformer, batch int64) *kvCache {
	c := &kvCache{}
	for i := range m.blocks {
		a := &m.blocks[i].attention
		shape := []int64{batch, a.kvHeads, m.config.Context, a.width}
		c.layers = append(c.layers, layerCache{c, s.Zeros(shape, gotch.Float, m.device), s.Zeros(shape, gotch.Float, m.device)})
	}
	return c
}

// length is the number of tokens seen.
func (c *kvCache) length() int64 {
	if c == nil {
		return 0
	}
	return c.seen
}

func (c *kvCache) layer(i int) *layerCache {
	if c == nil {
		return nil
	}
	return &c.layers[i]
}

func (c *kvCache) advance(n int64) {
	if c != nil {
		c.seen += n
	}
}

func (c *kvCache) clear() { c.seen = 0 }

func (c *kvCache) each(f func(t *ts.Tensor)) {
	for _, l := range c.layers {
		f(l.keys)
		f(l.values)
	}
}

func (l *layerCache) length() int64 {
	if l == nil {
		return 0
	}
	return l.cache.seen
}

// extend appends the keys and values of new tokens and returns those of all.
func (l *layerCache) extend(s *torch.Scope, k, v *ts.Tensor) (keys, values *ts.Tensor) {
	shape := torch.Shape(k)
	if l == nil || !s.OK() {
		return k, v
	}
	from, n := l.cache.seen, shape[2]
	s.CopyInto(s.Narrow(l.keys, 2, from, n), k)
	s.CopyInto(s.Narrow(l.values, 2, from, n), v)
	return s.Narrow(l.keys, 2, 0, from+n), s.Narrow(l.values, 2, 0, from+n)
}
