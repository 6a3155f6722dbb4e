package report

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/koala-lm/koala-lm/tracking"
	"github.com/koala-lm/koala-lm/tracking/storetest"
)

// filled is a store with a run of every kind and every dangerous name.
func filled(t testing.TB) *tracking.Store {
	t.Helper()
	s, err := tracking.Open(filepath.Join(t.TempDir(), "koala.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
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

// written is what a presentation writes in a format.
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
	text := written(t, Output{Format: JSON}, List{Runs: allRuns(t, s)}.Write)
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
	rows, err := csv.NewReader(strings.NewReader(written(t, Output{Format: CSV}, List{Runs: allRuns(t, s)}.Write))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range storetest.DangerousNames {
		if got := rows[len(storetest.DangerousNames)-i][1]; got != name {
			t.Errorf("name %q became %q", name, got)
		}
	}
}

// Whatever a run is called, a terminal gets one line a run and no control
// characters, and documents no markup.
func TestNamesAreHarmless(t *testing.T) {
	s := filled(t)
	runs := allRuns(t, s)
	detail, err := s.Run(context.Background(), storetest.DangerousNames[4])
	if err != nil {
		t.Fatal(err)
	}
	presentations := map[string]func(Output) error{
		"list": List{Runs: runs, Prefix: 8, Now: time.Now()}.Write,
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
	text := written(t, Output{Format: Aligned, Width: 110}, List{Runs: allRuns(t, s), Prefix: 10, Now: time.Now()}.Write)
	if widest(text) > 110 {
		t.Errorf("%d columns wide", widest(text))
	}
	header, _, _ := strings.Cut(text, "\n")
	for _, title := range []string{"name", "status", "optimizer", "val_ppl", "test_ppl", "unigram"} {
		if !strings.Contains(header, title) {
			t.Errorf("no %s in %q", title, header)
		}
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
		0: "0.000", 8.1234: "8.123", 9.99951: "10.00", 81.234: "81.23", 812.34: "812.3", 999.96: "1,000", 8123.4: "8,123",
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
