package lm_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// An overlapping group all-reduces with c10d while backward still computes
// gradients.
type overlapping struct{ *torch.ProcessGroup }

func (g overlapping) AllReduce(tensors ...*ts.Tensor) error {
	return g.ProcessGroup.AllReduce(nil, tensors...)
}

func (g overlapping) NewReducer(params []*ts.Tensor) (lm.Reducer, error) {
	r, err := g.ProcessGroup.NewReducer(params, true)
	return overlappingReducer{r}, err
}

type overlappingReducer struct{ *torch.Reducer }

func (r overlappingReducer) Finish(numbers []float64) ([]float64, error) {
	return r.Reducer.Finish(nil, numbers)
}

// pair opens a group of two in this process.
func pair(t *testing.T) [2]overlapping {
	t.Helper()
	var groups [2]overlapping
	served, err := torch.OpenKVStore(nil, torch.KVStoreOptions{Host: "127.0.0.1", Serve: true, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(served.Close)
	var wait sync.WaitGroup
	for rank := range groups {
		wait.Go(func() { // each has its own connection, which a look-up blocks
			store, err := torch.OpenKVStore(nil, torch.KVStoreOptions{Host: "127.0.0.1", Port: served.Port(), Timeout: 20 * time.Second})
			if err != nil {
				t.Error(err)
				return
			}
			g, err := torch.OpenProcessGroup(nil, store, torch.ProcessGroupOptions{
				Rank: rank, Size: 2, Device: gotch.CPU, Address: "127.0.0.1", Timeout: 20 * time.Second,
			})
			if err != nil {
				t.Error(err)
				return
			}
			groups[rank] = overlapping{g}
		})
	}
	wait.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return groups
}

// An all-reduce that overlaps with backward gives the same bits as one after
// backward, even if gradients come from several batches or are absent.
func TestOverlap(t *testing.T) {
	wide := without(shapes["gpt2"])
	wide.Embed, wide.Hidden, wide.Layers = 126, 504, 4
	split := without(shapes["gru"])
	split.Embed, split.Hidden = 256, 256
	for name, model := range map[string]lm.Config{"gpt2": wide, "gpt2 checkpointed": wide, "gru": split} {
		for _, accumulate := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, %d batches a step", name, accumulate), func(t *testing.T) {
				j := job{model: model, kind: koalaspec.AdamW, config: lm.TrainConfig{Train: spec.Train{Steps: 5, Accumulate: accumulate}}, whole: 4}
				j.config.GradientCheckpointing = strings.HasSuffix(name, "checkpointed")
				want := j.mustRun(t, 2, nil)
				groups := pair(t)
				got := j.run(t, 2, nil, func(rank int, tr *lm.Trainer) context.Context {
					tr.Group = groups[rank]
					return t.Context()
				})
				for rank, r := range got {
					if r.err != nil {
						t.Fatalf("rank %d: %v", rank, r.err)
					}
					sameLosses(t, fmt.Sprintf("rank %d", rank), want[rank].losses(), r.losses(), 0)
					if !cmp.Equal(r.weights, want[rank].weights) {
						t.Errorf("rank %d has other weights", rank)
					}
				}
			})
		}
	}
}
