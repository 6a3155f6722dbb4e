package data

import (
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The ranks' shards together are a single process's batch, text by text.
func TestSharesMakeTheWholeBatch(t *testing.T) {
	text := counting(211)
	for name, open := range map[string]func(...BatchOption) (Batcher, error){
		"contiguous": func(o ...BatchOption) (Batcher, error) {
			return NewContiguous(text, 5, 4, append(o, VariableLength(3))...)
		},
		"random":     func(o ...BatchOption) (Batcher, error) { return NewRandom(text, 5, 4, 3, o...) },
		"sequential": func(o ...BatchOption) (Batcher, error) { return NewSequential(text, 5, 4, o...) },
		"evaluation": func(o ...BatchOption) (Batcher, error) { return NewContiguous(text, 5, 4, append(o, Evaluation())...) },
		"windows": func(o ...BatchOption) (Batcher, error) {
			return NewSequential(text, 5, 4, append(o, Evaluation(), Stride(3))...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			whole, err := open()
			if err != nil {
				t.Fatal(err)
			}
			n := 2 * whole.Steps()
			if name == "evaluation" || name == "windows" {
				n /= 2
			}
			want := take(t, whole, n)
			for _, of := range []int{1, 2, 3, 5} {
				got := make([][]Batch, of)
				for rank := range of {
					part, err := open(Shard(rank, of))
					if err != nil {
						t.Fatal(err)
					}
					got[rank] = take(t, part, n)
				}
				for i, w := range want {
					predictions, column := 0, 0
					for rank := range of {
						g := got[rank][i]
						predictions += g.Predictions
						for b := range g.B {
							if diff := cmp.Diff(textOf(w, column), textOf(g, b)); diff != "" {
								t.Fatalf("batch %d, text %d, rank %d of %d (-want +got):\n%s", i, column, rank, of, diff)
							}
							column++
						}
						if g.GlobalBatch != 5 || g.ResetState != w.ResetState || g.Index != w.Index || g.Epoch != w.Epoch {
							t.Errorf("batch %d of rank %d of %d is %+v", i, rank, of, g)
						}
					}
					if predictions != w.Predictions || column != w.B {
						t.Errorf("batch %d: %d predictions of %d texts, want %d of %d", i, predictions, column, w.Predictions, w.B)
					}
				}
			}
		})
	}
}

// textOf returns inputs and targets of one text of a batch.
func textOf(b Batch, i int) [2][]int64 {
	var out [2][]int64
	for k, values := range [][]int64{b.Inputs, b.Targets} {
		for step := range b.T {
			if b.TimeMajor {
				out[k] = append(out[k], values[step*b.B+i])
			} else {
				out[k] = append(out[k], values[i*b.T+step])
			}
		}
	}
	return out
}

func TestMoreProcessesThanTexts(t *testing.T) {
	if _, err := NewContiguous(counting(100), 2, 4, Shard(0, 3)); err == nil {
		t.Error("a batch of 2 texts was divided among 3 processes")
	}
	seen := 0
	for rank := range 3 {
		b, err := NewContiguous(counting(100), 2, 4, Evaluation(), Shard(rank, 3))
		if err != nil {
			t.Fatal(err)
		}
		for {
			batch, err := b.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			seen += batch.Predictions
		}
	}
	if seen != 99 {
		t.Errorf("3 processes evaluated %d predictions of 99", seen)
	}
}

func TestPart(t *testing.T) {
	var all []int
	for rank := range 7 {
		for i, to := ShardRange(24, rank, 7); i < to; i++ {
			all = append(all, i)
		}
		if from, to := ShardRange(24, rank, 7); to-from < 3 || to-from > 4 {
			t.Errorf("rank %d has %d to %d", rank, from, to)
		}
	}
	if len(all) != 24 || !slices.IsSorted(all) {
		t.Errorf("parts are %v", all)
	}
}
