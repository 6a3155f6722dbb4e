package data

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// counting returns tokens 0, 1, 2, ..., so that each token's value is its
// position.
func counting(n int) *Tokens {
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = uint32(i)
	}
	return NewTokens(ids)
}

func clone(b Batch) Batch {
	b.Inputs = append([]int64(nil), b.Inputs...)
	b.Targets = append([]int64(nil), b.Targets...)
	b.First = append([]int64(nil), b.First...)
	return b
}

func take(t *testing.T, b Batcher, n int) []Batch {
	t.Helper()
	var batches []Batch
	for range n {
		batch, err := b.Next()
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, clone(batch))
	}
	return batches
}

// 26 letters in 4 columns, as the tutorial of word_language_model draws them.
func TestContiguousIsWordLanguageModels(t *testing.T) {
	b, err := NewContiguous(counting(26), 4, 2)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Steps(); got != 3 {
		t.Errorf("Steps() = %d, want 3", got)
	}
	got := take(t, b, 4)
	want := []Batch{
		{Inputs: []int64{0, 6, 12, 18, 1, 7, 13, 19}, Targets: []int64{1, 7, 13, 19, 2, 8, 14, 20}, B: 4, GlobalBatch: 4, T: 2, TimeMajor: true, ResetState: true, Predictions: 8},
		{Inputs: []int64{2, 8, 14, 20, 3, 9, 15, 21}, Targets: []int64{3, 9, 15, 21, 4, 10, 16, 22}, B: 4, GlobalBatch: 4, T: 2, TimeMajor: true, Index: 1, Predictions: 8},
		{Inputs: []int64{4, 10, 16, 22}, Targets: []int64{5, 11, 17, 23}, B: 4, GlobalBatch: 4, T: 1, TimeMajor: true, Index: 2, Predictions: 4},
		{Inputs: []int64{0, 6, 12, 18, 1, 7, 13, 19}, Targets: []int64{1, 7, 13, 19, 2, 8, 14, 20}, B: 4, GlobalBatch: 4, T: 2, TimeMajor: true, ResetState: true, Epoch: 1, Predictions: 8},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestEvaluationPredictsEveryTokenButTheFirstOnce(t *testing.T) {
	for _, n := range []int{2, 3, 7, 20, 21, 64, 101} {
		for _, batch := range []int{1, 2, 3, 10, 30} {
			for _, length := range []int{1, 4, 7, 200} {
				for name, make := range map[string]func() (Batcher, error){
					"contiguous": func() (Batcher, error) { return NewContiguous(counting(n), batch, length, Evaluation()) },
					"sequential": func() (Batcher, error) { return NewSequential(counting(n), batch, length, Evaluation()) },
					"stride": func() (Batcher, error) {
						return NewSequential(counting(n), batch, length, Evaluation(), Stride((length+1)/2))
					},
				} {
					t.Run(fmt.Sprintf("%s/%d/%d/%d", name, n, batch, length), func(t *testing.T) {
						b, err := make()
						if err != nil {
							t.Fatal(err)
						}
						checkOnce(t, b, n)
					})
				}
			}
		}
	}
}

func checkOnce(t *testing.T, b Batcher, n int) {
	t.Helper()
	seen := map[int64]int{}
	steps, predictions := 0, 0
	for ; ; steps++ {
		batch, err := b.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		counted := 0
		for i, target := range batch.Targets {
			if target == Ignore {
				continue
			}
			if batch.Inputs[i] != target-1 {
				t.Fatalf("target %d after input %d", target, batch.Inputs[i])
			}
			seen[target]++
			counted++
		}
		if counted != batch.Predictions {
			t.Errorf("batch %d: Predictions = %d, counted %d", steps, batch.Predictions, counted)
		}
		predictions += counted
	}
	if predictions != n-1 || len(seen) != n-1 {
		t.Errorf("%d predictions of %d tokens, want %d", predictions, len(seen), n-1)
	}
	if steps != b.Steps() {
		t.Errorf("%d batches, Steps() = %d", steps, b.Steps())
	}
}

// A Batcher continues from any cursor as the first Batcher did.
func TestSeekResumesAnywhere(t *testing.T) {
	tokens := counting(331)
	for name, make := range map[string]func() (Batcher, error){
		"contiguous": func() (Batcher, error) { return NewContiguous(tokens, 3, 7) },
		"variable":   func() (Batcher, error) { return NewContiguous(tokens, 3, 12, VariableLength(5)) },
		"random":     func() (Batcher, error) { return NewRandom(tokens, 4, 9, 11) },
		"sequential": func() (Batcher, error) { return NewSequential(tokens, 4, 9) },
	} {
		t.Run(name, func(t *testing.T) {
			whole, err := make()
			if err != nil {
				t.Fatal(err)
			}
			var cursors []Cursor
			var batches []Batch
			for range 40 {
				cursors = append(cursors, whole.Cursor())
				batches = append(batches, take(t, whole, 1)...)
			}
			if last := batches[len(batches)-1]; last.Epoch == 0 {
				t.Fatal("the test does not reach a second epoch")
			}
			for i, cursor := range cursors {
				resumed, err := make()
				if err != nil {
					t.Fatal(err)
				}
				if err := resumed.Seek(cursor); err != nil {
					t.Fatalf("Seek(%+v): %v", cursor, err)
				}
				n := min(5, len(batches)-i)
				if diff := cmp.Diff(batches[i:i+n], take(t, resumed, n)); diff != "" {
					t.Fatalf("after %+v (-want +got):\n%s", cursor, diff)
				}
			}
			for _, bad := range []Cursor{{Epoch: -1}, {Index: -1}, {Index: 1 << 40}, {Index: 1, Position: 1 << 40}} {
				if err := whole.Seek(bad); err == nil {
					t.Errorf("Seek(%+v) is accepted", bad)
				}
			}
		})
	}
}

func TestVariableLength(t *testing.T) {
	b, err := NewContiguous(counting(200_000), 2, 70, VariableLength(1))
	if err != nil {
		t.Fatal(err)
	}
	steps, short, total := b.Steps(), 0, 0
	for i, batch := range take(t, b, steps) {
		if i < steps-1 && (batch.T < 5 || batch.T > 85) {
			t.Errorf("batch %d has length %d", i, batch.T)
		}
		if batch.T < 52 {
			short++
		}
		total += batch.T
	}
	if total != 99_999 {
		t.Errorf("an epoch has %d rows, want 99999", total)
	}
	if share := float64(short) / float64(steps); share < 0.03 || share > 0.07 {
		t.Errorf("%.3f of the batches are short, want about 0.05", share)
	}
}

func TestRandomWindowsCoverTheText(t *testing.T) {
	tokens := counting(50)
	b, err := NewRandom(tokens, 8, 10, 3)
	if err != nil {
		t.Fatal(err)
	}
	first := map[int64]bool{}
	for _, batch := range take(t, b, 200) {
		for row := range batch.B {
			in, out := batch.Inputs[row*10:][:10], batch.Targets[row*10:][:10]
			first[in[0]] = true
			for i := range in {
				if in[i] != in[0]+int64(i) || out[i] != in[i]+1 {
					t.Fatalf("window %v -> %v", in, out)
				}
			}
		}
	}
	if len(first) != 40 {
		t.Errorf("windows start at %d places, want all 40", len(first))
	}
}

func TestTooLittleText(t *testing.T) {
	for name, make := range map[string]func() (Batcher, error){
		"contiguous": func() (Batcher, error) { return NewContiguous(counting(39), 20, 35) },
		"random":     func() (Batcher, error) { return NewRandom(counting(64), 12, 64, 1) },
		"sequential": func() (Batcher, error) { return NewSequential(counting(64), 1, 64) },
		"evaluation": func() (Batcher, error) { return NewContiguous(counting(1), 1, 64, Evaluation()) },
		"batch":      func() (Batcher, error) { return NewContiguous(counting(100), 0, 64) },
		"stride": func() (Batcher, error) {
			return NewSequential(counting(100), 1, 10, Evaluation(), Stride(11))
		},
	} {
		if b, err := make(); err == nil {
			t.Errorf("%s: made %v of too little text", name, b)
		}
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	b, err := NewContiguous(counting(100_000), 20, 35)
	if err != nil {
		t.Fatal(err)
	}
	take(t, b, 1)
	if allocs := testing.AllocsPerRun(100, func() {
		if _, err := b.Next(); err != nil {
			t.Fatal(err)
		}
	}); allocs > 0 {
		t.Errorf("Next allocates %v times", allocs)
	}
}

func BenchmarkContiguous(b *testing.B) {
	batches, err := NewContiguous(counting(1_000_000), 20, 35)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := batches.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

// Every batching says where the document of each input starts within its text.
func TestWithinDocuments(t *testing.T) {
	positions := []int{0, 3, 3, 10, 11, 40, 58}
	tokens := counting(64).WithDocuments(positions)
	for _, name := range Batchings() {
		for _, list := range [][]BatchOption{nil, {Evaluation()}} {
			b, err := NewBatcher(name, tokens, 3, 7, 1, append(list, WithinDocuments())...)
			if err != nil {
				t.Fatal(err)
			}
			for range b.Steps() {
				batch, err := b.Next()
				if err != nil {
					t.Fatal(err)
				}
				at := func(text, i int) int {
					if batch.TimeMajor {
						return i*batch.B + text
					}
					return text*batch.T + i
				}
				for text := range batch.B {
					for i := range batch.T {
						if batch.Targets[at(text, i)] == Ignore {
							continue
						}
						start, token := 0, batch.Inputs[at(text, i)] // which is its position
						for _, position := range positions {
							if int64(position) <= token {
								start = position
							}
						}
						want := max(0, int64(start)-batch.Inputs[at(text, 0)])
						if got := batch.First[at(text, i)]; got != want {
							t.Fatalf("%s: token %d, number %d of text %d, has the first %d, want %d", name, token, i, text, got, want)
						}
					}
				}
			}
		}
		if _, err := NewBatcher(name, counting(64), 3, 7, 1, WithinDocuments()); err == nil || !strings.Contains(err.Error(), "no index of documents") {
			t.Errorf("%s without an index: %v", name, err)
		}
	}
}
