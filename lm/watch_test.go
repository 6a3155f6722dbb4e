package lm_test

import (
	"context"
	"fmt"
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

// An early group adds gradients up by c10d while backward still makes others.
type early struct{ *torch.Group }

func (g early) Sum(tensors ...*ts.Tensor) error { return g.Group.Sum(nil, tensors...) }

func (g early) Watch(params []*ts.Tensor) (lm.Watch, error) {
	w, err := g.Group.Watch(params, true)
	return earlyWatch{w}, err
}

type earlyWatch struct{ *torch.Watch }

func (w earlyWatch) Sum(others ...*ts.Tensor) ([]torch.Bucket, error) {
	return w.Buckets, w.Watch.Sum(nil, others...)
}

// pair opens a group of two in this process.
func pair(t *testing.T) [2]early {
	t.Helper()
	var groups [2]early
	served, err := torch.OpenStore(nil, torch.StoreOptions{Host: "127.0.0.1", Serve: true, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(served.Close)
	var wait sync.WaitGroup
	for rank := range groups {
		wait.Go(func() { // with connections of their own, for each holds one as long as it waits
			store, err := torch.OpenStore(nil, torch.StoreOptions{Host: "127.0.0.1", Port: served.Port(), Timeout: 20 * time.Second})
			if err != nil {
				t.Error(err)
				return
			}
			g, err := torch.OpenGroup(nil, store, torch.GroupOptions{
				Rank: rank, Size: 2, Device: gotch.CPU, Address: "127.0.0.1", Timeout: 20 * time.Second,
			})
			if err != nil {
				t.Error(err)
				return
			}
			groups[rank] = early{g}
		})
	}
	wait.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return groups
}

// TestEarlySums: sums that begin during backward leave the bits of those after it,
// also where gradients come from several batches or not at all.
func TestEarlySums(t *testing.T) {
	wide := without(shapes["gpt2"])
	wide.Embed, wide.Hidden, wide.Layers = 126, 504, 4
	split := without(shapes["gru"])
	split.Embed, split.Hidden = 256, 256
	for name, model := range map[string]lm.Config{"gpt2": wide, "gru": split} {
		for _, accumulate := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, %d batches a step", name, accumulate), func(t *testing.T) {
				j := job{model, koalaspec.AdamW, lm.TrainConfig{Train: spec.Train{Steps: 5, Accumulate: accumulate}}, 4}
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
