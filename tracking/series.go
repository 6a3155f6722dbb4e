package tracking

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"
)

// fineLimit is up to how many points a curve is read point by point; a longer
// one is read as spans, which are at least this many / spanLength.
const fineLimit = 32_000

// CurvePoint is a point of a curve, or what several consecutive ones come to.
type CurvePoint struct {
	Step, Last int64   // the first and the last step it stands for
	Tokens     int64   // at the last
	Seconds    float64 // of training, at the last
	Value      float64 // the mean; NaN where there is no number
	Lowest     float64
	Highest    float64
	Count      int64 // of numbers
}

// Curve returns the values of a metric of the run with the given id in the order
// of steps, in some ten thousand points at most however long the run was.
func (s *Store) Curve(ctx context.Context, id, metric string) ([]CurvePoint, error) {
	var curve []CurvePoint
	err := s.snapshot(ctx, func(q queryer) error {
		var points int64
		if err := q.QueryRowContext(ctx, seriesCountSQL, id, metric).Scan(&points); err != nil {
			return err
		}
		statement, scan := seriesPointsSQL, scanPoint
		if points > fineLimit {
			statement, scan = seriesSpansSQL, scanSpan
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

// Logged is one value as it was logged.
type Logged struct {
	Step, Tokens int64
	Time         time.Time
	Seconds      float64 // of training until then
	Value        float64 // NaN where it was no number
}

// Points hands every value of a metric of the run with the given id to visit, in
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
	}, seriesPointsSQL, id, metric)
	if err != nil {
		return fmt.Errorf("read %s of run %s: %w", metric, id, explain(err))
	}
	return nil
}
