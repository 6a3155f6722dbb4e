package tracking

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// storeOfVersion makes a store in the schema of an earlier version.
func storeOfVersion(t *testing.T, version int, fill string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "koala.db")
	if err := createEmpty(path); err != nil {
		t.Fatal(err)
	}
	db := openDB(path, readWrite)
	defer db.Close()
	scripts, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	for i, script := range scripts[:version] {
		if err := applyMigration(context.Background(), db, i+1, script); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec(fill); err != nil {
		t.Fatal(err)
	}
	return path
}

const fillVersion1 = `
INSERT INTO runs (id, name, status, started, heartbeat) VALUES ('a', 'old', 'finished', '2026-01-01T00:00:00.000Z', '');
INSERT INTO metric_names (name, highest) VALUES ('train_loss', 0);
INSERT INTO run_points
  WITH RECURSIVE steps(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM steps WHERE n < 1000)
  SELECT 1, 1, n, 10 * n, 0, 1000 * n, 1.0 / n FROM steps`

func TestMigrationFillsSpans(t *testing.T) {
	path := storeOfVersion(t, 1, fillVersion1)
	if _, err := OpenReadOnly(path); err == nil {
		t.Error("an older store was opened for reading without being brought up to date")
	}
	s := openStore(t, path)
	var spans, points int
	var lowest, highest float64
	err := s.read.QueryRow("SELECT count(*), sum(count), min(lowest), max(highest) FROM run_spans").
		Scan(&spans, &points, &lowest, &highest)
	if err != nil || spans != 16 || points != 1000 || lowest != 0.001 || highest != 1 {
		t.Errorf("%d spans of %d points in [%v, %v] (%v)", spans, points, lowest, highest, err)
	}
}

