package report

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/tracking"
	"github.com/koala-lm/koala-lm/tracking/storetest"
)

// sweepRun is a run of 100 steps that evaluates at 50 and 100.
type sweepRun struct {
	search    string
	lr        float64
	seed      int
	half, end float64 // val_ppl
	optimizer float64 // ms
	status    tracking.Status
}

func sweepStore(t *testing.T, runs ...sweepRun) *tracking.Store {
	t.Helper()
	s, err := tracking.Open(filepath.Join(t.TempDir(), "koala.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, r := range runs {
		n := storetest.Example("x", "adam", r.seed, 1)
		n.Tags = []string{"sweep:s", "search:" + r.search}
		n.Settings["optimizer.lr"], n.Settings["optimizer.kind"] = r.lr, r.search
		run, err := s.StartRun(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		for step := int64(10); step <= 100; step += 10 {
			values := map[string]float64{"forward_ms": 1, "loss_ms": 5, "backward_ms": 2, "optimizer_ms": r.optimizer}
			if step == 10 {
				values["loss_ms"], values["optimizer_ms"] = 900, 900 // another program used the machine
			}
			switch {
			case step == 50 && r.status == tracking.Finished:
				values["val_ppl"], values["val_loss"] = r.half, math.Log(r.half)
			case step == 100 && r.status == tracking.Finished:
				values["val_ppl"], values["val_loss"], values["test_ppl"] = r.end, math.Log(r.end), r.end+1
			}
			if err := run.Log(tracking.Point{Step: step, Tokens: 700 * step, Values: values}); err != nil {
				t.Fatal(err)
			}
		}
		if err := run.Finish(r.status, ""); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func testSweep(t *testing.T) *Sweep {
	t.Helper()
	done := tracking.Finished
	store := sweepStore(t,
		sweepRun{"quick", 1, 1, 300, 210, 2, done},
		sweepRun{"quick", 3, 1, 280, 200, 2, done},
		sweepRun{"quick", 10, 1, 0, 0, 2, tracking.Failed},
		sweepRun{"quick", 3, 2, 260, 204, 2, done},
		sweepRun{"slow", 0.1, 1, 400, 100, 12, done},
		sweepRun{"slow", 0.3, 1, 200, 150, 12, done},
	)
	s, err := NewSweep(t.Context(), store, "s", nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A step of quick costs 10 ms, a step of slow 20 ms: after 100 steps of quick, slow
// is at step 50. Slow is at 202 after 83.
func TestSweepResults(t *testing.T) {
	want := [][]any{
		{"slow", 0.1, int64(1), int64(0), int64(0), int64(0), math.Log(100), nil, 100.0, nil, 101.0, nil, 400.0, 83.0, 1.66, 20.0, 12.0},
		{"quick", 3.0, int64(2), int64(0), int64(0), int64(0), math.Log(200*204) / 2, math.Log(1.02) / math.Sqrt2, 202.0, math.Sqrt(8), 203.0, math.Sqrt(8), 202.0, 100.0, 1.0, 10.0, 2.0},
	}
	same := cmp.Comparer(func(a, b float64) bool { return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-9 })
	s := testSweep(t)
	s.Reach = "qui"
	if err := s.CheckReach(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, s.Results().Rows, same); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.Reach = "fast"
	if err := s.CheckReach(); err == nil || !strings.Contains(err.Error(), `"fast": they are slow, quick`) {
		t.Errorf("error %v", err)
	}
}

// The second seed, which only the best value has, does not count.
func TestSweepSensitivity(t *testing.T) {
	want := [][]any{
		{"slow", "optimizer.lr", 0.1, "0.1 to 0.1", 1.0, "0.1: 100.0, 0.3: 150.0"},
		{"quick", "optimizer.lr", 3.0, "1 to 3", 3.0, "1: 210.0, 3: 200.0, 10: failed"},
	}
	if diff := cmp.Diff(want, testSweep(t).Sensitivity().Rows); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSweepCharts(t *testing.T) {
	s := testSweep(t)
	charts := s.Charts()
	var names []string
	for _, c := range charts {
		names = append(names, c.Name)
		var b strings.Builder
		if err := c.WriteSVG(&b); err != nil {
			t.Fatal(err)
		}
		decoder := xml.NewDecoder(strings.NewReader(b.String()))
		for {
			if _, err := decoder.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
		}
	}
	if diff := cmp.Diff([]string{"s-tokens", "s-time", "s-sensitivity"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	slow := charts[1].Series[1]
	if slow.Name != "slow" || slow.Points[1].X != 2 || slow.Points[1].Y != 100 {
		t.Errorf("by time %+v, want 100 after 2 s", slow)
	}
	if got := charts[2].Series[0].Points[0]; math.Abs(got.X-1./3) > 1e-9 || got.Y != 210 {
		t.Errorf("sensitivity %+v, want 210 at a third", got)
	}
}

func TestSweepFormats(t *testing.T) {
	s := testSweep(t)
	page := written(t, Output{Format: Markdown}, func(o Output) error { return s.Write(o, "plots") })
	for _, want := range []string{
		"## s\n\n6 runs (5 finished, 1 failed) on godoc, fingerprint 5f2a9c0d1e7b; cpu, threads: 2, a processor. Equal time is 1s of",
		"](plots/s-tokens.svg)\n", "](plots/s-time.svg)\n", "](plots/s-sensitivity.svg)\n", "| quick | 3 |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if bare := written(t, Output{Format: Markdown}, func(o Output) error { return s.Write(o, "") }); strings.Contains(bare, "![") {
		t.Errorf("pictures that are not drawn:\n%s", bare)
	}
	if text := written(t, Output{Format: JSON}, func(o Output) error { return s.Write(o, "") }); !strings.Contains(text, `"best.val_ppl_sd": null`) {
		t.Errorf("no null for the spread of one seed in\n%s", text)
	}
}

func TestSweepOfNothing(t *testing.T) {
	store := sweepStore(t, sweepRun{"only", 1, 1, 0, 0, 2, tracking.Failed})
	for _, name := range []string{"", "it's", `\`, "other"} {
		if _, err := NewSweep(t.Context(), store, name, nil); err == nil {
			t.Errorf("sweep %q is found", name)
		}
	}
	s, err := NewSweep(t.Context(), store, "s", nil)
	if err != nil {
		t.Fatal(err)
	}
	text := written(t, Output{Format: Aligned}, func(o Output) error { return s.Write(o, "") })
	if !strings.Contains(text, "1 runs (1 failed)") {
		t.Errorf("got\n%s", text)
	}
}

// What a trial has before its end is no result: it is neither a value nor missing.
func TestSweepTellsUnfinishedTrials(t *testing.T) {
	store := empty(t)
	for lr, status := range map[float64]tracking.Status{1: tracking.Finished, 2: tracking.Interrupted, 3: tracking.Crashed} {
		n := storetest.Example("x", "adam", 1, 1)
		n.Tags, n.Settings["optimizer.lr"] = []string{"sweep:s"}, lr
		run, err := store.StartRun(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if status != tracking.Crashed { // this one has no value
			if err := run.Log(tracking.Point{Step: 10, Values: map[string]float64{"val_ppl": 100 / lr}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := run.Finish(status, ""); err != nil {
			t.Fatal(err)
		}
	}
	s, err := NewSweep(t.Context(), store, "s", nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Write(Output{W: &b, Format: Aligned}, ""); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`1: 100\.0, 2: unfinished, 3: (missing|failed)`).MatchString(b.String()) {
		t.Error(b.String())
	}
}
