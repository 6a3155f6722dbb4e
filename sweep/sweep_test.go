package sweep

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/configs"
)

func mustParse(t testing.TB, content string) *File {
	t.Helper()
	f, err := parse("s.yaml", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func labels(t testing.TB, content string) []string {
	t.Helper()
	trials, err := mustParse(t, content).Trials(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	list := make([]string, len(trials))
	for i, trial := range trials {
		list[i] = trial.Label
	}
	return list
}

func TestGrid(t *testing.T) {
	got := labels(t, `
set: {optimizer.kind: sgd, train.epochs: 1}
grid:
  optimizer: {lr: [5, 20]}
  train.clip: [0.25]
  model.dropout.input: [0, 0.5]
seeds: [1, 2]
`)
	want := []string{
		"optimizer.lr=5 model.dropout.input=0 train.seed=1",
		"optimizer.lr=5 model.dropout.input=0 train.seed=2",
		"optimizer.lr=5 model.dropout.input=0.5 train.seed=1",
		"optimizer.lr=5 model.dropout.input=0.5 train.seed=2",
		"optimizer.lr=20 model.dropout.input=0 train.seed=1",
		"optimizer.lr=20 model.dropout.input=0 train.seed=2",
		"optimizer.lr=20 model.dropout.input=0.5 train.seed=1",
		"optimizer.lr=20 model.dropout.input=0.5 train.seed=2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSearchesShareTheTop(t *testing.T) {
	f := mustParse(t, `
name: kinds
data: prepared/x
config: [small, wlm-small]
set: {train.epochs: 2}
seeds: [7]
searches:
  - set: {optimizer.kind: adam}
    grid: {optimizer.lr: [1e-3]}
  - set: {optimizer.kind: koala-v, optimizer.q: 5}
  - set: {optimizer.kind: koala-v, optimizer.q: 5}
`)
	trials, err := f.Trials(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	if len(trials) != 2 {
		t.Fatalf("%d trials, want 2: one comes twice", len(trials))
	}
	want := []string{"train.epochs=2", "optimizer.kind=adam", "optimizer.lr=1e-3", "train.seed=7"}
	if diff := cmp.Diff(want, trials[0].Set); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s := trials[1].Settings
	if s.Optimizer.Float("q") != 5 || s.Train.Epochs != 2 || s.Train.Seed != 7 || s.Schedule.Kind != "plateau" {
		t.Errorf("settings %+v", s)
	}
	if f.Name != "kinds" || f.Data != "prepared/x" {
		t.Errorf("name %q, data %q", f.Name, f.Data)
	}
}

const random = `
random:
  optimizer.lr: {log: [0.001, 10]}
  model.dropout.input: {uniform: [0, 0.6]}
  model.hidden: {int: [100, 103]}
  train.bptt: {log: [16, 64]}
  optimizer.kind: [koala-v, koala++]
trials: `

func TestRandomIsDeterministic(t *testing.T) {
	few, many := labels(t, random+"5"), labels(t, random+"50")
	if diff := cmp.Diff(few, many[:5]); diff != "" {
		t.Errorf("more trials change the first ones (-few +many):\n%s", diff)
	}
	if cmp.Equal(few, labels(t, random+"5\nrandom_seed: 2")) {
		t.Error("another seed draws the same")
	}
	trials, err := mustParse(t, random+"200").Trials(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	hidden, small := map[int64]int{}, 0
	for _, trial := range trials {
		s := trial.Settings
		hidden[s.Model.Hidden]++
		if s.Train.BPTT < 16 || s.Train.BPTT > 64 {
			t.Errorf("out of range: %s", trial.Label)
		}
		if s.Optimizer.Float("lr") < 0.1 {
			small++
		}
		if s.Optimizer.Float("lr") < 0.001 || s.Optimizer.Float("lr") > 10 || s.Model.Dropout.Input < 0 || s.Model.Dropout.Input > 0.6 {
			t.Errorf("out of range: %s", trial.Label)
		}
	}
	if len(hidden) != 4 || small < 70 || small > 130 {
		t.Errorf("drawn unevenly: hidden %v, %d of 200 below the middle of the logarithms", hidden, small)
	}
}

func TestIDs(t *testing.T) {
	f := mustParse(t, "grid: {train.batch: [1, 2]}")
	a, _ := f.Trials(t.Context(), "data")
	again, _ := f.Trials(t.Context(), "data")
	other, _ := f.Trials(t.Context(), "other data")
	if diff := cmp.Diff(a, again); diff != "" {
		t.Errorf("the same file twice (-first +second):\n%s", diff)
	}
	if a[0].ID == a[1].ID || a[0].ID == other[0].ID {
		t.Errorf("ids %s, %s and on other data %s", a[0].ID, a[1].ID, other[0].ID)
	}
}

func TestProblems(t *testing.T) {
	for _, test := range []struct{ content, want string }{
		{"", "s.yaml: there is nothing in it"},
		{"- a", "s.yaml:1:1: a sweep must be a mapping"},
		{"gird: {}", `s.yaml:1:1: unknown key "gird": did you mean grid?`},
		{"optimizer.lr: [1]", `s.yaml:1:1: unknown key "optimizer.lr": settings belong under set, grid or random`},
		{"grid: [1", "s.yaml:2:1: not YAML: did not find expected ',' or ']'"},
		{"grid: {train.batch: 3}", "s.yaml:1:21: train.batch must be a list of the values to try"},
		{"grid: {train.batch: []}", "s.yaml:1:21: train.batch must be a list of the values to try"},
		{"grid: 3", "s.yaml:1:7: grid must be a mapping from settings to values"},
		{"grid: {a: [1]}\ngrid: {b: [1]}", "s.yaml:2:1: grid is there twice"},
		{"random: {train.batch: [1]}", "s.yaml:1:1: random needs trials, the number of draws"},
		{"trials: 3", "s.yaml:1:1: trials is the number of random draws, and there is no random"},
		{"trials: x\nrandom: {train.batch: [1]}", "s.yaml:1:9: trials must be a whole number from 1 to 10000"},
		{"random: {train.batch: {int: [3, 1]}}\ntrials: 1", "s.yaml:1:23: train.batch: {int: ...} needs two numbers, the lower one first (and above 0 for log)"},
		{"random: {optimizer.lr: {loguniform: [1, 2]}}\ntrials: 1", `s.yaml:1:25: optimizer.lr: "loguniform" is no distribution: draw from one of {uniform: [a, b]}, {log: [a, b]}, {int: [a, b]}, or from a list`},
		{"stop: {kind: best}\ngrid: {train.batch: [1]}", `s.yaml:1:7: stop needs kind: asha or median, not "best"`},
		{"stop: {kind: asha}\ngrid: {train.batch: [1]}", "s.yaml:1:7: stop needs min_steps, the steps that every trial trains"},
		{"direction: up", `s.yaml:1:12: direction must be min or max, not "up"`},
		{"time_limit: 3", `s.yaml:1:13: time_limit must be a time such as 90m or 12h, not "3"`},
		{"random: {train.batch: 3}\ntrials: 1", "s.yaml:1:23: train.batch must be a list to draw from, or one of {uniform: [a, b]}, {log: [a, b]}, {int: [a, b]}"},
		{"random: {a: [1]}\ntrials: 1\ngrid: {b: [1]}", "s.yaml:1:1: grid and random are two searches: list them under searches"},
		{"searches: [{name: a}, {name: a}]", `s.yaml:1:23: another search is called "a" too`},
		{"grid: {train.seed: [1]}\nbest_seeds: [2]", "s.yaml:1:1: seeds and train.seed are the same: give one"},
		{"grid: {train.seed: [1]}\nseeds: [2]", "s.yaml:1:1: seeds and train.seed are the same: give one"},
		{"searches: 3", "s.yaml:1:11: searches must be a list"},
		{"grid: {a: [1]}\nsearches: [{}]", "s.yaml:2:11: beside searches, grid, random and trials belong into one of them"},
		{"name: a b\nseeds: [1]", `s.yaml: name "a b" must be of letters, digits, dots, - and _`},
		{"seeds: [1]\n---\nseeds: [2]", "s.yaml:1:1: more than one document: a sweep is one"},
		{"seeds: [*a]", "s.yaml:1:9: not YAML: unknown anchor 'a' referenced"},
	} {
		_, err := parse("s.yaml", []byte(test.content))
		if err == nil || err.Error() != test.want {
			t.Errorf("%s\ngot  %v\nwant %s", test.content, err, test.want)
		}
	}
}

// Settings are checked before anything runs, and each problem is reported once.
func TestProblemsOfSettings(t *testing.T) {
	_, err := mustParse(t, "grid:\n  optimizer.lr: [1, -1]\n  train.bacth: [2]\nseeds: [1, 2, 3]").Trials(t.Context(), "data")
	want := "s.yaml:3:17: unknown setting \"train.bacth\": did you mean train.batch?\n" +
		"s.yaml:2:21: optimizer.lr must be a number greater than 0, not -1"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	_, err = mustParse(t, "grid: {train.seed: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "+
		"train.batch: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], train.bptt: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], train.clip: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "+
		"optimizer.lr: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], optimizer.q: [1, 2]}").Trials(t.Context(), "data")
	if err == nil || err.Error() != "s.yaml: more than 10000 trials" {
		t.Errorf("a huge grid: %v", err)
	}
}

// A file that no person writes is refused without going through all of it, and listing
// trials ends with its context.
func TestHugeFiles(t *testing.T) {
	each := func(format string, n int) string {
		var all strings.Builder
		for i := range n {
			fmt.Fprintf(&all, format, i)
		}
		return all.String()
	}
	for _, test := range []struct {
		content string
		lines   int // of the problems
		want    string
	}{
		{each("k%d: 1\n", 5000), configs.MostProblems, `s.yaml:1:1: unknown key "k0"`},
		{"grid: {" + each("x%d: [1],", 5000) + "}", 1, "s.yaml:1:7: grid has more than 1000 settings"},
		{"set: {" + each("optimizer.lr: %d,", 5000) + "}", 1, "s.yaml:1:6: set has more than 1000 settings"},
		{"searches: [" + each("{name: s%d, grid: {optimizer.lr: [0.1, 1]}},", 5001) + "]", 1, "s.yaml: more than 10000 trials"},
		{"seeds: [" + each("%d,", 10_001) + "]", 1, "s.yaml: more than 10000 trials"},
	} {
		f, err := parse("s.yaml", []byte(test.content))
		if err == nil {
			_, err = f.Trials(t.Context(), "data")
		}
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Count(err.Error(), "\n") != test.lines-1 {
			t.Errorf("%.40s: error is %.200v, want %d lines with %s", test.content, err, test.lines, test.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mustParse(t, "seeds: [1, 2]").Trials(ctx, "data"); !errors.Is(err, context.Canceled) {
		t.Errorf("after an interrupt: %v", err)
	}
}

func TestForEach(t *testing.T) {
	trials := make([]Trial, 20)
	for i := range trials {
		trials[i].ID = string(rune('a' + i))
	}
	// The first three calls wait for each other: without three at a time the test
	// would not end.
	var mu sync.Mutex
	var together sync.WaitGroup
	together.Add(3)
	started, running, most := 0, 0, 0
	forEach(t.Context(), trials, 3, func(context.Context, Trial) {
		mu.Lock()
		started++
		running++
		most = max(most, running)
		first := started <= 3
		mu.Unlock()
		if first {
			together.Done()
			together.Wait()
		}
		mu.Lock()
		running--
		mu.Unlock()
	})
	if started != 20 || most != 3 {
		t.Errorf("%d of 20 done, %d at a time", started, most)
	}

	ctx, cancel := context.WithCancel(t.Context())
	count := 0
	forEach(ctx, trials, 1, func(context.Context, Trial) {
		if count++; count == 4 {
			cancel()
		}
	})
	if count != 4 {
		t.Errorf("%d were worked on after the end", count-4)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("name: a\ndata: d\nconfig: small\n" + random + "3\nseeds: [1]\n")
	f.Add("searches:\n  - set: {train.epochs: 1}\n    grid: {model.cutoffs: [[1, 2], []]}\n")
	f.Fuzz(func(t *testing.T, content string) {
		file, err := parse("s.yaml", []byte(content))
		if err != nil {
			if len(err.(Problems)) == 0 {
				t.Fatal("an error without a problem")
			}
			return
		}
		for i := range file.searches {
			if s := &file.searches[i]; s.trials > 50 {
				s.trials = 50
			}
		}
		first, err := file.Trials(t.Context(), "data")
		if err != nil {
			return
		}
		second, err := file.Trials(t.Context(), "data")
		if err != nil || !cmp.Equal(first, second) {
			t.Fatalf("the second expansion differs: %v", err)
		}
	})
}