func TestMigrationRace(t *testing.T) {
	path := storeOfVersion(t, 1, fillVersion1)
	var starters sync.WaitGroup
	for range 10 {
		starters.Go(func() {
			s, err := Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	starters.Wait()
	checkSpans(t, openStore(t, path))
}

// checkSpans compares every metric's spans with its points.
func checkSpans(t *testing.T, s *Store) {
	t.Helper()
	var wrong int
	err := s.read.QueryRow(`
		SELECT count(*) FROM (
		  SELECT run, metric, count(value) AS n, min(value) AS low, max(value) AS high, max(step) AS last
		  FROM run_points GROUP BY run, metric
		) p LEFT JOIN (
		  SELECT run, metric, sum(count) AS n, min(lowest) AS low, max(highest) AS high, max(last) AS last
		  FROM run_spans GROUP BY run, metric
		) s USING (run, metric)
		WHERE (p.n, p.low, p.high, p.last) IS NOT (s.n, s.low, s.high, s.last)`).Scan(&wrong)
	if err != nil || wrong != 0 {
		t.Errorf("%d metrics have spans that differ from their points (%v)", wrong, err)
	}
}

func TestSpansFollowPoints(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	run := startRun(t, s, NewRun{Name: "r"})
	log := func(from, to int64) {
		t.Helper()
		for step := from; step <= to; step++ {
			values := map[string]float64{"a": math.Sin(float64(step)), "b": math.NaN()}
			if step%3 == 0 {
				values["c"] = float64(step)
			}
			if err := run.Log(Point{Step: step, Values: values}); err != nil {
				t.Fatal(err)
			}
			if step%50 == 0 {
				if err := run.Flush(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	log(1, 777)
	for _, from := range []int64{500, 64, 63, 0, 130} {
		if err := run.Finish(Interrupted, ""); err != nil {
			t.Fatal(err)
		}
		checkSpans(t, s)
		var err error
		if run, err = s.ResumeRun(ctx, run.ID(), from, Resume{}); err != nil {
			t.Fatal(err)
		}
		checkSpans(t, s)
		log(from+1, from+200)
	}
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	checkSpans(t, s)
}

func TestSpansOfPointsThatComeAgainOrLate(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	run := startRun(t, s, NewRun{Name: "r"})
	random := rand.New(rand.NewPCG(5, 6))
	for i := range 2000 {
		step := int64(i)
		if random.IntN(10) == 0 {
			step = random.Int64N(step + 1)
		}
		values := map[string]float64{"a": random.NormFloat64()}
		if i%2 == 0 {
			values["b"] = random.NormFloat64()
		}
		if err := run.Log(Point{Step: step, Values: values}); err != nil {
			t.Fatal(err)
		}
		if i%97 == 0 {
			if err := run.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			checkSpans(t, s)
			checkSummaries(t, s)
		}
	}
	if err := run.Finish(Interrupted, ""); err != nil {
		t.Fatal(err)
	}
	run, err := s.ResumeRun(ctx, run.ID(), 1000, Resume{})
	if err != nil {
		t.Fatal(err)
	}
	logSteps(t, run, 1000, 1100)
	if err := run.Log(Point{Step: 1000, Values: map[string]float64{"a": -100}}); err != nil {
		t.Fatal(err)
	}
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	checkSpans(t, s)
	checkSummaries(t, s)
}

// checkSummaries compares the last and best values with the points.
func checkSummaries(t *testing.T, s *Store) {
	t.Helper()
	var wrong int
	err := s.read.QueryRow(`
		SELECT count(*) FROM run_summaries s JOIN metric_names n USING (metric)
		WHERE (s.step, s.value) IS NOT (SELECT step, value FROM run_points p
		                                WHERE p.run = s.run AND p.metric = s.metric ORDER BY step DESC LIMIT 1)
		   OR s.best IS NOT (SELECT iif(n.highest, max(value), min(value)) FROM run_points p
		                     WHERE p.run = s.run AND p.metric = s.metric)
		   OR s.best IS NOT (SELECT value FROM run_points p
		                     WHERE p.run = s.run AND p.metric = s.metric AND p.step = s.best_step)`).Scan(&wrong)
	if err != nil || wrong != 0 {
		t.Errorf("%d metrics have summaries that differ from their points (%v)", wrong, err)
	}
}

func TestCurve(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	run := startRun(t, s, NewRun{Name: "r"})
	const long = spansAbove*FineCurve + 1000
	for step := int64(1); step <= long; step++ {
		values := map[string]float64{"long": float64(step), "hurt": 1}
		if step == 1000 {
			values["hurt"] = math.NaN()
		}
		if step <= 3 {
			values["short"] = float64(step)
		}
		if step == 3 {
			values["short"] = math.NaN()
		}
		if err := run.Log(Point{Step: step, Values: values}); err != nil {
			t.Fatal(err)
		}
	}
	if err := run.Finish(Finished, ""); err != nil {
		t.Fatal(err)
	}
	short, err := s.Curve(ctx, run.ID(), "short", FineCurve)
	if err != nil || len(short) != 3 || short[1].Value != 2 || !math.IsNaN(short[2].Value) {
		t.Errorf("short: %+v (%v)", short, err)
	}
	curve, err := s.Curve(ctx, run.ID(), "long", FineCurve)
	if err != nil || len(curve) != (long+spanLength-1)/spanLength {
		t.Fatalf("%d points (%v)", len(curve), err)
	}
	if p := curve[1]; p.Step != 65 || p.Last != 128 || p.Value != 96.5 || p.Lowest != 65 || p.Highest != 128 || p.Count != 64 {
		t.Errorf("second span %+v", p)
	}
	hurt, err := s.Curve(ctx, run.ID(), "hurt", FineCurve)
	if i := slices.IndexFunc(hurt, func(p CurvePoint) bool { return math.IsNaN(p.Value) }); err != nil || i < 0 || hurt[i].Last != 1000 || hurt[i+1].Value != 1 || hurt[i+1].Count != 63 {
		t.Errorf("the NaN among a span is not at step 1000 (%v)", err)
	}
	n := int64(0)
	err = s.Points(ctx, run.ID(), "long", func(p Logged) error {
		n++
		if p.Step != n || p.Value != float64(n) {
			t.Fatalf("point %d is %+v", n, p)
		}
		return nil
	})
	if err != nil || n != long {
		t.Errorf("%d points (%v)", n, err)
	}
	if none, err := s.Curve(ctx, run.ID(), "nothing", FineCurve); err != nil || len(none) != 0 {
		t.Errorf("unknown metric: %v (%v)", none, err)
	}
}
