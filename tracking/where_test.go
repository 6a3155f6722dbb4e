package tracking

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fourRuns is a store with four runs: a, b, c and d from the oldest to the newest.
func fourRuns(t testing.TB) *Store {
	t.Helper()
	s := newStore(t)
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return clock }
	for _, n := range []struct {
		name, optimizer, tag string
		lr                   any
		tied                 bool
		ppl                  float64
	}{
		{"a", "koala-v", "baseline", 1.0, true, 110},
		{"b", "koala-v", "odd ' tag", 0.5, false, 90},
		{"c", "sgd", "baseline", 20, true, math.NaN()},
		{"d", "adam", "", nil, false, 130},
	} {
		settings := map[string]any{"optimizer.kind": n.optimizer, "model.tied": n.tied}
		if n.lr != nil {
			settings["optimizer.lr"] = n.lr
		}
		run := startRun(t, s, NewRun{ID: n.name, Name: "run " + n.name, Tags: []string{n.tag}, Settings: settings})
		run.Log(Point{Step: 1, Values: map[string]float64{"val_ppl": n.ppl - 20}})
		run.Log(Point{Step: 2, Values: map[string]float64{"val_ppl": n.ppl, "train_ppl": 100}})
		status := Finished
		if n.name == "d" {
			status = Failed
		}
		if err := run.Finish(status, ""); err != nil {
			t.Fatal(err)
		}
		clock = clock.Add(24 * time.Hour)
	}
	return s
}

func namesOf(runs []RunSummary) string {
	var names strings.Builder
	for _, run := range runs {
		names.WriteString(run.ID)
	}
	return names.String()
}

func TestWhere(t *testing.T) {
	s := fourRuns(t)
	tests := map[string]string{
		"":                          "abcd",
		"optimizer.kind == 'sgd'":   "c",
		`optimizer.kind != "sgd"`:   "abd",
		"val_ppl < 120":             "ab",
		"not (val_ppl < 120)":       "cd",
		"best.val_ppl < 100":        "ab",
		"metrics.val_ppl > 100":     "ad",
		"settings.optimizer.lr > 0": "abc",
		"optimizer.lr == nil":       "d",
		"optimizer.lr != 20":        "abd",
		"optimizer.lr >= 0.5 and optimizer.lr <= 1": "ab",
		"val_ppl == nil":                              "c",
		"model.tied":                                  "ac",
		"!model.tied && status == 'failed'":           "d",
		"model.tied == false":                         "bd",
		"'baseline' in tags":                          "ac",
		`"odd ' tag" in tags`:                         "b",
		"not ('baseline' in tags)":                    "bd",
		"optimizer.kind in ['sgd', 'adam']":           "cd",
		"optimizer.lr in [20, 0.5]":                   "bc",
		"optimizer.kind startsWith 'koala'":           "ab",
		"name endsWith 'd'":                           "d",
		"name contains 'un '":                         "abcd",
		"name == \"'; DROP TABLE runs\" or id == 'a'": "a",
		"started > '2026-01-02T12'":                   "cd",
		"started > ago('2.5d')":                       "cd",
		"started < ago('60h')":                        "ab",
		"val_ppl / train_ppl > 1.05":                  "ad",
		"val_ppl - train_ppl > 5":                     "ad",
		"100 < val_ppl && val_ppl < 120 || id == 'c'": "ac",
		"-val_ppl < -100":                             "ad",
		"steps == 2":                                  "abcd",
	}
	for where, want := range tests {
		runs, err := s.Runs(context.Background(), Query{Where: where, Sort: "id"})
		if err != nil {
			t.Errorf("%s: %v", where, err)
		} else if got := namesOf(runs); got != want {
			t.Errorf("%s: %q, want %q", where, got, want)
		}
	}
}

func TestWhereErrorsPointAtThePlace(t *testing.T) {
	s := fourRuns(t)
	tests := map[string][]string{
		"optimizer.kind = 'sgd'":          {"(1:16)", "compared with =="},
		"val_pll < 3":                     {"(1:1)", "did you mean val_ppl?", " | ^"},
		"steps > 1 && optimiser.kind > 2": {"(1:24)", "did you mean optimizer.kind?"},
		"zzz == 1":                        {"(1:1)", "unknown name"},
		"steps >":                         {"(1:"},
		"len(name) > 3":                   {"not understood"},
		"upper(name) == 'A'":              {"not understood"},
		"frobnicate(name)":                {"(1:", "ago"},
		"name in 'abc'":                   {"(1:9)", "list"},
		"started > ago('soon')":           {"(1:", "36h"},
		"name matches '.*'":               {"matches"},
		"tags == 'a'":                     {"'name' in tags"},
		"steps ? 1 : 2":                   {"not understood"},
		"name[0] == 'a'":                  {"names are like"},
		"'a":                              {"(1:"},
		"name contains steps":             {"text in quotes"},
	}
	for where, want := range tests {
		_, err := s.Runs(context.Background(), Query{Where: where})
		if !errors.Is(err, ErrBadQuestion) {
			t.Errorf("%s: %v", where, err)
			continue
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: no %q in %v", where, part, err)
			}
		}
	}
}

func TestSort(t *testing.T) {
	s := fourRuns(t)
	tests := map[string]string{
		"":                   "dcba",
		"val_ppl":            "badc",
		"-val_ppl":           "dabc",
		"-optimizer.kind,id": "cabd",
		"optimizer.lr":       "bacd",
		"started":            "abcd",
	}
	for order, want := range tests {
		runs, err := s.Runs(context.Background(), Query{Sort: order})
		if err != nil || namesOf(runs) != want {
			t.Errorf("%q: %q, want %q (%v)", order, namesOf(runs), want, err)
		}
	}
	for _, order := range []string{"val_pll", ",", "-", "id;DROP"} {
		if _, err := s.Runs(context.Background(), Query{Sort: order}); !errors.Is(err, ErrBadQuestion) {
			t.Errorf("%q: %v", order, err)
		}
	}
	runs, err := s.Runs(context.Background(), Query{Sort: "val_ppl", Limit: 2, IDs: []string{"a", "c", "d"}})
	if err != nil || namesOf(runs) != "ad" {
		t.Errorf("%q (%v)", namesOf(runs), err)
	}
}

func TestNameInEmptyStore(t *testing.T) {
	runs, err := newStore(t).Runs(context.Background(), Query{Where: "val_ppl < 3", Sort: "optimizer.lr"})
	if diff := cmp.Diff([]RunSummary(nil), runs, cmp.AllowUnexported(RunSummary{})); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

// Whatever is asked, the answer is runs or ErrBadQuestion: nothing a user
// writes reaches SQL as SQL.
func FuzzWhere(f *testing.F) {
	for _, seed := range []string{
		"optimizer.kind == 'koala-v' && val_ppl < 120", "'x' in tags", "a.b.c", "not steps in [1,2]", "1/0", "ago('1d')",
		"name == \"';--\"", "x?.y", "-(-1)", "steps ?? 1", "{a: 1}", "let x = 1; x", "#", "nil", "true and", "1..3",
	} {
		f.Add(seed)
	}
	s := fourRuns(f)
	f.Fuzz(func(t *testing.T, where string) {
		_, err := s.Runs(context.Background(), Query{Where: where})
		if err != nil && !errors.Is(err, ErrBadQuestion) {
			t.Errorf("%q: %v", where, err)
		}
	})
}
