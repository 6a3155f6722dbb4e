package run

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch/torchtest"
	"github.com/koala-lm/koala-lm/lm"
)

// cuda is the test device, or a GPU if the environment asks for one.
var cuda gotch.Device

func TestMain(m *testing.M) {
	cuda = torchtest.Open()
	os.Exit(m.Run())
}

// settingsOf returns the settings of assignments with spaces between them.
func settingsOf(t *testing.T, assignments string) configs.Settings {
	t.Helper()
	var b configs.Builder
	for _, a := range strings.Fields(assignments) {
		b.Assign(a, "--set")
	}
	s, err := b.Settings()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// allocated returns the most memory that the tensors of a training run take at a time.
func allocated(t *testing.T, s configs.Settings, vocab int, device gotch.Device) int64 {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	ids := make([]uint32, 20_000)
	for i := range ids {
		ids[i] = uint32(random.IntN(vocab))
	}
	c, counted := torchtest.Count(func() {
		model, err := lm.New(ModelConfig(s.Model, vocab), 1, device)
		if err != nil {
			t.Fatal(err)
		}
		defer model.Close()
		optimizer, err := NewOptimizer(s, model)
		if err != nil {
			t.Fatal(err)
		}
		defer optimizer.Close()
		config, err := TrainConfig(s, device)
		if err != nil {
			t.Fatal(err)
		}
		config.Steps, config.Epochs, config.LogEvery = 2, 0, 1
		batches, err := TrainBatches(s, data.NewTokens(ids))
		if err != nil {
			t.Fatal(err)
		}
		trainer := &lm.Trainer{Config: config, Model: model, Optimizer: optimizer, Train: batches, Device: device}
		if err := trainer.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if !counted {
		t.Skip("only the test device counts")
	}
	if device == gotch.CPU {
		return c.HostPeak
	}
	return c.Peak
}

// The estimate of a run's memory is what its tensors take, within a tenth.
func TestCost(t *testing.T) {
	const (
		lstm  = "model.kind=lstm model.embed=240 model.hidden=240 train.batch=10 "
		gpt   = "model.kind=transformer model.layers=4 model.embed=256 model.heads=8 model.context=128 train.batch=8 "
		long  = "model.kind=transformer model.layers=3 model.embed=192 model.heads=4 model.context=384 train.batch=2 "
		heavy = "model.kind=transformer model.layers=3 model.embed=384 model.heads=6 model.context=32 train.batch=1 " // of more weights than activations
		llama = "model.kind=transformer model.layers=3 model.embed=256 model.heads=8 model.context=128 train.batch=8 model.position=rotary model.norm=rms model.mlp=swiglu "
		plain = "model.dropout.input=0 model.dropout.hidden=0 "
		low   = "train.precision=bfloat16 "
		saved = "train.gradient_checkpointing=true "
	)
	for _, test := range []struct {
		name     string
		vocab    int
		settings string
		gpu      bool
	}{
		{"lstm", 6000, lstm + "model.tied=true", false},
		{"lstm, untied, no dropout", 6000, lstm + "model.tied=false model.dropout.output=0 " + plain, false},
		{"lstm, bfloat16", 6000, lstm + low, false},
		{"lstm, two batches a step", 6000, lstm + "train.accumulate=2", false},
		{"lstm, adamw", 6000, lstm + "optimizer.kind=adamw", false},
		{"lstm, adamw, averaged", 6000, lstm + "optimizer.kind=adamw train.average=uniform", false},
		{"lstm, koala-v", 6000, lstm + "optimizer.kind=koala-v", false},
		{"lstm, koala-k", 6000, lstm + "optimizer.kind=koala-k train.average=none", false},
		{"lstm, koala-k, averaged", 6000, lstm + "optimizer.kind=koala-k train.average=polynomial", false},
		{"lstm, soap", 6000, lstm + "optimizer.kind=soap optimizer.max_precondition_dim=1000", false},
		{"lstm, weight drop", 6000, lstm + "model.dropout.weight=0.3 model.dropout.embed=0.1 model.dropout.locked=true", false},
		{"gru", 6000, strings.Replace(lstm, "lstm", "gru", 1), false},
		{"gpt", 65, gpt + plain, false},
		{"gpt, checkpointing", 65, gpt + plain + saved, false},
		{"gpt, bfloat16", 65, gpt + plain + low, false},
		{"gpt, bfloat16, checkpointing", 65, gpt + plain + low + saved, false},
		{"gpt, dropout", 65, gpt + "model.dropout.hidden=0.1", false},
		{"gpt, words, adamw", 6000, gpt + plain + "optimizer.kind=adamw", false},
		{"gpt, words, koala-k", 6000, gpt + plain + low + "optimizer.kind=koala-k train.average=polynomial", false},
		{"gpt, soap", 65, gpt + plain + "optimizer.kind=soap", false},
		{"gpt, long", 65, long + plain, false},
		{"gpt, long, bfloat16", 65, long + plain + low, false},
		{"gpt, long, checkpointing", 65, long + plain + saved, false},
		{"gpt, heavy", 3000, heavy + plain + "optimizer.kind=adamw", false},
		{"gpt, heavy, two batches a step", 3000, heavy + plain + "optimizer.kind=adamw train.accumulate=2", false},
		{"llama", 65, llama + plain, false},
		{"llama, bfloat16", 65, llama + plain + low, false},
		{"llama, checkpointing", 65, llama + plain + saved, false},
		{"GPU: gpt", 65, gpt + plain, true},
		{"GPU: gpt, bfloat16", 65, gpt + plain + low, true},
		{"GPU: gpt, checkpointing", 65, gpt + plain + saved, true},
		{"GPU: gpt, bfloat16, checkpointing", 65, gpt + plain + low + saved, true},
		{"GPU: gpt, words, adamw", 6000, gpt + plain + low + "optimizer.kind=adamw", true},
		{"GPU: llama", 65, llama + plain, true},
		{"GPU: llama, bfloat16", 65, llama + plain + low, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := test.settings
			if !strings.Contains(all, "optimizer.kind") {
				all += " optimizer.kind=sgd"
			}
			if !strings.Contains(all, "train.average") {
				all += " train.average=none"
			}
			if !strings.Contains(all, low) {
				all += " train.precision=float32"
			}
			s := settingsOf(t, all)
			cost, known := s.Cost(test.vocab, 1, test.gpu)
			if !known {
				t.Fatal("there is no estimate")
			}
			said := cost.Tensors()
			device := gotch.CPU
			if test.gpu {
				device = cuda
			}
			took := allocated(t, s, test.vocab, device)
			if test.gpu {
				// The test device keeps the attention weights, which a GPU's kernel does not.
				blocks := s.Model.Layers
				if s.Train.GradientCheckpointing {
					blocks = 1
				}
				took -= 4 * int64(s.Train.Batch) * int64(blocks*s.Model.Heads) * s.Model.Context * s.Model.Context
			}
			line := fmt.Sprintf("%-34s estimate %6.1f MiB, took %6.1f: %.2f (%s)", test.name, float64(said)/(1<<20), float64(took)/(1<<20), float64(said)/float64(took), cost.Peak().Name)
			t.Log(line)
			if off := said - took; 10*max(off, -off) > took {
				t.Error(cost)
			}
		})
	}
}
