package lm_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/internal/torch/torchtest"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// A job is a training run for a group of any size.
type job struct {
	model  lm.Config
	kind   *koalaspec.Kind // of the optimizer
	config lm.TrainConfig
	whole  int // texts in a batch
	freeze []string
}

// trainedOn is the device of jobs.
var trainedOn = gotch.CPU

func (j job) trainer(t *testing.T, c *localGroup, rank int) *lm.Trainer {
	t.Helper()
	m, err := lm.New(j.model, 1, trainedOn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	if err := lm.Freeze(m, j.freeze); err != nil {
		t.Fatal(err)
	}
	// Rounding grows from step to step, and in long steps faster.
	authors, err := j.kind.Complete(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	lr, values := min(0.1, authors.Float("lr")), setting.Values{"weight_decay": 0}
	if j.kind == koalaspec.SGD {
		lr, values["clip"] = 0.5, 0.5
	}
	if j.model.Kind == lm.Transformer {
		lr /= 5
	}
	values["lr"] = lr
	optimizer, err := lm.NewOptimizer(j.kind, values, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = optimizer.Close() })
	var options []data.BatchOption
	size := len(c.brought)
	if size > 1 {
		options = append(options, data.Shard(rank, size))
	}
	text := noisy(3000, int(j.model.Vocab))
	open := func(text *data.Tokens, more ...data.BatchOption) (data.Batcher, error) {
		if j.model.Kind == lm.Transformer {
			return data.NewSequential(text, j.whole, 8, append(more, options...)...)
		}
		return data.NewContiguous(text, j.whole, 8, append(more, options...)...)
	}
	train, err := open(text)
	if err != nil {
		t.Fatal(err)
	}
	j.config.Schedule.Kind = "constant"
	trainer := &lm.Trainer{
		Config: j.config, Model: m, Optimizer: optimizer, Train: train, Device: trainedOn,
		Valid: func() (data.Batcher, error) { return open(noisy(150, int(j.model.Vocab)), data.Evaluation()) },
	}
	if size > 1 {
		trainer.Group = seat{c, rank}
	}
	return trainer
}

// noisy is a text that can be learnt in part.
func noisy(n, vocab int) *data.Tokens {
	ids := make([]uint32, n)
	for i := range ids {
		if ids[i] = uint32(i * i / 5 % vocab); i%3 > 0 {
			ids[i] = uint32(i * 7 % 4)
		}
	}
	return data.NewTokens(ids)
}

// came is the outcome of a rank.
type came struct {
	snapshots
	trainer *lm.Trainer
	err     error
}

// run trains with the given number of ranks, each from a snapshot unless it is nil.
// prepare may change a rank's trainer.
func (j job) run(t *testing.T, size int, from *lm.Snapshot, prepare func(rank int, tr *lm.Trainer) context.Context) []*came {
	t.Helper()
	defer torchtest.Threads(t, 1)()
	c := newLocalGroup(size)
	ranks := make([]*came, size)
	contexts := make([]context.Context, size)
	// All are made before one starts: libtorch has one generator for all of them.
	for rank := range size {
		r := &came{trainer: j.trainer(t, c, rank)}
		ranks[rank] = r
		if from != nil {
			if err := r.trainer.Restore(from); err != nil {
				t.Fatal(err)
			}
		}
		contexts[rank] = t.Context()
		r.trainer.Observers = []lm.Observer{&r.snapshots}
		if prepare != nil {
			contexts[rank] = prepare(rank, r.trainer)
		}
	}
	var wait sync.WaitGroup
	for rank, r := range ranks {
		wait.Go(func() {
			defer torchtest.Threads(t, 1)()
			if r.err = r.trainer.Run(contexts[rank]); r.err != nil && !errors.Is(r.err, lm.ErrInterrupted) {
				c.leave()
			}
		})
	}
	wait.Wait()
	return ranks
}

func (j job) mustRun(t *testing.T, size int, from *lm.Snapshot) []*came {
	t.Helper()
	ranks := j.run(t, size, from, nil)
	for rank, r := range ranks {
		if r.err != nil {
			t.Fatalf("rank %d of %d: %v", rank, size, r.err)
		}
	}
	return ranks
}

// without removes dropout, whose masks differ between ranks.
func without(c lm.Config) lm.Config {
	c.Dropout = lm.Dropout{}
	return c
}

// TestRanksTrainAsOne: with the same whole batch 1, 2 and 4 ranks see the same
// losses, and all ranks end with the same bits, for every kind of optimizer.
func TestRanksTrainAsOne(t *testing.T) {
	kinds := koalaspec.Kinds()
	// Most runs are short: where gradients are small, kinds that divide by their size
	// turn a difference in the last bit into a step in another direction.
	long := []*koalaspec.Kind{koalaspec.SGD, koalaspec.AdamW, koalaspec.KoalaV, koalaspec.KoalaM, koalaspec.KoalaPP}
	// The adaptive softmax of the GRU leaves weights without gradient in some ranks.
	for shape, kinds := range map[string][]*koalaspec.Kind{"lstm": kinds, "gpt2": kinds, "gru": {koalaspec.AdamW}} {
		for _, kind := range kinds {
			t.Run(shape+" "+kind.Name, func(t *testing.T) {
				j := job{model: without(shapes[shape]), kind: kind, config: lm.TrainConfig{Train: spec.Train{Steps: 40}, Eval: spec.Eval{Every: 20}}, whole: 4}
				if slices.Contains(long, kind) {
					j.config.Steps, j.config.Eval.Every = 200, 100
				}
				tolerance := 1e-5
				if kind == koalaspec.SOAP {
					tolerance = 1e-2 // rounding chooses its first basis where the first gradients vanish
				}
				alone := j.mustRun(t, 1, nil)[0]
				if l := alone.losses(); mean(l[len(l)-10:]) > mean(l[:10])-0.005 {
					t.Errorf("nothing is learnt: the loss goes from %v to %v", mean(l[:10]), mean(l[len(l)-10:]))
				}
				for _, size := range []int{2, 4} {
					ranks := j.mustRun(t, size, nil)
					for rank, r := range ranks {
						sameLosses(t, fmt.Sprintf("rank %d of %d", rank, size), alone.losses(), r.losses(), tolerance)
						if !cmp.Equal(r.weights, ranks[0].weights) {
							t.Errorf("rank %d of %d has other weights than rank 0", rank, size)
						}
						sameState(t, r.last, ranks[0].last)
						for i, e := range r.evaluations {
							if w := alone.evaluations[i]; e.Result.Tokens != w.Result.Tokens || math.Abs(e.Result.Nats-w.Result.Nats) > tolerance {
								t.Errorf("rank %d of %d evaluates %s to %+v, alone %+v", rank, size, e.Split, e.Result, w.Result)
							}
						}
					}
				}
			})
		}
	}
}

func mean(l []float64) float64 {
	sum := 0.0
	for _, v := range l {
		sum += v / float64(len(l))
	}
	return sum
}

func sameLosses(t *testing.T, who string, want, got []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d steps, want %d", who, len(got), len(want))
		return
	}
	for i := range want {
		if !(math.Abs(got[i]-want[i]) <= tolerance) {
			t.Errorf("%s: loss %v at step %d, want %v", who, got[i], i+1, want[i])
			return
		}
	}
}

