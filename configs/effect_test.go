package configs_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
	optimizers "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
)

// unseen are the settings without a visible effect on a run of a few steps without a
// fault, each with its purpose.
var unseen = map[string]string{
	"train.time_limit":             "ends long runs",
	"optimizer.max_skipped":        "ends a run that diverges",
	"checkpoint.interval":          "saves long runs",
	"train.gradient_checkpointing": "saves memory",
	"checkpoint.keep":              "removes files",
	"checkpoint.on_error":          "answers a full disk",
}

// common makes runs short, and gives every setting something to act on.
var common = []string{
	"model.embed=8", "train.batch=4", "eval.batch=2", "eval.every=3", "train.steps=9", "train.log_every=4",
}

// base returns common with the settings that a kind needs besides.
func base(set ...string) []string {
	list := slices.Concat(common, set)
	joined := " " + strings.Join(set, " ")
	if strings.Contains(joined, "model.kind=transformer") {
		list = append(list, "model.heads=4", "model.context=8", "model.layers=2", "model.dropout.input=0.1", "model.dropout.hidden=0.1")
	} else {
		list = append(list, "train.bptt=8")
	}
	if strings.Contains(joined, "model.softmax=adaptive") {
		list = append(list, "model.cutoffs=[5, 12]")
	}
	return list
}

// trace trains with the settings and returns the events as text.
func trace(t *testing.T, s configs.Settings) string {
	t.Helper()
	const vocab = 30
	random := rand.New(rand.NewPCG(1, 1))
	ids := make([]uint32, 200)
	for i := range ids {
		ids[i] = uint32(vocab * random.Float64() * random.Float64())
	}
	tokens := data.NewTokens(ids).WithDocuments([]int{0, 11, 24, 90, 130})
	var events strings.Builder
	err := torch.Main(1, func() error {
		s.Model.Vocab = max(s.Model.Vocab, vocab)
		model, err := lm.New(s.Model, uint64(s.Train.Seed), gotch.CPU)
		if err != nil {
			return err
		}
		defer model.Close()
		if err := lm.Freeze(model, s.Train.Freeze); err != nil {
			return err
		}
		kind, err := optimizers.Lookup(s.Optimizer.Kind)
		if err != nil {
			return err
		}
		optimizer, err := lm.NewOptimizer(kind, s.Optimizer.Values, model)
		if err != nil {
			return err
		}
		defer optimizer.Close()
		var options []data.BatchOption
		if s.Train.VariableBPTT {
			options = append(options, data.VariableLength(uint64(s.Train.Seed)))
		}
		if s.Train.DocumentMask {
			options = append(options, data.WithinDocuments())
		}
		batches, err := data.NewBatcher(s.Train.Batching, tokens, s.Train.Batch, s.SequenceLength(), uint64(s.Train.Seed), options...)
		if err != nil {
			return err
		}
		trainer := &lm.Trainer{
			Config: lm.TrainConfig{Train: s.Train, Schedule: s.Schedule, Eval: s.Eval, Checkpoint: s.Checkpoint},
			Model:  model, Optimizer: optimizer, Train: batches, Device: gotch.CPU,
			Valid: func() (data.Batcher, error) {
				return lm.Reading{Batch: s.Eval.Batch, Length: s.SequenceLength(), WithinDocuments: s.Train.DocumentMask}.Batches(model, tokens)
			},
			Observers: []lm.Observer{&tracer{to: &events}},
		}
		return trainer.Run(context.Background())
	})
	var diverged *lm.DivergedError
	if errors.As(err, &diverged) {
		fmt.Fprintln(&events, err)
	} else if err != nil {
		t.Fatalf("%v: %v", s.Flat(), err)
	}
	return events.String()
}

// tracer records a trainer's events without their times.
type tracer struct {
	lm.NoObserver
	to *strings.Builder
}

func (o *tracer) Stepped(s lm.Step) error {
	fmt.Fprintln(o.to, "step", s.Step, s.Tokens, s.Nats, s.LR)
	return nil
}

func (o *tracer) Logged(l lm.Log) error {
	fmt.Fprintln(o.to, "log", l.Step.Step, l.Nats)
	return nil
}

func (o *tracer) Evaluated(e lm.Evaluation) error {
	fmt.Fprintln(o.to, "evaluation", e.Step, e.Result.Nats)
	return nil
}

func (o *tracer) Checkpoint(s *lm.Snapshot, best bool) error {
	sum := crc32.NewIEEE()
	err := torch.Do(func(sc *torch.Scope) error {
		for _, p := range s.Weights {
			fmt.Fprint(sum, torch.ToSlice[float32](sc, p.Tensor))
		}
		return sc.Err()
	})
	fmt.Fprintln(o.to, "checkpoint", s.Progress.Step, best, sum.Sum32())
	return err
}

