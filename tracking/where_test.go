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
		{"c", "sgd", "baseline", 20, true, math.NaN()}, // val_ppl 70, then NaN
		{"d", "adam", "", nil, false, 130},
	} {
		settings := map[string]any{"optimizer.kind": n.optimizer, "model.tied": n.tied}
		if n.lr != nil {
			settings["optimizer.lr"] = n.lr
		}
		settings["model.kind"] = map[string]string{"a": "lstm", "b": "lstm", "c": "gru", "d": "mamba"}[n.name] // of another version
		if r := map[string]any{"a": "adaptive", "b": 0.5, "c": 2.0}[n.name]; r != nil {
			settings["optimizer.r"] = r
		}
		if interval := map[string]string{"a": "10m0s", "b": "1m30s"}[n.name]; interval != "" {
			settings["checkpoint.interval"] = interval
		}
		run := startRun(t, s, NewRun{ID: n.name, Name: "run " + n.name, Tags: []string{n.tag}, Settings: settings})
		first := n.ppl - 20
		if n.name == "c" {
			first = 70
		}
		run.Log(Point{Step: 1, Values: map[string]float64{"val_ppl": first}})
		train := 100.0
		if n.name == "d" {
			train = math.Inf(1)
		}
		run.Log(Point{Step: 2, Values: map[string]float64{"val_ppl": n.ppl, "train_ppl": train}})
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
		"120 > val_ppl":             "ab",
		"not (val_ppl < 120)":       "cd",
		"best.val_ppl < 100":        "abc",
		"metrics.val_ppl > 100":     "ad",
		"settings.optimizer.lr > 0": "abc",
		"optimizer.lr == nil":       "d",
		"nil != optimizer.lr":       "abc",
		"optimizer.lr != 20":        "abd",
		"optimizer.lr >= 0.5 and optimizer.lr <= 1": "ab",
		"val_ppl == nil":                              "",
		"val_ppl == NaN":                              "c",
		"val_ppl != NaN":                              "abd",
		"train_ppl == inf":                            "d",
		"train_ppl > -inf && train_ppl < inf":         "abc",
		"finite(val_ppl)":                             "abd",
		"!finite(train_ppl)":                          "d",
		"diverged":                                    "c",
		"diverged == false":                           "abd",
		"model.tied":                                  "ac",
		"!model.tied && status == 'failed'":           "d",
		"model.tied == false":                         "bd",
		"git_dirty":                                   "",
		"'baseline' in tags":                          "ac",
		`"odd ' tag" in tags`:                         "b",
		"not ('baseline' in tags)":                    "bd",
		"name in tags":                                "",
		"optimizer.kind in ['sgd', 'adam']":           "cd",
		"status in ['failed', 'crashed']":             "d",
		"optimizer.lr in [20, 0.5]":                   "bc",
		"optimizer.lr in [20, nil]":                   "cd",
		"optimizer.kind not in ['sgd']":               "abd",
		"id in []":                                    "",
		"optimizer.kind startsWith 'koala'":           "ab",
		"name endsWith 'd'":                           "d",
		"name contains 'un '":                         "abcd",
		"parent == nil":                               "abcd",
		"name == \"'; DROP TABLE runs\" or id == 'a'": "a",
		"started > '2026-01-02T12'":                   "cd",
		"started == '2026-01-02'":                     "b",
		"started != '2026-01-02'":                     "acd",
		"started > ago('2.5d')":                       "cd",
		"started < ago('60h')":                        "ab",
		"ended > started":                             "",
		"val_ppl / train_ppl > 1.05":                  "a",
		"steps / 4 == 0.5":                            "abcd",
		"val_ppl - train_ppl > 5":                     "a",
		"100 < val_ppl && val_ppl < 120 || id == 'c'": "ac",
		"-val_ppl < -100":                             "ad",
		"steps == 2":                                  "abcd",
		"checkpoint.interval == '10m'":                "a",
		"checkpoint.interval > '90s'":                 "a",
		"'2m' >= checkpoint.interval":                 "b",
		"checkpoint.interval < '0.5d'":                "ab",
		"checkpoint.interval == nil":                  "cd",
		"model.kind == 'lstm'":                        "ab",
		"model.kind != 'transformer'":                 "abcd", // no run has it, but one could
		"model.kind == 'mamba'":                       "d",
		"model.kind in ['gru', 'mamba']":              "cd",
		"model.kind endsWith 'u'":                     "c",
		"model.kind startsWith 'mam'":                 "d",
		"status startsWith 'fin'":                     "abc",
		"optimizer.r == 'adaptive'":                   "a",
		"optimizer.r != 'adaptive'":                   "bcd",
		"optimizer.r < 1":                             "b", // a word is neither less nor greater
		"optimizer.r > 0":                             "bc",
		"2 == optimizer.r":                            "c",
		"optimizer.r in ['adaptive', 2]":              "ac",
		"optimizer.r * 2 == 1":                        "b",
		"optimizer.r == nil":                          "d",
	}
	for where, want := range tests {
		t.Run(where, func(t *testing.T) {
			runs, err := s.Runs(context.Background(), Query{Where: where, Sort: "id"})
			if err != nil {
				t.Error(err)
			} else if got := namesOf(runs); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// Operands of different types never compare: SQLite would order them by their
// storage class, so that optimizer.lr < '0.0001' holds for every run.
func TestWhereErrorsPointAtThePlace(t *testing.T) {
	s := fourRuns(t)
	tests := map[string][]string{
		"optimizer.kind = 'sgd'":          {"(1:16)", "compared with =="},
		"val_pll < 3":                     {"(1:1)", "did you mean val_ppl?", " | ^"},
		"steps > 1 && optimiser.kind > 2": {"(1:24)", "did you mean optimizer.kind?"},
		"zzz == 1":                        {"(1:1)", "unknown name"},
		"metrics.optimizer.lr < 1":        {`"optimizer.lr": it is no metric`},
		"best.steps < 1":                  {`"steps": it is no metric`},
		"settings.val_ppl < 1":            {`"val_ppl": it is no setting`},
		"steps >":                         {"(1:"},
		"len(name) > 3":                   {"no such expression"},
		"upper(name) == 'A'":              {"no such expression"},
		"frobnicate(name)":                {"(1:", "ago"},
		"name in 'abc'":                   {"(1:9)", "list"},
		"started > ago('soon')":           {"(1:", "36h"},
		"name matches '.*'":               {"matches"},
		"tags == 'a'":                     {"'name' in tags"},
		"steps ? 1 : 2":                   {"no such expression"},
		"name[0] == 'a'":                  {"names are like"},
		"'a":                              {"(1:"},
		"name contains steps":             {"text in quotes"},
		"optimizer.lr < '0.0001'":         {"(1:16)", "optimizer.lr is a number, as in optimizer.lr < 120", "the text '0.0001'", "without quotes"},
		"'0.0001' > optimizer.lr":         {"(1:1)", "optimizer.lr is a number"},
		"optimizer.lr == '1'":             {"optimizer.lr is a number"},
		"optimizer.lr in [1, '20']":       {"optimizer.lr is a number", "the text '20'"},
		"val_ppl < '400'":                 {"val_ppl is a number"},
		"best.val_ppl < '400'":            {"best.val_ppl is a number"},
		"steps < '1k'":                    {"steps is a number"},
		"seconds < '1m'":                  {"seconds is a number", "write 1m as 60 seconds"},
		"name > 5":                        {"(1:8)", "name is a text, as in name == 'text'", "the number 5"},
		"optimizer.kind == 5":             {"optimizer.kind is a text", "as in optimizer.kind == 'koala"},
		"checkpoint.interval > 3600":      {"checkpoint.interval is a duration, as in checkpoint.interval > '1h30m'", "the number 3600"},
		"checkpoint.interval > 'long'":    {"checkpoint.interval is a duration", "the text 'long'"},
		"started > 'yesterday'":           {"started is a time", "'2026-01-31'", "ago('36h')"},
		"started > 2026":                  {"started is a time"},
		"status == 'done'":                {"(1:11)", "status is never 'done': it is ", "failed", "running", "interrupted", "crashed", "as in status == 'f"},
		"status == 'runing'":              {"status is never 'runing': it is running, ", "as in status == 'running'"},
		"status in ['failed', 'died']":    {"(1:22)", "status is never 'died': it is failed, "},
		"status contains 'inter '":        {"status never contains 'inter '"},
		"model.kind == 'lsmt'":            {"(1:15)", "model.kind is never 'lsmt': it is lstm, gru or transformer, as in model.kind == 'lstm'"},
		"'LSMT' != model.kind":            {"(1:1)", "model.kind is never 'LSMT': it is lstm, "},
		"settings.model.kind == ''":       {"model.kind is never ''"},
		"model.kind startsWith 'lsmt'":    {"(1:23)", "model.kind never startsWith 'lsmt': it is lstm, "},
		"model.kind == 5":                 {"model.kind is a text, as in model.kind == 'lstm'"},
		"optimizer.kind in ['sgd','adm']": {"(1:26)", "optimizer.kind is never 'adm': it is adam, ", "as in optimizer.kind == 'adam'"},
		"optimizer.lr == -1":              {"(1:17)", "optimizer.lr is never -1: it is a number greater than 0"},
		"optimizer.lr in [1, 0]":          {"optimizer.lr is never the number 0"},
		"optimizer.r == 'adaptve'":        {"optimizer.r is never 'adaptve': it is adaptive, or a number greater than 0, as in optimizer.r == 'adaptive'"},
		"optimizer.r < 'adaptive'":        {"== or !="},
		"optimizer.r == true":             {"optimizer.r is a number or a word"},
		"status == failed":                {"in quotes", "status == 'failed'"},
		"status < 'failed'":               {"== or !="},
		"model.tied == 'true'":            {"model.tied is true or false", "model.tied == true"},
		"model.tied > false":              {"== or !="},
		"model.tied == 1":                 {"model.tied is true or false"},
		"val_ppl":                         {"val_ppl is a number, not a condition", "val_ppl < 120"},
		"'a'":                             {"not a condition"},
		"5":                               {"not a condition"},
		"val_ppl && steps > 1":            {"val_ppl is a number, not a condition"},
		"!steps":                          {"steps is a number, not a condition"},
		"name + 1 > 2":                    {"name is a text", "calculated"},
		"-name == 'a'":                    {"name is a text"},
		"steps startsWith '1'":            {"steps is a number"},
		"5 in tags":                       {"a tag is a text"},
		"val_ppl < nil":                   {"== or !="},
		"val_ppl < NaN":                   {"val_ppl == NaN"},
		"val_ppl == null":                 {"nil"},
		"val_ppl == NULL":                 {"nil"},
		"model.tied == yes":               {"write true"},
		"model.tied != False":             {"write false"},
		"steps > 1 AND steps < 3":         {"unexpected AND", "joined by and"},
		"steps > 1 OR steps < 3":          {"unexpected OR", "joined by or"},
		"name LIKE 'a%'":                  {"unexpected LIKE", "contains"},
		"name IS nil":                     {"unexpected IS", "== nil"},
		"steps <> 3":                      {"unexpected >", "!="},
		"val_ppl < 1e400":                 {"1e400 is no number that can be compared (1:15)"},
		"steps < 99999999999999999999":    {"99999999999999999999 is no number that can be compared"},
		"steps < 10s":                     {"10s... is no number", "'1h30m'"},
		"train.time_limit > 1h30m":        {"no unit"},
		"steps > 1 &&":                    {"the condition ends too early"},
		"(steps > 1":                      {"the condition ends too early"},
		"finite(name)":                    {"name is a text"},
		"finite()":                        {"finite(val_ppl)"},
		"1 < 'a'":                         {"the number 1 is a number", "the text 'a'"},
	}
	for where, want := range tests {
		t.Run(where, func(t *testing.T) {
			_, err := s.Runs(context.Background(), Query{Where: where})
			if !errors.Is(err, ErrBadQuestion) {
				t.Fatal(err)
			}
			for _, part := range want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("no %q in %v", part, err)
				}
			}
		})
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
		t.Run(order, func(t *testing.T) {
			runs, err := s.Runs(context.Background(), Query{Sort: order})
			if err != nil || namesOf(runs) != want {
				t.Errorf("%q, want %q (%v)", namesOf(runs), want, err)
			}
		})
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

// Without runs, every name and its type are unknown, but not the settings' values.
func TestValuesInEmptyStore(t *testing.T) {
	_, err := newStore(t).Runs(context.Background(), Query{Where: "model.kind == 'lsmt'"})
	if !errors.Is(err, ErrBadQuestion) || !strings.Contains(err.Error(), "lstm") {
		t.Error(err)
	}
}

func TestNameInEmptyStore(t *testing.T) {
	runs, err := newStore(t).Runs(context.Background(), Query{Where: "val_ppl < 3", Sort: "optimizer.lr"})
	if diff := cmp.Diff([]RunSummary(nil), runs, cmp.AllowUnexported(RunSummary{})); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

// Every filter gives runs or ErrBadQuestion: no user's text reaches SQL as SQL.
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
