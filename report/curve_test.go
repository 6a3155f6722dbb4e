package report

import (
	"context"
	"encoding/csv"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/report/chart"
	"github.com/koala-lm/koala-lm/tracking"
)

func newCurves(t *testing.T, s *tracking.Store, where string, options CurveOptions) *Curves {
	t.Helper()
	runs, err := s.Runs(context.Background(), tracking.Query{Where: where, Sort: "id"})
	if err != nil {
		t.Fatal(err)
	}
	curves, err := NewCurves(context.Background(), s, runs, options)
	if err != nil {
		t.Fatal(err)
	}
	return curves
}

func TestCurves(t *testing.T) {
	s := filled(t)
	for x, last := range map[string]float64{"step": 250, "tokens": 175_000} {
		curves := newCurves(t, s, "name == 'koala++ 2'", CurveOptions{Metrics: []string{"train_ppl"}, X: x})
		picture := curves.Chart()
		if len(picture.Series) != 1 || picture.Series[0].Name != "koala++ 2" {
			t.Fatalf("series %+v", picture.Series)
		}
		points := picture.Series[0].Points
		if len(points) != 250 || points[249].X != last {
			t.Errorf("%d points to %v by %s", len(points), points[len(points)-1].X, x)
		}
	}
	rows, err := csv.NewReader(strings.NewReader(written(t, Output{Format: CSV},
		newCurves(t, s, "steps >= 200", CurveOptions{Metrics: []string{"val_ppl", "test_ppl"}, X: "step"}).Write))).ReadAll()
	if err != nil || len(rows) != 1+2*(3*4+5) {
		t.Errorf("%d rows (%v)", len(rows), err)
	}
	if _, err := NewCurves(context.Background(), s, nil, CurveOptions{Metrics: []string{"nothing"}}); err == nil {
		t.Error("a metric that no run has was drawn")
	}
}

func TestCurvesOfGroups(t *testing.T) {
	s := filled(t)
	curves := newCurves(t, s, "", CurveOptions{Metrics: []string{"train_ppl"}, X: "step", GroupBy: []string{"optimizer.kind"}})
	picture := curves.Chart()
	if len(picture.Series) != 5 {
		t.Fatalf("%d series", len(picture.Series))
	}
	for _, series := range picture.Series {
		if strings.Contains(series.Name, "adam") != strings.Contains(series.Name, "mean of 8") {
			t.Errorf("series %q", series.Name)
		}
	}
	runs := allRuns(t, s)
	_, err := NewCurves(context.Background(), s, runs, CurveOptions{Metrics: []string{"train_ppl"}, GroupBy: []string{"optimiser.kind"}})
	if !errors.Is(err, tracking.ErrBadQuestion) {
		t.Error(err)
	}
}

func TestMeanLine(t *testing.T) {
	mean := meanLine([][]chart.Point{
		{chart.At(0, 0), chart.At(10, 10)},
		{chart.At(0, 2), chart.At(5, 7), chart.At(6, math.NaN()), chart.At(20, 22)},
	}, false)
	want := []chart.Point{{X: 0, Y: 1}, {X: 5, Y: 6}}
	if len(mean) != len(want) {
		t.Fatalf("%+v", mean)
	}
	for i, p := range mean {
		if p.X != want[i].X || math.Abs(p.Y-want[i].Y) > 1e-12 || math.Abs(p.High-p.Y-math.Sqrt2) > 1e-12 || math.Abs(p.Y-p.Low-math.Sqrt2) > 1e-12 {
			t.Errorf("point %d is %+v", i, p)
		}
	}
}