// sameState fails the test unless optimizer state and carried state are equal, bit
// for bit.
func sameState(t *testing.T, a, b *lm.Snapshot) {
	t.Helper()
	if !cmp.Equal(a.Optimizer.Scalars, b.Optimizer.Scalars) || !cmp.Equal(a.Optimizer.Ints, b.Optimizer.Ints) {
		t.Error("the optimizers' numbers differ")
	}
	err := torch.Do(func(s *torch.Scope) error {
		for name, v := range a.Optimizer.Tensors {
			if !slices.Equal(torch.ToSlice[float32](s, v), torch.ToSlice[float32](s, b.Optimizer.Tensors[name])) {
				t.Errorf("the optimizers' %s differ", name)
			}
		}
		for i, v := range a.Carried {
			if !slices.Equal(torch.ToSlice[float32](s, v), torch.ToSlice[float32](s, b.Carried[i])) {
				t.Errorf("carried state %d differs", i)
			}
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Ranks reduce the gradients of the tensors that train, and leave the frozen ones.
func TestRanksTrainWithFrozenTensors(t *testing.T) {
	j := job{
		model: without(shapes["gpt2"]), kind: koalaspec.AdamW, config: lm.TrainConfig{Train: spec.Train{Steps: 20}}, whole: 4,
		freeze: []string{"*.wte.weight", "*.h.0.*"},
	}
	alone := j.mustRun(t, 1, nil)[0]
	for rank, r := range j.mustRun(t, 2, nil) {
		sameLosses(t, fmt.Sprintf("rank %d", rank), alone.losses(), r.losses(), 1e-5)
	}
}

// A pattern that matches nothing is refused, and so is a model without anything to train.
func TestFreezeRefuses(t *testing.T) {
	m := newModel(t, shapes["gpt2"])
	for want, patterns := range map[string][]string{
		`no tensor of the model matches "transformer.h.9.*": their names are transformer.wte.weight, transformer.wpe.weight, transformer.h.*.ln_*.weight`: {"*.bias", "transformer.h.9.*"},
		"leaves nothing to train": {"*bias", "*weight"},
	} {
		if err := lm.Freeze(m, patterns); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", patterns, err, want)
		}
	}
}

// TestGroupStopsTogetherAndGoesOnInAnotherSize: one rank's interruption ends all
// ranks after the same step, and the saved state is the global batch's.
func TestGroupStopsTogetherAndGoesOnInAnotherSize(t *testing.T) {
	j := job{model: without(shapes["lstm"]), kind: koalaspec.KoalaV, config: lm.TrainConfig{Train: spec.Train{Steps: 60}, Eval: spec.Eval{Every: 20}}, whole: 4}
	alone := j.mustRun(t, 1, nil)[0]
	for _, sizes := range [][2]int{{2, 4}, {3, 1}, {1, 2}} {
		first := j.run(t, sizes[0], nil, func(rank int, tr *lm.Trainer) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			if rank == sizes[0]-1 {
				tr.Observers = append(tr.Observers, &journal{cancel: cancel, cancelAt: 33})
			}
			return ctx
		})
		steps := len(first[0].losses())
		for rank, r := range first {
			if !errors.Is(r.err, lm.ErrInterrupted) || len(r.losses()) != steps {
				t.Fatalf("rank %d of %d: %d steps, rank 0 %d; %v", rank, sizes[0], len(r.losses()), steps, r.err)
			}
		}
		if steps < 33 || steps > 34 {
			t.Errorf("stopped after step %d, asked to at 33", steps)
		}
		second := j.mustRun(t, sizes[1], first[0].last)
		whole := append(first[0].losses(), second[0].losses()...)
		sameLosses(t, fmt.Sprintf("%d ranks, then %d", sizes[0], sizes[1]), alone.losses(), whole, 1e-5)
	}
}

// TestRanksThatDriftApartAreNamed: ranks with different weights are an error.
func TestRanksThatDriftApartAreNamed(t *testing.T) {
	j := job{model: without(small), kind: koalaspec.SGD, config: lm.TrainConfig{Train: spec.Train{Steps: 20}}, whole: 4}
	ranks := j.run(t, 3, nil, func(rank int, tr *lm.Trainer) context.Context {
		if rank == 2 {
			err := torch.Do(func(s *torch.Scope) error {
				s.NoGrad(func() { s.ScaleInPlace(tr.Model.Params()[0].Tensor, 1+1e-6) })
				return s.Err()
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return t.Context()
	})
	for rank, r := range ranks {
		if r.err == nil || !strings.Contains(r.err.Error(), "the weights of rank 2 differ from rank 0's") {
			t.Errorf("rank %d: %v", rank, r.err)
		}
	}
}

// TestNonFiniteInOneRankIsSkippedByAll: all ranks skip a step that is not finite in
// one rank.
func TestNonFiniteInOneRankIsSkippedByAll(t *testing.T) {
	for _, kind := range []*koalaspec.Kind{koalaspec.SGD, koalaspec.KoalaPP} {
		j := job{model: without(small), kind: kind, config: lm.TrainConfig{Train: spec.Train{Steps: 10}}, whole: 4}
		ranks := j.run(t, 2, nil, func(rank int, tr *lm.Trainer) context.Context {
			if rank == 1 {
				tr.Group = spoiler{tr.Group, new(int)}
			}
			return t.Context()
		})
		for rank, r := range ranks {
			if r.err != nil {
				t.Fatal(r.err)
			}
			for i, s := range r.steps {
				if s.Optimizer.NonFinite != (i == 4) {
					t.Errorf("%s, rank %d, step %d: skipped is %t", kind, rank, s.Step, s.Optimizer.NonFinite)
				}
			}
		}
		if !cmp.Equal(ranks[0].weights, ranks[1].weights) {
			t.Errorf("%s: the weights differ", kind)
		}
	}
}

// A spoiler puts a NaN into the gradients of the fifth step.
type spoiler struct {
	lm.ProcessGroup
	steps *int
}

func (p spoiler) NewReducer(params []*ts.Tensor) (lm.Reducer, error) {
	r, err := p.ProcessGroup.NewReducer(params)
	return spoilt{r, params[0], p.steps}, err
}

type spoilt struct {
	lm.Reducer
	param *ts.Tensor
	steps *int
}

func (p spoilt) Finish(numbers []float64) ([]float64, error) {
	if *p.steps++; *p.steps == 5 {
		err := torch.Do(func(s *torch.Scope) error {
			s.NoGrad(func() { s.Fill(s.Narrow(s.Grad(p.param), 0, 0, 1), math.NaN()) })
			return s.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	return p.Reducer.Finish(numbers)
}
