package tracking

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"
)

// FineCurve suffices for every picture: curves up to 32,000 points are read whole.
const FineCurve = 2_000

// A curve of more than spansAbove times the points that the reader needs is read as
// spans: at least a quarter as many as needed, each with its range.
const spansAbove = spanLength / 4

// pointsSQL selects every point of a metric of a run.
const pointsSQL = `
	SELECT step, tokens, at, elapsed, value FROM run_points
	WHERE run = (SELECT number FROM runs WHERE id = ?)
	  AND metric = (SELECT metric FROM metric_names WHERE name = ?)
	ORDER BY step`

// CurvePoint is one point of a curve, or an aggregate of consecutive points.
type CurvePoint struct {
	Step, Last int64   // first and last step
	Tokens     int64   // at the last
	Seconds    float64 // of training, at the last
	Value      float64 // the mean; NaN where no value is a number
	Lowest     float64
	Highest    float64
	Count      int64 // number of values that are not NaN
}

// Curve returns the values of a metric of the run with the given id in the order of
// steps. Of a curve with far more points than the reader needs, it returns means with
// their ranges.
func (s *Store) Curve(ctx context.Context, id, metric string, needed int) ([]CurvePoint, error) {
	var curve []CurvePoint
	err := s.snapshot(ctx, func(q queryer) error {
		var points int64
		if err := q.QueryRowContext(ctx, `
			SELECT coalesce(sum(count), 0) FROM run_spans
			WHERE run = (SELECT number FROM runs WHERE id = ?)
			  AND metric = (SELECT metric FROM metric_names WHERE name = ?)`, id, metric).Scan(&points); err != nil {
			return err
		}
		statement, scan := pointsSQL, scanPoint
		if points > spansAbove*int64(needed) {
			statement, scan = `
				SELECT first, last, tokens, elapsed, mean, lowest, highest, count FROM run_spans
				WHERE run = (SELECT number FROM runs WHERE id = ?)
				  AND metric = (SELECT metric FROM metric_names WHERE name = ?)
				ORDER BY first`, scanSpan
		}
		return forEach(ctx, q, func(rows *sql.Rows) error {
			point, err := scan(rows)
			curve = append(curve, point)
			return err
		}, statement, id, metric)
	})
	if err != nil {
		return nil, fmt.Errorf("read %s of run %s: %w", metric, id, explain(err))
	}
	return curve, nil
}

func scanPoint(rows *sql.Rows) (CurvePoint, error) {
	var p CurvePoint
	var at, elapsed int64
	var value sql.NullFloat64
	err := rows.Scan(&p.Step, &p.Tokens, &at, &elapsed, &value)
	p.Last, p.Seconds, p.Value = p.Step, float64(elapsed)/1000, number(value)
	p.Lowest, p.Highest = p.Value, p.Value
	if !math.IsNaN(p.Value) {
		p.Count = 1
	}
	return p, err
}

func scanSpan(rows *sql.Rows) (CurvePoint, error) {
	var p CurvePoint
	var elapsed int64
	var mean, lowest, highest sql.NullFloat64
	err := rows.Scan(&p.Step, &p.Last, &p.Tokens, &elapsed, &mean, &lowest, &highest, &p.Count)
	p.Seconds = float64(elapsed) / 1000
	p.Value, p.Lowest, p.Highest = number(mean), number(lowest), number(highest)
	return p, err
}

// Logged is one logged value.
type Logged struct {
	Step, Tokens int64
	Time         time.Time
	Seconds      float64 // of training so far
	Value        float64 // may be NaN
}

// Points calls visit for every value of a metric of the run with the given id, in
// the order of steps.
func (s *Store) Points(ctx context.Context, id, metric string, visit func(Logged) error) error {
	err := forEach(ctx, s.read, func(rows *sql.Rows) error {
		var p Logged
		var at, elapsed int64
		var value sql.NullFloat64
		if err := rows.Scan(&p.Step, &p.Tokens, &at, &elapsed, &value); err != nil {
			return err
		}
		p.Time, p.Seconds, p.Value = time.UnixMilli(at).UTC(), float64(elapsed)/1000, number(value)
		return visit(p)
	}, pointsSQL, id, metric)
	if err != nil {
		return fmt.Errorf("read %s of run %s: %w", metric, id, explain(err))
	}
	return nil
}
