package lm

import (
	"errors"
	"fmt"
)

// problems collects what is wrong with a Config.
type problems []error

func (p *problems) want(ok bool, format string, args ...any) {
	if !ok {
		*p = append(*p, fmt.Errorf("model."+format, args...))
	}
}

// checkRecurrent finds what no recurrent model can be.
func (c Config) checkRecurrent() error {
	var bad problems
	bad.want(c.Layers > 0, "layers is %d, expected at least 1", c.Layers)
	bad.want(c.Embed > 0, "embed is %d, expected at least 1", c.Embed)
	bad.want(c.Hidden > 0, "hidden is %d, expected at least 1", c.Hidden)
	return errors.Join(bad...)
}

// checkTransformer finds what no Transformer can be.
func (c Config) checkTransformer() error {
	var bad problems
	bad.want(c.Layers > 0, "layers is %d, expected at least 1", c.Layers)
	bad.want(c.Embed > 0, "embed is %d, expected at least 1", c.Embed)
	bad.want(c.Hidden > 0, "hidden is %d, expected at least 1", c.Hidden)
	bad.want(c.Context > 0, "context is %d, expected at least 1", c.Context)
	bad.want(c.Norm == LayerNorm || c.Norm == RMSNorm, "norm %q is not known: it is layer or rms", c.Norm)
	bad.want(c.Position == Learned || c.Position == Rotary, "position %q is not known: it is learned or rotary", c.Position)
	bad.want(c.MLP == GELU || c.MLP == SwiGLU, "mlp %q is not known: it is gelu or swiglu", c.MLP)
	if c.Heads < 1 || c.KVHeads < 1 {
		bad.want(false, "heads is %d and model.kv_heads %d, expected at least 1 each", c.Heads, c.KVHeads)
		return errors.Join(bad...)
	}
	bad.want(c.Embed%int64(c.Heads) == 0, "heads %d must divide model.embed %d", c.Heads, c.Embed)
	bad.want(c.Heads%c.KVHeads == 0, "kv_heads %d must divide model.heads %d", c.KVHeads, c.Heads)
	bad.want(c.Position != Rotary || c.Embed/int64(c.Heads)%2 == 0, "position rotary needs heads of even width, and %d / %d is odd", c.Embed, c.Heads)
	return errors.Join(bad...)
}
