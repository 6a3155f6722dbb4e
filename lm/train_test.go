package lm_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// counting is a text in which each token determines the next.
func counting(n, vocab int) *data.Tokens {
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = uint32(i * 7 % vocab)
	}
	return data.NewTokens(ids)
}

var small = lm.Config{
	Kind: "lstm", Vocab: 11, Layers: 2, Embed: 12, Hidden: 16, Tied: true,
	Dropout: lm.Dropout{Input: 0.1, Embed: 0.1, Hidden: 0.1, Output: 0.1, Weight: 0.1, Locked: true},
}

// newTrainer makes a small run over a text, with valid and test.
func newTrainer(t *testing.T, config lm.TrainConfig, kind *koalaspec.Kind) *lm.Trainer {
	t.Helper()
	m, err := lm.New(small, uint64(config.Seed), gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	values := setting.Values{}
	if kind == koalaspec.SGD {
		values = setting.Values{"lr": 5, "clip": 0.5}
	}
	optimizer, err := lm.NewOptimizer(kind, values, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = optimizer.Close() })
	train, err := data.NewContiguous(counting(600, 11), 4, 6)
	if err != nil {
		t.Fatal(err)
	}
	pass := func(n int) func() (data.Batcher, error) {
		return func() (data.Batcher, error) { return data.NewContiguous(counting(n, 11), 3, 6, data.Evaluation()) }
	}
	if config.Schedule.Kind == "" {
		config.Schedule.Kind = "constant"
	}
	return &lm.Trainer{
		Config: config, Model: m, Optimizer: optimizer, Train: train, Valid: pass(100), Test: pass(101), Device: gotch.CPU,
	}
}

// journal records all events of a run.
type journal struct {
	watcher
	logs        []lm.Log
	evaluations []lm.Evaluation
	epochs      []lm.Epoch
	checkpoints []lm.Progress
	weights     []float32 // at the last checkpoint
	cancelAt    int64
	cancel      context.CancelFunc
}

func (j *journal) Stepped(s lm.Step) error {
	if j.cancel != nil && s.Step == j.cancelAt {
		j.cancel()
	}
	return j.watcher.Stepped(s)
}
func (j *journal) Logged(l lm.Log) error { j.logs = append(j.logs, l); return nil }
func (j *journal) Evaluated(e lm.Evaluation) error {
	j.evaluations = append(j.evaluations, e)
	return nil
}
func (j *journal) EpochEnded(e lm.Epoch) error { j.epochs = append(j.epochs, e); return nil }
func (j *journal) Checkpoint(s *lm.Snapshot, best bool) error {
	j.checkpoints = append(j.checkpoints, s.Progress)
	j.weights = nil
	return torch.Do(func(sc *torch.Scope) error {
		for _, p := range s.Weights {
			j.weights = append(j.weights, torch.ToSlice[float32](sc, p.Tensor)...)
		}
		return sc.Err()
	})
}

func (j *journal) losses() []float64 {
	var l []float64
	for _, s := range j.steps {
		l = append(l, s.Nats)
	}
	return l
}

func runTrainer(t *testing.T, trainer *lm.Trainer) *journal {
	t.Helper()
	j := &journal{}
	trainer.Observers = []lm.Observer{j}
	if err := trainer.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return j
}

func TestTrainingLearnsAndIsEvaluated(t *testing.T) {
	j := runTrainer(t, newTrainer(t, lm.TrainConfig{Train: spec.Train{Epochs: 12, Seed: 1}}, koalaspec.SGD))
	if n := len(j.steps); n != 12*25 {
		t.Errorf("%d steps, want 12 epochs of 25", n)
	}
	if n := len(j.epochs); n != 12 {
		t.Errorf("%d epochs announced", n)
	}
	last := j.evaluations[len(j.evaluations)-1]
	if last.Split != "test" || last.Result.Tokens != 100 {
		t.Errorf("the last evaluation is of %s over %d tokens, want test over 100", last.Split, last.Result.Tokens)
	}
	if n := len(j.evaluations); n != 12+1 {
		t.Errorf("%d evaluations, want valid once an epoch and test once", n)
	}
	if ppl := last.Result.Perplexity(); ppl > 1.5 {
		t.Errorf("test perplexity %.2f on a text without surprises", ppl)
	}
}

func TestEpochLossIsTheMeanOverItsTokens(t *testing.T) {
	j := runTrainer(t, newTrainer(t, lm.TrainConfig{Train: spec.Train{Epochs: 2, Seed: 1}}, koalaspec.SGD))
	sum, tokens := 0.0, int64(0)
	before := int64(0)
	for _, s := range j.steps[:25] {
		sum += s.Nats * float64(s.Tokens-before)
		tokens += s.Tokens - before
		before = s.Tokens
	}
	if got, want := j.epochs[0].Nats, sum/float64(tokens); math.Abs(got-want) > 1e-12 {
		t.Errorf("epoch loss %.15g, want %.15g", got, want)
	}
}

