package tracking

import (
	"context"
	"database/sql"
	"math"
)

// spanLength is the number of points in a span.
const spanLength = 64

// span aggregates consecutive points of a metric.
type span struct {
	first, last     int64 // steps
	tokens, elapsed int64 // at the last step
	points          int   // number of points, NaN included
	count           int   // number of points that are not NaN
	lowest, highest float64
	mean            float64
}

func newSpan(s sample) span {
	return span{first: s.step, last: s.step - 1, lowest: math.NaN(), highest: math.NaN(), mean: math.NaN()}
}

// add adds the next point. It ignores a point that is out of order: commit
// rebuilds the spans after such a point.
func (s *span) add(p sample) {
	if p.step <= s.last {
		return
	}
	s.last, s.tokens, s.elapsed = p.step, p.tokens, p.elapsed
	s.points++
	if math.IsNaN(p.value) {
		return
	}
	s.count++
	if s.count == 1 {
		s.lowest, s.highest, s.mean = p.value, p.value, p.value
		return
	}
	s.lowest, s.highest = min(s.lowest, p.value), max(s.highest, p.value)
	s.mean += (p.value - s.mean) / float64(s.count)
}

func (s *span) args(run, metric int64) []any {
	return []any{run, metric, s.first, s.last, s.tokens, s.elapsed, s.count, null(s.lowest), null(s.highest), null(s.mean)}
}

// summary is the last and the best value of a metric.
type summary struct {
	step     int64
	value    float64
	bestStep int64
	best     float64 // NaN before the first finite value
}

func newSummary() summary { return summary{step: math.MinInt64, value: math.NaN(), best: math.NaN()} }

// add adds a value. An infinite value can be the last value, but never the best one.
func (s *summary) add(step int64, value float64, highest bool) {
	if step >= s.step {
		s.step, s.value = step, value
	}
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return
	}
	if math.IsNaN(s.best) || highest && value > s.best || !highest && value < s.best {
		s.bestStep, s.best = step, value
	}
}

func (s summary) args(run, metric int64) []any {
	if best := null(s.best); best != nil {
		return []any{run, metric, s.step, null(s.value), s.bestStep, best}
	}
	return []any{run, metric, s.step, null(s.value), nil, nil}
}

// null turns NaN into SQL's NULL.
func null(value float64) any {
	if math.IsNaN(value) {
		return nil
	}
	return value
}

// rebuildAfter recomputes a run's summaries, and its spans after a step.
func rebuildAfter(ctx context.Context, q queryer, run, step int64) error {
	if _, err := q.ExecContext(ctx, `DELETE FROM run_spans WHERE run = ? AND last > ?`, run, step); err != nil {
		return err
	}
	for _, statement := range []string{`DELETE FROM run_summaries WHERE run = :run`, `
		INSERT INTO run_summaries (run, metric, step, value, best_step, best)
		SELECT :run, last.metric, last.step, last.value, best.step, best.value
		FROM (SELECT metric, max(step) AS step, value FROM run_points WHERE run = :run GROUP BY metric) last
		LEFT JOIN (
		  SELECT p.metric, p.step, p.value, min(CASE n.highest WHEN 1 THEN -p.value ELSE p.value END)
		  FROM run_points p JOIN metric_names n ON n.metric = p.metric
		  WHERE p.run = :run AND p.value > -9e999 AND p.value < 9e999
		  GROUP BY p.metric
		) best ON best.metric = last.metric`, `
			INSERT INTO run_spans (run, metric, first, last, tokens, elapsed, count, lowest, highest, mean)
			SELECT :run, metric, min(step), max(step), max(tokens), max(elapsed),
			       count(value), min(value), max(value), avg(value)
			FROM (
			  SELECT p.*, (row_number() OVER (PARTITION BY p.metric ORDER BY p.step) - 1) / 64 AS span
			  FROM (
			    SELECT m.metric, coalesce((SELECT max(s.last) FROM run_spans s WHERE s.run = m.run AND s.metric = m.metric), -1) AS last
			    FROM run_summaries m WHERE m.run = :run
			  ) known
			  JOIN run_points p ON p.run = :run AND p.metric = known.metric AND p.step > known.last
			)
			GROUP BY metric, span`} {
		if _, err := q.ExecContext(ctx, statement, sql.Named("run", run)); err != nil {
			return err
		}
	}
	return nil
}

// loadProgress reads the aggregates of a resumed run, and enters its metrics in
// the handle. The writer begins new spans.
func loadProgress(ctx context.Context, q queryer, run *Run, runNumber int64) (progress, error) {
	var p progress
	err := readSummaries(ctx, q, runNumber, func(metric int64, name string, s summary) {
		run.index[name] = len(run.names)
		run.names = append(run.names, name)
		p.ids = append(p.ids, metric)
		p.series = append(p.series, series{summary: s})
	})
	return p, err
}

// readSummaries calls visit for each summary of a run.
func readSummaries(ctx context.Context, q queryer, run int64, visit func(metric int64, name string, s summary)) error {
	return forEach(ctx, q, func(rows *sql.Rows) error {
		var metric int64
		var name string
		var s summary
		var value, best sql.NullFloat64
		var bestStep sql.NullInt64
		if err := rows.Scan(&metric, &name, &s.step, &value, &bestStep, &best); err != nil {
			return err
		}
		s.value, s.best, s.bestStep = number(value), number(best), bestStep.Int64
		visit(metric, name, s)
		return nil
	}, `
		SELECT n.metric, n.name, s.step, s.value, s.best_step, s.best
		FROM run_summaries s JOIN metric_names n ON n.metric = s.metric
		WHERE s.run = ?
		ORDER BY n.name`, run)
}

// number turns SQL's NULL into NaN.
func number(value sql.NullFloat64) float64 {
	if !value.Valid {
		return math.NaN()
	}
	return value.Float64
}
