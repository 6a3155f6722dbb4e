package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/internal/torch/torchtest"
	"github.com/koala-lm/koala-lm/koala"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// A job describes a training run of a test. 6 batches make an epoch.
type job struct {
	model      lm.Config
	optimizer  string
	batching   string
	accumulate int
	schedule   spec.Schedule
	checkpoint int64 // steps between checkpoints
	average    int64 // asgd: step at which averaging starts; 0 waits for valid
	freeze     []string
	values     setting.Values // of the optimizer
}

const vocab = 11

func lstm() lm.Config {
	return lm.Config{
		Kind: "lstm", Vocab: vocab, Layers: 2, Embed: 4, Hidden: 6, Tied: true,
		Dropout: lm.Dropout{Input: 0.2, Embed: 0.1, Hidden: 0.2, Output: 0.2, Weight: 0.1, Locked: true},
	}
}

func baseJob() job {
	return job{model: lstm(), optimizer: "koala-v", batching: "contiguous", accumulate: 1, schedule: spec.Schedule{Kind: "constant"}}
}

// text returns random tokens that depend on seed alone.
func text(seed uint64, n int) *data.Tokens {
	r := rand.New(rand.NewPCG(seed, 0))
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = uint32(r.IntN(vocab))
	}
	return data.NewTokens(ids)
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (j job) trainer(t testing.TB, observers ...lm.Observer) *lm.Trainer {
	t.Helper()
	t.Cleanup(torchtest.Threads(t, 1)) // the models are tiny
	model := must[lm.Model](t)(lm.New(j.model, 1, gotch.CPU))
	t.Cleanup(model.Close)
	if err := lm.Freeze(model, j.freeze); err != nil {
		t.Fatal(err)
	}
	values := maps.Clone(j.values)
	if values == nil {
		values = setting.Values{}
	}
	if j.average > 0 {
		values["average_from"] = j.average
	}
	kind := must[*koalaspec.Kind](t)(koalaspec.Lookup(j.optimizer))
	optimizer := must[koala.Optimizer](t)(lm.NewOptimizer(kind, values, model))
	t.Cleanup(func() {
		if err := optimizer.Close(); err != nil {
			t.Error(err)
		}
	})
	var batches data.Batcher
	tokens := text(1, 2*(6*5+1))
	switch j.batching {
	case "contiguous":
		batches = must[data.Batcher](t)(data.NewContiguous(tokens, 2, 5))
	case "random":
		batches = must[data.Batcher](t)(data.NewRandom(tokens, 2, 5, 1))
	case "variable":
		batches = must[data.Batcher](t)(data.NewContiguous(tokens, 2, 5, data.VariableLength(1)))
	}
	return &lm.Trainer{
		Config: lm.TrainConfig{Train: spec.Train{Steps: 20, Accumulate: j.accumulate, Seed: 1, Alpha: 0.5, Beta: 0.5, MaxSkipped: 5, LogEvery: 3}, Eval: spec.Eval{Every: 4}, Checkpoint: spec.Checkpoint{Every: j.checkpoint}, Schedule: j.schedule},
		Model:  model, Optimizer: optimizer, Train: batches, Device: gotch.CPU, Observers: observers,
		Valid: func() (data.Batcher, error) { return data.NewContiguous(text(2, 40), 2, 5, data.Evaluation()) },
	}
}

// A witness records the events of training.
type witness struct {
	lm.NoObserver
	seen map[int64][]any // the events of each step
	last image
}

func newWitness() *witness { return &witness{seen: map[int64][]any{}} }

func (w *witness) note(step int64, what any) error {
	w.seen[step] = append(w.seen[step], what)
	return nil
}

func (w *witness) Stepped(s lm.Step) error {
	s.Phases = lm.Phases{}
	return w.note(s.Step, s)
}

func (w *witness) Logged(l lm.Log) error {
	l.Phases, l.Step.Phases, l.TokensPerSecond = lm.Phases{}, lm.Phases{}, 0
	return w.note(l.Step.Step, l)
}

func (w *witness) Evaluated(e lm.Evaluation) error {
	e.Took = 0
	return w.note(e.Step, e)
}

func (w *witness) EpochEnded(e lm.Epoch) error { return w.note(e.Step, e) }

func (w *witness) Checkpoint(snap *lm.Snapshot, best bool) error {
	return w.last.take(snap, Origin{})
}

// forget drops the events beyond a step, as the store does.
func (w *witness) forget(after int64) {
	for step := range w.seen {
		if step > after {
			delete(w.seen, step)
		}
	}
}

// state returns the last state without its times.
func (w *witness) state(t testing.TB) map[string]string {
	t.Helper()
	state := w.last.state
	state.Progress.Elapsed = 0
	all := map[string]string{"state": string(must[[]byte](t)(json.Marshal(state)))}
	for _, info := range w.last.infos {
		all[info.Name] = string(w.last.contents[info.Name])
	}
	return all
}

func (w *witness) mustEqual(t testing.TB, want *witness) {
	t.Helper()
	if diff := cmp.Diff(want.seen, w.seen); diff != "" {
		t.Errorf("what was announced (-uninterrupted +resumed):\n%s", diff)
	}
	if diff := cmp.Diff(want.state(t), w.state(t)); diff != "" {
		t.Errorf("the last state (-uninterrupted +resumed):\n%s", diff)
	}
}

// stopper ends training after a step, as Ctrl-C does.
type stopper struct {
	lm.NoObserver
	at   int64
	stop context.CancelFunc
}

func (s *stopper) Stepped(step lm.Step) error {
	if step.Step == s.at {
		s.stop()
	}
	return nil
}

// run trains until the end, or until the given step if there is one.
func run(t testing.TB, trainer *lm.Trainer, until int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	trainer.Observers = append(trainer.Observers, &stopper{at: until, stop: cancel})
	err := trainer.Run(ctx)
	if until > 0 && !errors.Is(err, lm.ErrInterrupted) || until == 0 && err != nil {
		t.Fatalf("until step %d: %v", until, err)
	}
}

func newKeeper(t testing.TB, folder string, j job, from *File) *Keeper {
	t.Helper()
	return must[*Keeper](t)(NewKeeper(Config{
		Folder: folder, Keep: 2,
		Origin: Origin{Run: "run", Settings: json.RawMessage(`{"model.kind":"lstm"}`), Vocab: vocab},
	}, from))
}

// trained returns a folder with the checkpoints of a run that ended at a step.
func trained(t testing.TB, j job, until int64) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "checkpoints")
	k := newKeeper(t, folder, j, nil)
	run(t, j.trainer(t, k), until)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	return folder
}

func latest(t testing.TB, folder string) *File {
	t.Helper()
	f, damaged, err := Latest(folder)
	if err != nil || len(damaged) > 0 {
		t.Fatal(damaged, err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// weights returns a model's weights by name.
func weights(t testing.TB, m lm.Model) map[string][]float32 {
	t.Helper()
	all := map[string][]float32{}
	err := torch.Do(func(s *torch.Scope) error {
		for _, p := range m.Params() {
			all[p.Name] = torch.ToSlice[float32](s, p.Tensor)
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// live counts the tensor handles that are not freed.
func live() int { return len(ts.ExistingTensors) }
