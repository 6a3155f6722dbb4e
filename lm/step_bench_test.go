package lm_test

import (
	"math/rand/v2"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// BenchmarkStep times whole training steps with the settings that bench/ compares
// with PyTorch.
func BenchmarkStep(b *testing.B) {
	wlm := lm.Config{
		Kind: lm.LSTM, Vocab: 33278, Layers: 2, Embed: 200, Hidden: 200, Tied: true,
		Dropout: lm.Dropout{Input: 0.2, Hidden: 0.2, Output: 0.2},
	}
	gpt := lm.Config{
		Kind: lm.Transformer, Vocab: 65, Layers: 4, Embed: 128, Hidden: 512, Tied: true, Heads: 4, KVHeads: 4, Context: 64,
		Norm: lm.LayerNorm, Position: lm.Learned, MLP: lm.GELU,
	}
	llama := gpt
	llama.Norm, llama.Position, llama.MLP, llama.Hidden, llama.KVHeads = lm.RMSNorm, lm.Rotary, lm.SwiGLU, 352, 2
	gru := wlm
	gru.Kind = lm.GRU
	adaptive := wlm
	adaptive.Tied, adaptive.Softmax = false, lm.Adaptive
	for _, c := range []struct {
		name      string
		config    lm.Config
		optimizer *koalaspec.Kind
		batch     int
		length    int
		bfloat16  bool
	}{
		{"LSTM", wlm, koalaspec.KoalaV, 20, 35, false},
		{"GRU", gru, koalaspec.KoalaV, 20, 35, false},
		{"LSTM/adaptive", adaptive, koalaspec.KoalaV, 20, 35, false},
		{"LSTM/bfloat16", wlm, koalaspec.KoalaV, 20, 35, true},
		{"GPT", gpt, koalaspec.AdamW, 12, 64, false},
		{"GPT/bfloat16", gpt, koalaspec.AdamW, 12, 64, true},
		{"LLaMA", llama, koalaspec.AdamW, 12, 64, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			err := torch.Main(0, func() error { return steps(b, c.config, c.optimizer, c.batch, c.length, c.bfloat16) })
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

func steps(b *testing.B, config lm.Config, kind *koalaspec.Kind, batch, length int, bfloat16 bool) error {
	m, err := lm.New(config, 1, gotch.CPU)
	if err != nil {
		return err
	}
	defer m.Close()
	optimizer, err := lm.NewOptimizer(kind, nil, m)
	if err != nil {
		return err
	}
	defer optimizer.Close()
	ids, random := make([]uint32, 100_000), rand.New(rand.NewPCG(1, 0))
	for i := range ids {
		ids[i] = uint32(float64(config.Vocab) * random.Float64() * random.Float64() * random.Float64()) // frequent ones first
	}
	batches, err := data.NewContiguous(data.NewTokens(ids), batch, length)
	if !m.TimeMajor() {
		batches, err = data.NewRandom(data.NewTokens(ids), batch, length, 1)
	}
	if err != nil {
		return err
	}
	trainer := &lm.Trainer{
		Config: lm.TrainConfig{Train: spec.Train{Steps: int64(b.N), Seed: 1, Precision: precision(bfloat16)}, Schedule: spec.Schedule{Kind: "constant"}},
		Model:  m, Optimizer: optimizer, Train: batches, Device: gotch.CPU,
	}
	b.ResetTimer()
	err = trainer.Run(b.Context())
	b.ReportMetric(float64(batch*length*b.N)/b.Elapsed().Seconds(), "tokens/s")
	return err
}
