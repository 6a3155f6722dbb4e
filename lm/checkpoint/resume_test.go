package checkpoint

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/setting"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// jobs vary one thing at a time.
func jobs() map[string]job {
	all := map[string]job{}
	for _, kind := range koalaspec.Names() {
		j := baseJob()
		j.optimizer = kind
		all[kind] = j
	}
	vary := func(name string, change func(*job)) {
		j := baseJob()
		change(&j)
		all[name] = j
	}
	vary("asgd averaging", func(j *job) { j.optimizer, j.average = "asgd", 5 })
	vary("gru", func(j *job) { j.model.Kind = "gru" })
	vary("adaptive softmax", func(j *job) {
		j.model.Tied, j.model.Softmax, j.model.Cutoffs = false, "adaptive", []int64{4, 8}
	})
	for _, form := range []lm.Config{
		{Norm: "layer", Position: "learned", MLP: "gelu", KVHeads: 2, Tied: true},
		{Norm: "rms", Position: "rotary", MLP: "swiglu", KVHeads: 1},
	} {
		form.Kind, form.Vocab, form.Layers, form.Embed, form.Hidden, form.Heads, form.Context = "transformer", vocab, 2, 8, 16, 2, 5
		form.Dropout = lm.Dropout{Input: 0.1, Hidden: 0.1}
		vary("transformer "+form.MLP, func(j *job) { j.model, j.batching = form, "random" })
	}
	vary("accumulate", func(j *job) { j.accumulate = 4 }) // 6 batches an epoch: the epoch ends within a step
	vary("random", func(j *job) { j.batching = "random" })
	vary("variable length", func(j *job) { j.batching = "variable" })
	vary("cosine", func(j *job) { j.schedule = spec.Schedule{Kind: "cosine", Warmup: 3, Floor: 0.1} })
	vary("plateau", func(j *job) { j.schedule = spec.Schedule{Kind: "plateau", Gamma: 0.5} })
	return all
}

// A run that was stopped at any step and resumed with new objects has the same
// events and the same final bits as an uninterrupted one.
func TestSameBits(t *testing.T) {
	for name, j := range jobs() {
		t.Run(name, func(t *testing.T) {
			whole := newWitness()
			run(t, j.trainer(t, whole), 0)
			// 4: an evaluation; 6: the end of an epoch; 12: both; 20: the end.
			for _, stop := range []int64{1, 4, 5, 6, 7, 12, 19, 20} {
				t.Run(fmt.Sprint(stop), func(t *testing.T) {
					folder := filepath.Join(t.TempDir(), "checkpoints")
					w := newWitness()
					keeper := newKeeper(t, folder, j, nil)
					run(t, j.trainer(t, w, keeper), stop)
					if err := keeper.Close(); err != nil {
						t.Fatal(err)
					}
					resume(t, j, folder, w)
					w.mustEqual(t, whole)
				})
			}
		})
	}
}

// Frozen tensors keep their bits under every optimizer, its weight decay and its average
// of the weights, and through a checkpoint. The others move.
func TestFrozenKeepsItsBits(t *testing.T) {
	frozen := []string{"encoder.weight", "*_l0"}
	for _, kind := range koalaspec.Kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			j := baseJob()
			j.optimizer, j.freeze, j.values = kind.Name, frozen, setting.Values{"weight_decay": 0.1}
			if kind.Has("average_from") {
				j.average = 3
			} else if !kind.Averages {
				j.values["average"] = "exponential"
			}
			whole := newWitness()
			trainer := j.trainer(t, whole)
			before := weights(t, trainer.Model)
			run(t, trainer, 0)
			w, folder := newWitness(), filepath.Join(t.TempDir(), "checkpoints")
			keeper := newKeeper(t, folder, j, nil)
			run(t, j.trainer(t, w, keeper), 7)
			if err := keeper.Close(); err != nil {
				t.Fatal(err)
			}
			resume(t, j, folder, w)
			w.mustEqual(t, whole)

			saved := j.trainer(t)
			if err := latest(t, folder).LoadWeights(saved.Model); err != nil {
				t.Fatal(err)
			}
			for what, after := range map[string]map[string][]float32{"trained": weights(t, trainer.Model), "saved": weights(t, saved.Model)} {
				for name := range before {
					keeps := name == "encoder.weight" || strings.HasSuffix(name, "_l0")
					if same := slices.Equal(before[name], after[name]); same != keeps {
						t.Errorf("%s: %s is unchanged: %v, want %v", what, name, same, keeps)
					}
				}
			}
		})
	}
}