func TestSameSeedSameBits(t *testing.T) {
	config := lm.TrainConfig{Train: spec.Train{Steps: 40, Seed: 3}}
	first := runTrainer(t, newTrainer(t, config, koalaspec.KoalaV))
	again := runTrainer(t, newTrainer(t, config, koalaspec.KoalaV))
	if diff := cmp.Diff(first.losses(), again.losses()); diff != "" {
		t.Errorf("losses differ: %s", diff)
	}
	config.Seed = 4
	if other := runTrainer(t, newTrainer(t, config, koalaspec.KoalaV)); cmp.Equal(first.losses(), other.losses()) {
		t.Error("another seed gave the same losses")
	}
}

func TestInterruptedRunGoesOnWithTheSameBits(t *testing.T) {
	for _, kind := range []*koalaspec.Kind{koalaspec.SGD, koalaspec.KoalaV} {
		for _, accumulate := range []int{1, 3} {
			config := lm.TrainConfig{Train: spec.Train{Steps: 40, Seed: 5, Accumulate: accumulate, LogEvery: 7}, Eval: spec.Eval{Every: 8}}
			whole := runTrainer(t, newTrainer(t, config, kind))

			ctx, cancel := context.WithCancel(t.Context())
			first := newTrainer(t, config, kind)
			j := &snapshots{journal: journal{cancel: cancel, cancelAt: 19}}
			first.Observers = []lm.Observer{j}
			if err := first.Run(ctx); !errors.Is(err, lm.ErrInterrupted) {
				t.Fatalf("error %v, want ErrInterrupted", err)
			}
			second := newTrainer(t, config, kind)
			if err := second.Restore(j.last); err != nil {
				t.Fatal(err)
			}
			rest := runTrainer(t, second)

			if diff := cmp.Diff(whole.losses(), append(j.losses(), rest.losses()...)); diff != "" {
				t.Errorf("%s, accumulate %d: losses differ: %s", kind, accumulate, diff)
			}
			if !cmp.Equal(whole.weights, rest.weights) {
				t.Errorf("%s, accumulate %d: weights differ", kind, accumulate)
			}
			if a, b := whole.logs[len(whole.logs)-1].Nats, rest.logs[len(rest.logs)-1].Nats; a != b {
				t.Errorf("%s, accumulate %d: logged %v, uninterrupted %v", kind, accumulate, b, a)
			}
		}
	}
}

// snapshots keeps the last checkpoint. (The trainer lends it, so its tensors are
// copied through a second trainer's Restore before anything is freed.)
type snapshots struct {
	journal
	last *lm.Snapshot
}

func (s *snapshots) Checkpoint(snap *lm.Snapshot, best bool) error {
	s.last = copySnapshot(snap)
	return s.journal.Checkpoint(snap, best)
}