// candidates are legal values of some settings that differ from most current values.
var candidates = []string{"true", "false", "0.5", "0.05", "1", "2", "3", "5", "12", "40", "20000", "[4, 9]", "[1]"}

// own are the candidates of settings whose values depend on the model's names.
var own = map[string][]string{"train.freeze": {`["*0*"]`}}

// Every setting, in every combination in which it exists and has an effect by its
// declaration, changes a run. The test fails for a setting that nothing reads, or
// that has no effect in a combination without declaring it.
func TestEverySettingChangesTraining(t *testing.T) {
	sections := func(names ...string) func(key string) bool {
		return func(key string) bool {
			return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(key, name) })
		}
	}
	shape := sections("model.", "train.", "eval.every", "eval.batch", "checkpoint.")
	rotary := []string{
		"model.kind=transformer", "model.norm=rms", "model.position=rotary", "model.mlp=swiglu", "model.kv_heads=2",
		"model.head_width=16",
	}
	scaled := func(scaling string) []string {
		return base(append(slices.Clip(rotary), "model.rotary.scaling="+scaling, "model.rotary.original=64", "model.rotary.factor=4")...)
	}
	type effects struct {
		name  string
		set   []string
		tries func(key string) bool
	}
	cases := []effects{
		{"lstm", base("model.kind=lstm", "model.dropout.weight=0.1"), shape},
		{"gru of one layer", base("model.kind=gru", "model.layers=1"), shape},
		{"lstm with adaptive softmax", base("model.softmax=adaptive", "train.variable_bptt=true"), shape},
		{"gpt", base("model.kind=transformer", "model.window=3"), shape},
		{"llama", base(rotary...), shape},
		{"llama3", scaled("llama3"), sections("model.rotary.")},
		{"yarn", scaled("yarn"), sections("model.rotary.")},
		{"a run that does not get better", append(base("optimizer.kind=sgd", "optimizer.lr=300"), "eval.every=1"), sections("eval.patience")},
		{"averaged weights", base("train.average=exponential", "optimizer.kind=sgd"), sections("train.average")},
	}
	for _, kind := range optimizers.Names() {
		for _, model := range []string{"lstm", "transformer"} {
			set := base("model.kind="+model, "optimizer.kind="+kind, "optimizer.weight_decay=0.1")
			switch kind {
			case "sgd":
				set = append(set, "optimizer.momentum=0.9")
			case "asgd": // averages after an evaluation without a new best
				set = append(set, "optimizer.lr=300", "train.clip=1", "eval.every=1")
			}
			cases = append(cases, effects{kind + " on " + model, set, sections("optimizer.", "train.clip")})
		}
	}
	for _, kind := range configs.Words("schedule.kind") {
		set := append(base("schedule.kind="+kind, "optimizer.kind=koala-v", "optimizer.lr=8", "schedule.warmup=1"), "eval.every=1")
		if kind == "step" {
			set = append(set, "schedule.every=2")
		}
		cases = append(cases, effects{kind + " schedule", set, sections("schedule.")})
	}
	changed := map[string]bool{}
	ran := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ran++
			before := resolve(t, c.set)
			if before == nil {
				t.Fatal("the settings of the case are refused")
			}
			want := trace(t, *before)
			if again := trace(t, *before); again != want {
				t.Fatal("the same settings give another trace")
			}
			for _, kv := range before.Flat() {
				if !c.tries(kv.Key) || unseen[kv.Key] != "" {
					continue
				}
				accepted, effect := false, false
				values := own[kv.Key]
				if values == nil {
					values = slices.Concat(configs.Words(kv.Key), candidates)
				}
				for _, value := range values {
					if value == configs.Text(kv.Value) {
						continue
					}
					after := resolve(t, append(slices.Clip(c.set), kv.Key+"="+value))
					if after == nil {
						continue
					}
					accepted = true
					if effect = trace(t, *after) != want; effect {
						changed[kv.Key] = true
						break
					}
				}
				if accepted && !effect {
					t.Errorf("%s changes nothing, and its declaration has no case for it", kv.Key)
				}
			}
		})
	}
	if ran < len(cases) { // -run selected some cases
		return
	}
	for _, key := range configs.Keys() {
		if !changed[key] && unseen[key] == "" {
			t.Errorf("%s changes nothing in any case", key)
		}
	}
}

// resolve returns the settings, nil if they are refused.
func resolve(t *testing.T, set []string) *configs.Settings {
	t.Helper()
	var b configs.Builder
	for _, assignment := range set {
		b.Assign(assignment, "--set")
	}
	s, err := b.Settings()
	if err != nil {
		return nil
	}
	return &s
}
