package report

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/koala-lm/koala-lm/tracking"
	"github.com/koala-lm/koala-lm/tracking/storetest"
)

// empty is a store without runs.
func empty(t testing.TB) *tracking.Store {
	t.Helper()
	s, err := tracking.Open(filepath.Join(t.TempDir(), "koala.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// filled is a store with a run of every kind and every dangerous name.
func filled(t testing.TB) *tracking.Store {
	t.Helper()
	s := empty(t)
	if err := storetest.Fill(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func allRuns(t testing.TB, s *tracking.Store) []tracking.RunSummary {
	t.Helper()
	runs, err := s.Runs(context.Background(), tracking.Query{})
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

// written returns a presentation's output in a format.
func written(t testing.TB, o Output, write func(Output) error) string {
	t.Helper()
	var b bytes.Buffer
	o.W = &b
	if err := write(o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestListJSON(t *testing.T) {
	s := filled(t)
	text := written(t, Output{Format: JSON}, List{Runs: allRuns(t, s), Columns: DefaultColumns(time.Now())}.Write)
	var records []map[string]any
	if err := json.Unmarshal([]byte(text), &records); err != nil {
		t.Fatal(err)
	}
	last := records[len(records)-1]
	for _, key := range []string{"id", "name", "status", "started", "seconds", "steps", "tokens", "settings", "metrics", "best", "tags"} {
		if _, ok := last[key]; !ok {
			t.Errorf("no %q", key)
		}
	}
	settings := last["settings"].(map[string]any)
	if settings["optimizer.kind"] != "koala-v" || settings["model.tied"] != true || settings["train.batch"] != 20.0 {
		t.Errorf("settings %v", settings)
	}
	if _, err := time.Parse(time.RFC3339, last["started"].(string)); err != nil {
		t.Error(err)
	}
	for i, name := range storetest.DangerousNames {
		if got := records[len(storetest.DangerousNames)-1-i]["name"]; got != name {
			t.Errorf("name %q became %q", name, got)
		}
	}
}

func TestEmptyListJSON(t *testing.T) {
	if text := written(t, Output{Format: JSON}, List{}.Write); text != "[]\n" {
		t.Errorf("%q", text)
	}
}

func TestCSVKeepsNames(t *testing.T) {
	s := filled(t)
	rows, err := csv.NewReader(strings.NewReader(written(t, Output{Format: CSV}, List{Runs: allRuns(t, s), Columns: DefaultColumns(time.Now())}.Write))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range storetest.DangerousNames {
		if got := rows[len(storetest.DangerousNames)-i][1]; got != name {
			t.Errorf("name %q became %q", name, got)
		}
	}
}

// Whatever the names of runs, a terminal gets one line a run without control
// characters, and documents get no markup.
func TestNamesAreHarmless(t *testing.T) {
	s := filled(t)
	runs := allRuns(t, s)
	detail, err := s.Run(context.Background(), storetest.DangerousNames[4])
	if err != nil {
		t.Fatal(err)
	}
	presentations := map[string]func(Output) error{
		"list": List{Runs: runs, Columns: DefaultColumns(time.Now()), Prefix: 8}.Write,
		"show": Show{Run: detail, Now: time.Now()}.Write,
	}
	for name, write := range presentations {
		for _, format := range []Format{Aligned, Separated, Markdown} {
			text := written(t, Output{Format: format, Width: 100}, write)
			if strings.Contains(text, "<script") && format == Markdown {
				t.Errorf("%s as %s has markup", name, format)
			}
			if format == Separated {
				continue // exact values
			}
			for _, r := range text {
				if unicode.IsControl(r) && r != '\n' || unicode.Is(unicode.Bidi_Control, r) {
					t.Errorf("%s as %s has %U", name, format, r)
				}
			}
		}
	}
	for _, format := range []Format{Aligned, Separated, Markdown} {
		lines := strings.Count(written(t, Output{Format: format}, presentations["list"]), "\n")
		if extra := lines - len(runs); extra < 1 || extra > 2 {
			t.Errorf("%d lines for %d runs as %s", lines, len(runs), format)
		}
	}
}

func TestNarrowTerminalDropsSpareColumns(t *testing.T) {
	s := filled(t)
	text := written(t, Output{Format: Aligned, Width: 110}, List{Runs: allRuns(t, s), Columns: DefaultColumns(time.Now()), Prefix: 10}.Write)
	if widest(text) > 110 {
		t.Errorf("%d columns wide", widest(text))
	}
	header, _, _ := strings.Cut(text, "\n")
	for _, title := range []string{"name", "status", "optimizer", "best val_ppl", "best test_ppl"} {
		if !strings.Contains(header, title) {
			t.Errorf("no %s in %q", title, header)
		}
	}
}

func TestListKeepsDatasetsApart(t *testing.T) {
	runs := allRuns(t, filled(t))[:2]
	for _, mixed := range []bool{false, true} {
		list := List{Runs: runs, Columns: DefaultColumns(time.Now()), Prefix: 10}
		text := written(t, Output{Format: Aligned, Width: 60}, list.Write)
		if strings.Contains(text, " dataset ") != mixed {
			t.Errorf("mixed %v:\n%s", mixed, text)
		}
		runs[0].DatasetFingerprint = "another"
	}
}

func TestShowPutsUnigramBeside(t *testing.T) {
	s := filled(t)
	detail, err := s.Run(context.Background(), "koala-v 0")
	if err != nil {
		t.Fatal(err)
	}
	text := written(t, Output{Format: Aligned}, Show{Run: detail, Now: time.Now()}.Write)
	found := false
	for line := range strings.Lines(text) {
		found = found || strings.HasPrefix(line, "valid") && strings.Contains(line, "612.3")
	}
	if !found {
		t.Error(text)
	}
}

func TestFormats(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0", 8.1234: "8.123", 9.99951: "10.00", 81.234: "81.23", 812.34: "812.3", 999.96: "1,000", 8123.4: "8,123",
		1e-5: "1.00e-05", 3e12: "3.00e+12", -81.234: "-81.23",
	} {
		if got := significant(value); got != want {
			t.Errorf("significant(%v) = %s, want %s", value, got, want)
		}
	}
	for value, want := range map[float64]string{0.0123: "12ms", 42.31: "42.3s", 192: "3m12s", 7500: "2h05m", 273600: "3d04h"} {
		if got := span(value); got != want {
			t.Errorf("span(%v) = %s, want %s", value, got, want)
		}
	}
	for value, want := range map[int64]string{999: "999", 12_345: "12.3k", 999_949: "999.9k", 999_950: "1.0M", 3_200_000: "3.2M", 2_000_000_000: "2.0G"} {
		if got := short(value); got != want {
			t.Errorf("short(%v) = %s, want %s", value, got, want)
		}
	}
}

func TestCompareShowsWhatDiffers(t *testing.T) {
	s := filled(t)
	runs, err := s.Runs(context.Background(), tracking.Query{Where: "steps >= 200", Sort: "started"})
	if err != nil || len(runs) != 4 {
		t.Fatalf("%d runs (%v)", len(runs), err)
	}
	compare := Compare{Runs: runs, Now: time.Now()}
	header, _, _ := strings.Cut(written(t, Output{Format: Separated}, compare.Write), "\n")
	columns := strings.Split(header, "\t")
	for _, want := range []string{"id", "name", "status", "optimizer.kind", "optimizer.lr", "model.layers", "val_ppl", "test_ppl"} {
		if !slices.Contains(columns, want) {
			t.Errorf("no %s in %q", want, columns)
		}
	}
	for _, same := range []string{"model.hidden", "dataset", "host", "optimizer.q"} {
		if slices.Contains(columns, same) {
			t.Errorf("%s is the same in all and yet in %q", same, columns)
		}
	}
	narrow := written(t, Output{Format: Aligned, Width: 80}, compare.Write)
	if !strings.HasPrefix(narrow, "id ") || !strings.Contains(narrow, "\noptimizer.kind ") {
		t.Errorf("not turned for a narrow terminal:\n%s", narrow)
	}
	if MixedDatasets(runs) != "" {
		t.Error("one dataset taken for several")
	}
	runs[0].DatasetFingerprint = "another"
	if MixedDatasets(runs) == "" {
		t.Error("different datasets go unnoticed")
	}
}

func TestBestRanksGroups(t *testing.T) {
	s, err := tracking.Open(filepath.Join(t.TempDir(), "koala.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, n := range []struct {
		optimizer, dataset string
		ppl                float64
		status             tracking.Status
	}{
		{"sgd", "d", 100, tracking.Finished}, {"sgd", "d", 104, tracking.Finished}, {"sgd", "d", 60, tracking.Failed}, {"sgd", "d", 0, tracking.Finished},
		{"koala-v", "d", 90, tracking.Finished}, {"koala-v", "d", 96, tracking.Finished}, {"koala-v", "d", math.NaN(), tracking.Finished},
		{"koala-v", "e", 5, tracking.Finished}, {"adam", "d", 103, tracking.Finished},
	} {
		run, err := s.StartRun(context.Background(), tracking.NewRun{
			Settings: map[string]any{"optimizer.kind": n.optimizer}, Dataset: tracking.Dataset{Fingerprint: n.dataset}})
		if err != nil {
			t.Fatal(err)
		}
		if n.ppl != 0 {
			run.Log(tracking.Point{Step: 1, Values: map[string]float64{"val_ppl": n.ppl}})
			run.Log(tracking.Point{Step: 2, Values: map[string]float64{"val_ppl": n.ppl + 50}})
		}
		if err := run.Finish(n.status, ""); err != nil {
			t.Fatal(err)
		}
	}
	rank := func(where string) string {
		best, err := NewBest(context.Background(), s, tracking.Query{Where: where}, "val_ppl", []string{"optimizer.kind"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(strings.NewReader(written(t, Output{Format: CSV}, best.Write))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		var text []string
		for _, row := range rows[1:] {
			text = append(text, strings.Join(row[:len(row)-1], " "))
		}
		return strings.Join(text, "; ")
	}
	// n, diverged, failed, missing, mean, sd and best. A group that lost a seed ranks
	// after the others, although the mean of its other seeds is lower.
	for where, want := range map[string]string{
		"dataset_fingerprint == 'd'": "adam 1 0 0 0 103  103; koala-v 2 1 0 0 93 4.242640687119285 90; sgd 2 0 1 1 102 2.8284271247461903 100",
		"":                           "e koala-v 1 0 0 0 5  5; d adam 1 0 0 0 103  103; d koala-v 2 1 0 0 93 4.242640687119285 90; d sgd 2 0 1 1 102 2.8284271247461903 100",
	} {
		t.Run(where, func(t *testing.T) {
			if got := rank(where); got != want {
				t.Errorf("%s\nwant %s", got, want)
			}
		})
	}
	single, err := NewBest(context.Background(), s, tracking.Query{Where: "dataset_fingerprint == 'd'"}, "val_ppl", nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	single.Last = true
	rows, err := csv.NewReader(strings.NewReader(written(t, Output{Format: CSV}, single.Write))).ReadAll()
	if err != nil || strings.Join(rows[0], " ") != "id name status last best" || len(rows) != 1+7 || single.Missing != 1 {
		t.Fatalf("%q, %d without a value (%v)", rows, single.Missing, err)
	}
	if first, last := strings.Join(rows[1][2:], " "), strings.Join(rows[7][2:], " "); first != "failed 110 60" || last != "diverged NaN NaN" {
		t.Errorf("first %s, last %s", first, last)
	}
	text := written(t, Output{Format: Aligned}, single.Write)
	for _, part := range []string{"best val_ppl", "last val_ppl", "NaN"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	if _, err := NewBest(context.Background(), s, tracking.Query{}, "val_pll", nil, time.Now()); !errors.Is(err, tracking.ErrBadQuestion) {
		t.Error(err)
	}
}

// The names of a sweep's runs are long and differ at their end. Tables fit into 80
// columns and keep both ends of a name.
func TestTablesFitIntoNarrowTerminals(t *testing.T) {
	runs := allRuns(t, filled(t))[:4]
	for i := range runs {
		runs[i].Name = fmt.Sprintf("lr adam optimizer.lr=0.0107%d model.dropout.output=0.25 train.seed=%d", i, i)
		runs[i].Settings["optimizer.lr"] = 0.01 * float64(i)
		runs[i].DatasetFingerprint = fmt.Sprint(i)
	}
	many := allRuns(t, filled(t))
	for i := range many {
		many[i].Name = fmt.Sprintf("lr sgd optimizer.lr=20 train.seed=%d", i)
	}
	for name, write := range map[string]func(Output) error{
		"list":            List{Runs: runs, Columns: DefaultColumns(time.Now()), Prefix: 10}.Write,
		"compare":         Compare{Runs: runs, Prefix: 10, Now: time.Now()}.Write,
		"compare of many": Compare{Runs: many, Prefix: 10, Now: time.Now()}.Write, // in blocks
		"query": Table{Columns: []Column{{Title: "a"}, {Title: "b"}, {Title: "c"}},
			Rows: [][]any{{"seed=0", strings.Repeat("b", 50), strings.Repeat("c", 50)}, {"seed=1", "seed=2", "seed=3"}}}.Write,
		"as wide as the terminal": Table{Columns: []Column{{Title: "a"}, {Title: "b"}},
			Rows: [][]any{{"seed=0", strings.Repeat("b", 62)}, {"---", ""}, {"seed=1", "seed=2"}, {"seed=3", ""}}}.Write,
	} {
		t.Run(name, func(t *testing.T) {
			for _, unicode := range []bool{false, true} {
				for width := 70; width <= 90; width++ {
					if text := written(t, Output{Format: Aligned, Width: width, Unicode: unicode}, write); widest(text) > width {
						t.Errorf("%d columns wide on %d:\n%s", widest(text), width, text)
					}
				}
				text := written(t, Output{Format: Aligned, Width: 80, Unicode: unicode}, write)
				for i := range runs {
					if !strings.Contains(text, fmt.Sprintf("seed=%d", i)) {
						t.Errorf("run %d cannot be told apart:\n%s", i, text)
					}
				}
			}
		})
	}
}
