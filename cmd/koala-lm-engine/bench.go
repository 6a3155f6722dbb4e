package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sort"
	"time"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
	"github.com/koala-lm/koala-lm/run"
)

// bench times training steps; nothing is recorded.
func bench(ctx context.Context, text string, stdout, stderr io.Writer) error {
	var r request.Bench
	if err := request.Parse(text, &r); err != nil {
		return err
	}
	vocab, tokens := r.Vocab, (*data.Tokens)(nil)
	if r.Data != "" {
		dataset, err := data.Open(r.Data)
		if err != nil {
			return err
		}
		defer dataset.Close()
		vocab = dataset.Vocab()
		tokens, _ = dataset.Split("train")
	} else {
		least := r.Settings.Train.Batch * (r.Settings.SequenceLength() + 1)
		tokens = zipfTokens(max(200_000, 4*least), vocab)
	}
	return run.UntilBuilt(ctx, func(built func()) error {
		return torch.Main(r.Threads, func() error {
			device, err := torch.ParseDevice(string(r.Device))
			if err != nil {
				return err
			}
			result, err := benchSteps(ctx, r, vocab, tokens, device, built)
			if err != nil {
				return err
			}
			return result.write(stdout, r.Format)
		})
	})
}

func benchSteps(ctx context.Context, r request.Bench, vocab int, tokens *data.Tokens, device gotch.Device, built func()) (benchResult, error) {
	s, _ := run.SettlePrecision(r.Settings, vocab, device)
	config, err := run.TrainConfig(s, device)
	if err != nil {
		return benchResult{}, err
	}
	model, err := lm.New(run.ModelConfig(s.Model, vocab), uint64(s.Train.Seed), device)
	if err != nil {
		return benchResult{}, err
	}
	defer model.Close()
	optimizer, err := run.NewOptimizer(s, model)
	if err != nil {
		return benchResult{}, err
	}
	defer optimizer.Close()
	built()
	batches, err := run.TrainBatches(s, tokens)
	if err != nil {
		return benchResult{}, err
	}
	config.Steps, config.Epochs, config.TimeLimit = int64(r.Warmup+r.Steps), 0, 0
	config.Eval.Every, config.Checkpoint.Every = math.MaxInt64, math.MaxInt64
	// Only the time of a step counts here: losses may diverge, and no schedule ends.
	config.MaxSkipped, config.Schedule = 0, spec.Schedule{Kind: "constant"}
	meter := lm.NewMeter(r.Warmup)
	trainer := &lm.Trainer{
		Config: config, Model: model, Optimizer: optimizer, Train: batches, Device: device,
		Observers: []lm.Observer{meter},
	}
	if err := trainer.Run(ctx); err != nil {
		return benchResult{}, err
	}
	result := newBenchResult(s, model, vocab, torch.DeviceName(device), meter.Speed())
	if device == gotch.CPU {
		if result.ProductRate, err = productRate(config.Precision == spec.BFloat16); err != nil {
			return benchResult{}, err
		}
	}
	return result, nil
}

// productRate is the best rate, in GFLOP/s, of a matrix product as large as those of a
// Transformer of width 384: what the phases of a step are held against.
func productRate(bfloat16 bool) (rate float64, err error) {
	const m, k, n = 2048, 384, 1536
	err = torch.Do(func(s *torch.Scope) error {
		dtype := gotch.Float
		if bfloat16 {
			dtype = gotch.BFloat16
		}
		a, b := s.Ones([]int64{m, k}, dtype, gotch.CPU), s.Ones([]int64{k, n}, dtype, gotch.CPU)
		for range 20 {
			err := torch.Do(func(s *torch.Scope) error {
				start := time.Now()
				s.MatMul(a, b)
				rate = max(rate, 2*m*k*n/time.Since(start).Seconds()/1e9)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return math.Round(rate), err
}

// newBenchResult collects settings and measurements.
func newBenchResult(s configs.Settings, model lm.Model, vocab int, device string, speed lm.Speed) benchResult {
	ms := func(d interface{ Seconds() float64 }) float64 { return math.Round(1e6*d.Seconds()) / 1000 }
	result := benchResult{
		Model:      describeModel(model),
		Parameters: lm.CountParams(model), Vocab: vocab, Optimizer: s.Optimizer.Kind,
		Batch: s.Train.Batch, Length: s.SequenceLength(), Precision: s.Train.Precision,
		Device: device, Threads: torch.Threads(), Steps: speed.Steps,
		StepMS: ms(speed.Median), MinMS: ms(speed.Min),
		ForwardMS: ms(speed.Phases.Forward), LossMS: ms(speed.Phases.Loss),
		BackwardMS: ms(speed.Phases.Backward), OptimizerMS: ms(speed.Phases.Optimizer),
		TokensPerSecond: math.Round(10*speed.TokensPerSecond) / 10, PeakRSS: run.PeakBytes(),
	}
	// For each product of the forward pass, the backward pass makes two. The loss makes all
	// three of the output layer. What a checkpointed block computes again does not count.
	body, output := run.ModelConfig(s.Model, vocab).Multiplications(int64(s.SequenceLength()))
	gflop := func(multiplications int64) float64 {
		return 2 * float64(multiplications) * speed.TokensPerSecond * speed.Median.Seconds() / 1e9
	}
	result.ForwardGFLOP, result.BackwardGFLOP = gflop(body), gflop(2*body)
	if s.Model.Softmax != spec.Adaptive {
		result.LossGFLOP = gflop(3 * output)
	}
	return result
}

// describeModel returns a model's shape in a few words.
func describeModel(model lm.Model) string {
	m := model.Config()
	text := fmt.Sprintf("%s %dx%d", m.Kind, m.Layers, m.Hidden)
	if context := model.Context(); context > 0 {
		text = fmt.Sprintf("%s %dx%d, context %d", m.Kind, m.Layers, m.Embed, context)
	}
	if m.Tied {
		text += ", tied"
	}
	return text
}

// documentLength is the number of tokens in a document of a bench.
const documentLength = 300

// zipfTokens returns random ids whose frequencies fall as 1/rank, as words' do.
// Repeated ids decide the cost of the embedding's gradient.
func zipfTokens(n, vocab int) *data.Tokens {
	cumulative := make([]float64, vocab)
	total := 0.0
	for i := range cumulative {
		total += 1 / float64(i+1)
		cumulative[i] = total
	}
	random := rand.New(rand.NewPCG(1, 0))
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = uint32(min(vocab-1, sort.SearchFloat64s(cumulative, total*random.Float64())))
	}
	var documents []int
	for at := 0; at < n; at += documentLength {
		documents = append(documents, at)
	}
	return data.NewTokens(ids).WithDocuments(documents)
}