func TestNonFiniteStepsEndTheRun(t *testing.T) {
	trainer := newTrainer(t, lm.TrainConfig{Train: spec.Train{Steps: 40, Seed: 1, MaxSkipped: 3}}, koalaspec.SGD)
	err := torch.Do(func(s *torch.Scope) error {
		params := trainer.Model.Params()
		s.NoGrad(func() { s.Fill(params[len(params)-1].Tensor, math.NaN()) })
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	var diverged *lm.DivergedError
	if err := trainer.Run(t.Context()); !errors.As(err, &diverged) || diverged.Skipped != 4 {
		t.Fatalf("error %v, want a DivergedError after 4 steps", err)
	}
}

// A run whose loss is finite and absurd has diverged: a step may have such a loss, several
// in a row end the run, and so does the last loss on valid.
func TestAbsurdLossesEndTheRun(t *testing.T) {
	train := func(lr float64, steps int64) error {
		trainer := newTrainer(t, lm.TrainConfig{Train: spec.Train{Steps: steps, Seed: 1, MaxSkipped: 3}}, koalaspec.SGD)
		var err error
		if trainer.Optimizer, err = lm.NewOptimizer(koalaspec.SGD, setting.Values{"lr": lr, "clip": 0}, trainer.Model); err != nil {
			t.Fatal(err)
		}
		return trainer.Run(t.Context())
	}
	for steps, skipped := range map[int64]int{40: 4, 3: 0} {
		var diverged *lm.DivergedError
		if err := train(1e8, steps); !errors.As(err, &diverged) || diverged.Skipped != skipped {
			t.Errorf("%d steps: %v, want a DivergedError after %d", steps, err, skipped)
		}
	}
	if err := train(0.1, 3); err != nil {
		t.Error(err)
	}
}

// TestBFloat16TrainsAlike: in every kind of model the losses of a few steps are near
// the losses in float32, and the weights stay float32.
func TestBFloat16TrainsAlike(t *testing.T) {
	for name, config := range shapes {
		var last [2]float64
		for i, low := range []bool{false, true} {
			m, err := lm.New(config, 1, gotch.CPU)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			optimizer, err := lm.NewOptimizer(koalaspec.AdamW, setting.Values{"lr": 0.01, "weight_decay": 0}, m)
			if err != nil {
				t.Fatal(err)
			}
			defer optimizer.Close()
			train, err := data.NewContiguous(counting(600, 11), 4, 6)
			if err != nil {
				t.Fatal(err)
			}
			trainer := &lm.Trainer{
				Config: lm.TrainConfig{Train: spec.Train{Steps: 30, Seed: 1, Precision: precision(low)}, Schedule: spec.Schedule{Kind: "constant"}},
				Model:  m, Optimizer: optimizer, Train: train, Device: gotch.CPU,
			}
			losses := runTrainer(t, trainer).losses()
			last[i] = losses[len(losses)-1]
		}
		if last[0] == last[1] || math.Abs(last[1]-last[0]) > 0.1*last[0] {
			t.Errorf("%s: loss %v in bfloat16, %v in float32", name, last[1], last[0])
		}
	}
}

// TestLearningRateFollowsTheLength: as in AWD-LSTM, lr * length / bptt.
func TestLearningRateFollowsTheLength(t *testing.T) {
	for _, accumulate := range []int{1, 2} {
		trainer := newTrainer(t, lm.TrainConfig{Train: spec.Train{Steps: 30, Seed: 1, BPTT: 20, VariableBPTT: true, Accumulate: accumulate}}, koalaspec.SGD)
		train, err := data.NewContiguous(counting(4000, 11), 4, 20, data.VariableLength(3))
		if err != nil {
			t.Fatal(err)
		}
		trainer.Train = train
		before, lengths := int64(0), map[float64]bool{}
		for _, step := range runTrainer(t, trainer).steps {
			length := float64(step.Tokens-before) / float64(4*accumulate) // four sequences side by side
			before = step.Tokens
			lengths[length] = true
			if want := 5 * length / 20; math.Abs(step.LR-want) > 1e-12 {
				t.Errorf("step %d of length %v: learning rate %v, want %v", step.Step, length, step.LR, want)
			}
		}
		if len(lengths) < 4 {
			t.Errorf("only %d lengths in 30 steps", len(lengths))
		}
	}
}

// An average changes what is evaluated, and neither training nor the weights' own loss.
func TestRawWeightsAreEvaluatedBesideTheirAverage(t *testing.T) {
	config := lm.TrainConfig{Train: spec.Train{Epochs: 2, Seed: 1}}
	plain := runTrainer(t, newTrainer(t, config, koalaspec.SGD))
	averaged := newTrainer(t, config, koalaspec.SGD)
	o, err := lm.NewOptimizer(koalaspec.SGD, setting.Values{"lr": 5, "clip": 0.5, "average": "exponential", "average_memory": 0.9}, averaged.Model)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	averaged.Optimizer = o
	for i, e := range runTrainer(t, averaged).evaluations {
		want := plain.evaluations[i]
		if want.Raw != nil || e.Raw == nil || *e.Raw != want.Result || e.Result.Nats == want.Result.Nats || e.Result.Tokens != want.Result.Tokens {
			t.Errorf("%s at step %d: %+v, raw %+v; without an average %+v, raw %v", e.Split, e.Step, e.Result, e.Raw, want.Result, want.Raw)
		}
	}
}

func TestPatienceEndsTheRun(t *testing.T) {
	// A learning rate near zero finds no new best after the first evaluations.
	trainer := newTrainer(t, lm.TrainConfig{Train: spec.Train{Steps: 1000, Seed: 1}, Eval: spec.Eval{Every: 5, Patience: 2}, Schedule: spec.Schedule{Kind: "step", Every: 1, Gamma: 1e-9}}, koalaspec.SGD)
	j := runTrainer(t, trainer)
	if n := len(j.steps); n >= 1000 {
		t.Errorf("%d steps: the patience did not end the run", n)
	}
}

func TestEveryTokenIsScoredOnce(t *testing.T) {
	m, err := lm.New(small, 1, gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	score := func(batch, bptt int) lm.Result {
		b, err := data.NewContiguous(counting(64, 11), batch, bptt, data.Evaluation())
		if err != nil {
			t.Fatal(err)
		}
		r, err := lm.EvaluateText(t.Context(), m, b, gotch.CPU)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	whole := score(1, 63)
	for _, cut := range []int{1, 5, 10, 62} {
		r := score(1, cut)
		if r.Tokens != 63 || math.Abs(r.Nats-whole.Nats) > 1e-6 {
			t.Errorf("in pieces of %d: %d tokens, %.8f nats; whole: %d, %.8f", cut, r.Tokens, r.Nats, whole.Tokens, whole.Nats)
		}
	}
	if r := score(4, 7); r.Tokens != 63 {
		t.Errorf("four columns score %d tokens, want 63", r.Tokens)
	}
}