// Each run is a point; the runs with lr 1 and the runs with lr 20 become their
// means.
func TestCurvesOverASetting(t *testing.T) {
	done := tracking.Finished
	s := sweepStore(t,
		sweepRun{"a", 20, 1, 300, 200, 2, done}, sweepRun{"a", 1, 1, 300, 150, 2, done}, sweepRun{"a", 1, 2, 300, 160, 2, done},
		sweepRun{"b", 1, 1, 300, 90, 2, done}, sweepRun{"b", 2, 1, 0, 0, 2, tracking.Failed},
	)
	picture := newCurves(t, s, "", CurveOptions{Metrics: []string{"val_ppl"}, X: "optimizer.lr", GroupBy: []string{"optimizer.kind"}}).Chart()
	sd := math.Sqrt(50)
	want := []chart.Series{
		{Name: "optimizer.kind a", Points: []chart.Point{{X: 1, Y: 155, Low: 155 - sd, High: 155 + sd}, chart.At(20, 200)}},
		{Name: "optimizer.kind b (1 failed)", Points: []chart.Point{chart.At(1, 90), chart.At(2, math.NaN())}},
	}
	if diff := cmp.Diff(want, picture.Series, cmpopts.EquateNaNs()); diff != "" || picture.XLabel != "optimizer.lr" {
		t.Errorf("x is %s (-want +got):\n%s", picture.XLabel, diff)
	}
	all := newCurves(t, s, "", CurveOptions{Metrics: []string{"val_ppl"}, X: "optimizer.lr"}).Chart()
	if len(all.Series) != 1 || len(all.Series[0].Points) != 2 {
		t.Errorf("ungrouped %+v", all.Series)
	}
	for x, want := range map[string]string{
		"optimiser.lr":   `x not understood: it is step, tokens, time or a setting; unknown name "optimiser.lr": did you mean optimizer.lr?`,
		"status":         `x not understood: it is step, tokens, time or a setting, and "status" is none`,
		"optimizer.kind": "no run has both val_ppl and a number for optimizer.kind",
	} {
		_, err := NewCurves(t.Context(), s, allRuns(t, s), CurveOptions{Metrics: []string{"val_ppl"}, X: x})
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", x, err, want)
		}
	}
}

// A seed that diverged, failed or was not measured is left out of the mean and counted in the name;
// alone, its curve is marked where its values are not finite.
func TestCurvesOfDivergedRuns(t *testing.T) {
	done, inf := tracking.Finished, math.Inf(1)
	s := sweepStore(t,
		sweepRun{"a", 1, 1, 300, 200, 2, done}, sweepRun{"a", 1, 2, 320, 220, 2, done}, sweepRun{"a", 1, 3, inf, inf, 2, done},
		sweepRun{"a", 1, 4, 0, 0, 2, tracking.Failed}, sweepRun{"a", 1, 5, 0, 0, 2, tracking.Interrupted}, // before their first evaluation
		sweepRun{"b", 1, 1, math.NaN(), math.NaN(), 2, done}, sweepRun{"b", 1, 2, inf, inf, 2, done},
	)
	options := CurveOptions{Metrics: []string{"val_ppl"}, X: "step", GroupBy: []string{"optimizer.kind"}}
	curves := newCurves(t, s, "", options)
	sd := math.Sqrt(200)
	want := []chart.Series{
		{Name: "optimizer.kind a (mean of 2 ± sd, 1 diverged, 1 failed, 1 missing)", Points: []chart.Point{{X: 50, Y: 310, Low: 310 - sd, High: 310 + sd}, {X: 100, Y: 210, Low: 210 - sd, High: 210 + sd}}},
		{Name: "optimizer.kind b (2 diverged)"},
	}
	if diff := cmp.Diff(want, curves.Chart().Series); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if listed := written(t, Output{Format: CSV}, curves.Write); !strings.Contains(listed, "optimizer.kind b (2 diverged),,,,\n") {
		t.Errorf("a group without values is not listed:\n%s", listed)
	}
	terminal := written(t, Output{Format: Aligned, Width: 80, Unicode: true}, curves.Write)
	if !strings.Contains(terminal, "optimizer.kind b (2 diverged): no value") {
		t.Errorf("the terminal shows\n%s", terminal)
	}
	var svg strings.Builder
	single := newCurves(t, s, "optimizer.kind == 'b'", CurveOptions{Metrics: []string{"val_ppl"}, X: "step"})
	if err := single.Chart().WriteSVG(&svg); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(svg.String(), "not a finite number"); n != 4 {
		t.Errorf("%d marks for four values that are not finite", n)
	}
	if !strings.Contains(svg.String(), ": no finite value") {
		t.Error("the legend does not say that nothing can be drawn")
	}
	text := written(t, Output{Format: JSON}, List{Runs: allRuns(t, s), Columns: DefaultColumns(time.Now())}.Write)
	for _, part := range []string{`"val_ppl": "NaN"`, `"val_ppl": "Infinity"`, `"val_ppl": null`} {
		if !strings.Contains(text, part) {
			t.Errorf("no %s in JSON", part)
		}
	}
	aligned := written(t, Output{Format: Aligned}, List{Runs: allRuns(t, s), Columns: DefaultColumns(time.Now())}.Write)
	if strings.Count(aligned, "NaN") != 6 { // val_ppl and test_ppl
		t.Errorf("three runs diverged:\n%s", aligned)
	}
}

