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
// their ranges, and a NaN where one is among them.
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
		statement, scan := pointsSQL, func(rows *sql.Rows) error {
			point, err := scanPoint(rows)
			curve = append(curve, point)
			return err
		}
		if points > spansAbove*int64(needed) {
			statement, scan = fmt.Sprintf(`
				SELECT first, last, tokens, elapsed, mean, lowest, highest, count,
				       CASE WHEN count > 0 AND count < %d THEN (
				         SELECT min(step) FROM run_points AS p
				         WHERE p.run = s.run AND p.metric = s.metric AND p.step BETWEEN s.first AND s.last AND p.value IS NULL
				       ) END
				FROM run_spans AS s
				WHERE run = (SELECT number FROM runs WHERE id = ?)
				  AND metric = (SELECT metric FROM metric_names WHERE name = ?)
				ORDER BY first`, spanLength), func(rows *sql.Rows) error {
				point, lost, err := scanSpan(rows)
				if lost.Valid {
					nan := math.NaN()
					curve = append(curve, CurvePoint{Step: lost.Int64, Last: lost.Int64, Tokens: point.Tokens, Seconds: point.Seconds, Value: nan, Lowest: nan, Highest: nan})
				}
				curve = append(curve, point)
				return err
			}
		}
		return forEach(ctx, q, scan, statement, id, metric)
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

// scanSpan also returns the step of a NaN in the span.
func scanSpan(rows *sql.Rows) (p CurvePoint, lost sql.NullInt64, err error) {
	var elapsed int64
	var mean, lowest, highest sql.NullFloat64
	err = rows.Scan(&p.Step, &p.Last, &p.Tokens, &elapsed, &mean, &lowest, &highest, &p.Count, &lost)
	p.Seconds = float64(elapsed) / 1000
	p.Value, p.Lowest, p.Highest = number(mean), number(lowest), number(highest)
	return p, lost, err
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
