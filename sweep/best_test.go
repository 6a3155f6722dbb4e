package sweep

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const searches = `
seeds: [1, 2]
best_seeds: [3, 4]
searches:
  - name: SGD with momentum
    set: {optimizer.kind: sgd, optimizer.momentum: 0.9}
    grid: {optimizer.lr: [1, 2, 4]}
  - name: Adam
    set: {optimizer.kind: adam}
    grid: {optimizer.lr: [0.1, 0.2]}
    best_seeds: [3]
  - name: no best of one
    set: {optimizer.kind: asgd}
    grid: {optimizer.lr: [9]}
`

func TestRepeats(t *testing.T) {
	f := mustParse(t, searches)
	trials, err := f.Trials(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	if got := trials[0].Search; got != "SGD with momentum" {
		t.Errorf("search %q", got)
	}
	// Among sgd's points, lr 1 has the best run, but lr 2 the lower mean; lr 4
	// failed with one of its seeds. No asgd run has a result.
	results := map[string]float64{}
	for i, result := range []float64{1, 9, 3, 4, 0, -1, 6, 6, 5, 5} {
		if result >= 0 {
			results[trials[i].ID] = result
		}
	}
	repeats, err := f.Repeats("data", func(id string) (float64, bool) {
		result, ok := results[id]
		return result, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, trial := range repeats {
		got = append(got, trial.Search+": "+trial.Label)
	}
	want := []string{
		"SGD with momentum: optimizer.lr=2 train.seed=3",
		"SGD with momentum: optimizer.lr=2 train.seed=4",
		"Adam: optimizer.lr=0.2 train.seed=3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSetLiesOverTheFileAndUnderTheGrid(t *testing.T) {
	f := mustParse(t, "set: {train.epochs: 2}\ngrid: {train.batch: [3]}")
	for _, assignment := range []string{"train.epochs=1", "train.batch=9"} {
		if err := f.Set(assignment, "--set"); err != nil {
			t.Fatal(err)
		}
	}
	trials, err := f.Trials(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	if s := trials[0].Settings.Train; s.Epochs != 1 || s.Batch != 3 {
		t.Errorf("epochs %d, batch %d", s.Epochs, s.Batch)
	}
	if err := f.Set("train.batch", "--set"); err == nil || err.Error() != `--set: "train.batch" must be key=value, such as train.batch=40` {
		t.Errorf("no value: %v", err)
	}
	if err := f.Set("train.bacth=1", "--set"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Trials(t.Context(), "data"); err == nil || err.Error() != `--set: unknown setting "train.bacth": did you mean train.batch?` {
		t.Errorf("an unknown setting: %v", err)
	}
}