// Runs that end before they log anything have no other metric to propose.
func TestCurvesOfNothing(t *testing.T) {
	_, err := NewCurves(t.Context(), filled(t), []tracking.RunSummary{{ID: "short"}}, CurveOptions{Metrics: []string{"val_ppl"}, X: "step"})
	if err == nil || err.Error() != "these runs have no values of val_ppl to draw" {
		t.Error(err)
	}
}

// In a pipe, the output is the points that would be drawn.
func TestCurvesListMeans(t *testing.T) {
	done := tracking.Finished
	s := sweepStore(t, sweepRun{"a", 1, 1, 300, 200, 2, done}, sweepRun{"a", 1, 2, 320, 220, 2, done})
	for name, test := range map[string]struct {
		options CurveOptions
		want    string
	}{
		"groups": {CurveOptions{Metrics: []string{"val_ppl"}, X: "step", GroupBy: []string{"optimizer.kind"}},
			"series,x,value,low,high\noptimizer.kind a (mean of 2 ± sd),50,310,295.85786437626905,324.14213562373095\noptimizer.kind a (mean of 2 ± sd),100,210,195.85786437626905,224.14213562373095\n"},
		"a setting": {CurveOptions{Metrics: []string{"val_ppl"}, X: "optimizer.lr"},
			"series,x,value,low,high\nall runs,1,210,195.85786437626905,224.14213562373095\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := written(t, Output{Format: CSV}, newCurves(t, s, "", test.options).Write); got != test.want {
				t.Errorf("%q\nwant %q", got, test.want)
			}
		})
	}
	smooth := newCurves(t, s, "train.seed == 1", CurveOptions{Metrics: []string{"val_ppl"}, X: "step", Smooth: 0.5})
	if got := written(t, Output{Format: CSV}, smooth.Write); !strings.Contains(got, "x,100,233.33333333333334,200,200") {
		t.Errorf("%q", got)
	}
}

// The filter's numbers are on the page, and curves know their short names.
func TestFilterNumbers(t *testing.T) {
	s := filled(t)
	ask := CurveOptions{Metrics: []string{"gain"}}
	if _, err := NewCurves(context.Background(), s, allRuns(t, s), ask); !errors.Is(err, tracking.ErrUnknownName) {
		t.Errorf("curve of a gain that no run has: %v", err)
	}
	run, err := s.StartRun(context.Background(), tracking.NewRun{Name: "filter"})
	if err != nil {
		t.Fatal(err)
	}
	for step := range int64(3) {
		point := tracking.Point{Step: step + 1, Values: map[string]float64{}}
		for i, name := range metric.Koala {
			point.Values[name] = float64(10*(i+1)) + float64(step)
		}
		if err := run.Log(point); err != nil {
			t.Fatal(err)
		}
	}
	if err := run.Finish(tracking.Finished, ""); err != nil {
		t.Fatal(err)
	}
	_, page := pageOf(t, s)
	for i, name := range metric.Koala {
		curves := newCurves(t, s, "name == 'filter'", CurveOptions{Metrics: []string{metric.Short(name)}})
		points := curves.Chart().Series[0].Points
		if first := float64(10 * (i + 1)); len(points) != 3 || points[0].Y != first || points[2].Y != first+2 {
			t.Errorf("%s: points %v", metric.Short(name), points)
		}
		if on := page.Curves[name]; len(on) != 1 {
			t.Errorf("the page has %d curves of %s", len(on), name)
		}
	}
}