// resume continues from a folder's newest checkpoint to the end.
func resume(t testing.TB, j job, folder string, w *witness) {
	t.Helper()
	f := latest(t, folder)
	w.forget(f.State.Progress.Step)
	keeper := newKeeper(t, folder, j, f)
	trainer := j.trainer(t, w, keeper)
	if err := f.Restore(trainer); err != nil {
		t.Fatal(err)
	}
	run(t, trainer, 0)
	if err := keeper.Close(); err != nil {
		t.Fatal(err)
	}
}

// A killed process leaves a checkpoint that is some steps old.
func TestSameBitsFromAnOldCheckpoint(t *testing.T) {
	j := baseJob()
	j.checkpoint = 3
	whole := newWitness()
	run(t, j.trainer(t, whole), 0)
	for _, killed := range []int64{5, 8, 11, 17} {
		w := newWitness()
		k := newKeeper(t, filepath.Join(t.TempDir(), "checkpoints"), j, nil)
		trainer := j.trainer(t, w, k, &killer{at: killed})
		if err := runToError(trainer); err != errKilled {
			t.Fatal(err)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		resume(t, j, k.config.Folder, w)
		w.mustEqual(t, whole)
	}
}

func TestRestoreRefusesAnotherModel(t *testing.T) {
	folder := trained(t, baseJob(), 5)
	f := latest(t, folder)
	j := baseJob()
	j.model.Embed = 5
	trainer := j.trainer(t)
	before := weights(t, trainer.Model)
	if err := f.Restore(trainer); err == nil {
		t.Error("a checkpoint went into a model of another width")
	}
	if err := f.LoadWeights(trainer.Model); err == nil {
		t.Error("weights went into a model of another width")
	}
	if !equal(before, weights(t, trainer.Model)) {
		t.Error("the model has changed")
	}
}

// A checkpoint holds the weights whose loss was announced: with averaging the
// average, which other commands then load.
func TestHoldsWhatWasEvaluated(t *testing.T) {
	for name, j := range map[string]job{"sgd": {optimizer: "sgd"}, "asgd": {optimizer: "asgd", average: 5}} {
		t.Run(name, func(t *testing.T) {
			b := baseJob()
			b.optimizer, b.average, b.checkpoint = j.optimizer, j.average, 4
			w := newWitness()
			k := newKeeper(t, filepath.Join(t.TempDir(), "checkpoints"), b, nil)
			run(t, b.trainer(t, w, k), 0)
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			other := b.trainer(t)
			f := latest(t, k.config.Folder)
			if err := f.LoadWeights(other.Model); err != nil {
				t.Fatal(err)
			}
			batches := must[data.Batcher](t)(other.Valid())
			got := must[lm.Result](t)(lm.EvaluateText(context.Background(), other.Model, batches, gotch.CPU))
			announced := w.seen[20][len(w.seen[20])-1].(lm.Evaluation)
			if diff := cmp.Diff(announced.Result, got); diff != "" {
				t.Errorf("(-announced +loaded):\n%s", diff)
			}
			if _, ok := f.reader.Lookup("optimizer/average.decoder.bias"); ok != (j.average > 0) {
				t.Errorf("an average in the checkpoint: %v; it holds %v", ok, f.reader.Tensors())
			}
		})
	}
}
