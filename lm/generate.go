package lm

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// Generation says how texts are continued.
type Generation struct {
	Prompt  []int64 // what comes before, at least one token
	Tokens  int     // new ones, at most
	Stop    int64   // a token that ends a text and is not told; negative is none
	Sampler Sampler
	Seed    uint64
}

// Generate continues the prompt in as many ways as d has texts and tells each new
// token. Sample number i of a seed is drawn from a source of its own: it does not
// depend on the others.
func Generate(ctx context.Context, d Decoder, g Generation, first, texts int, tell func(text int, id int64) error) error {
	if len(g.Prompt) == 0 {
		return fmt.Errorf("generate: there is no token to go on from")
	}
	random := make([]*rand.Rand, texts)
	ended := make([]bool, texts)
	next := make([][]int64, texts)
	for i := range texts {
		random[i] = rand.New(rand.NewPCG(g.Seed, uint64(first+i)))
		next[i] = g.Prompt
	}
	for running := texts; running > 0 && g.Tokens > 0; g.Tokens-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		logits, err := decode(d, next)
		if err != nil {
			return fmt.Errorf("generate: %w", err)
		}
		vocab := len(logits) / texts
		for i := range texts {
			id := int64(g.Sampler.Draw(logits[i*vocab:][:vocab], random[i]))
			next[i] = []int64{id}
			if ended[i] {
				continue
			}
			if id == g.Stop {
				ended[i], running = true, running-1
				continue
			}
			if err := tell(i, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// decode is one call of the decoder, its logits on the CPU.
func decode(d Decoder, ids [][]int64) (logits []float32, err error) {
	err = torch.Do(func(s *torch.Scope) error {
		logits = torch.ToSlice[float32](s, d.Next(s, ids))
		return s.Err()
	})
	return logits, err
}
