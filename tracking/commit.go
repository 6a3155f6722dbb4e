package tracking

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
)

// progress is what a run's points come to so far: what the next batch builds on.
type progress struct {
	ids    []int64  // of the metrics, by place in Run.names
	series []series // alike
	steps  int64
	tokens int64
}

// series is what the points of one metric come to.
type series struct {
	summary summary
	span    span
}

func (p progress) clone() progress {
	p.ids, p.series = slices.Clone(p.ids), slices.Clone(p.series)
	return p
}

// commit is one batch on its way into the store. Its progress takes effect only
// if the transaction does.
type commit struct {
	ctx    context.Context
	tx     *sql.Tx
	run    *Run
	number int64 // of the run in the store
	names  []string
	late   int64 // the first step that was logged again or out of order
	progress
}

func (c *commit) exec(statement string, args ...any) error {
	_, err := c.tx.ExecContext(c.ctx, statement, args...)
	return err
}

func (c *commit) write(b batch, end *ending) error {
	if err := c.nameMetrics(); err != nil {
		return fmt.Errorf("name metrics: %w", err)
	}
	if err := c.writeSamples(b.samples); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	if err := c.writeEvents(b, end); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	return c.writeRun(end)
}

// nameMetrics finds the ids of the metrics met since the last batch.
func (c *commit) nameMetrics() error {
	for _, name := range c.names[len(c.ids):] {
		var id int64
		if err := c.tx.QueryRowContext(c.ctx, metricIDSQL, name, HigherIsBetter(name)).Scan(&id); err != nil {
			return err
		}
		c.ids = append(c.ids, id)
	}
	for len(c.series) < len(c.ids) {
		c.series = append(c.series, series{summary: newSummary()})
	}
	return nil
}

func (c *commit) writeSamples(samples []sample) error {
	insert, err := c.tx.PrepareContext(c.ctx, pointInsertSQL)
	if err != nil {
		return err
	}
	defer insert.Close()
	changed := make([]bool, len(c.ids))
	for _, s := range samples {
		_, err := insert.ExecContext(c.ctx, c.number, c.ids[s.metric], s.step, s.tokens, s.at, s.elapsed, null(s.value))
		if err != nil {
			return err
		}
		if err := c.add(s); err != nil {
			return err
		}
		changed[s.metric] = true
	}
	for metric := range c.series {
		if !changed[metric] {
			continue
		}
		if err := c.exec(summaryUpsertSQL, c.series[metric].summary.args(c.number, c.ids[metric])...); err != nil {
			return err
		}
		if err := c.writeSpan(metric); err != nil {
			return err
		}
	}
	return c.mend()
}

// mend makes spans anew from the first late step on, and the summaries: what a
// value that was replaced had added to them cannot be taken out.
func (c *commit) mend() error {
	if c.late == math.MaxInt64 {
		return nil
	}
	if err := rebuildAfter(c.ctx, c.tx, c.number, c.late-1); err != nil {
		return err
	}
	return readSummaries(c.ctx, c.tx, c.number, func(metric int64, _ string, s summary) {
		if i := slices.Index(c.ids, metric); i >= 0 {
			c.series[i] = series{summary: s}
		}
	})
}

// add takes a sample into what its metric comes to, and writes a span that is
// full.
func (c *commit) add(s sample) error {
	c.steps = max(c.steps, s.step)
	c.tokens = max(c.tokens, s.tokens)
	of := &c.series[s.metric]
	if s.step <= of.summary.step {
		c.late = min(c.late, s.step)
	}
	of.summary.add(s.step, s.value, HigherIsBetter(c.names[s.metric]))
	if of.span.points == spanLength {
		if err := c.writeSpan(s.metric); err != nil {
			return err
		}
		of.span = span{}
	}
	if of.span.points == 0 {
		of.span = newSpan(s)
	}
	of.span.add(s)
	return nil
}

func (c *commit) writeSpan(metric int) error {
	return c.exec(spanUpsertSQL, c.series[metric].span.args(c.number, c.ids[metric])...)
}

func (c *commit) writeEvents(b batch, end *ending) error {
	events := slices.Clone(b.events)
	if b.lost.points > 0 {
		events = append(events, event{c.run.now(), "metrics lost", b.lost.message()})
	}
	if end != nil {
		events = append(events, event{end.at, "ended", end.message()})
	}
	for _, e := range events {
		if err := c.exec(eventInsertSQL, c.number, formatTime(e.at), e.kind, e.message); err != nil {
			return err
		}
	}
	return nil
}

// writeRun updates the run's own row: a sign of life, or its end.
func (c *commit) writeRun(end *ending) error {
	now := c.run.now()
	err := c.exec(runProgressSQL, sql.Named("run", c.number),
		sql.Named("heartbeat", formatTime(now)), sql.Named("seconds", c.run.elapsed(now).Seconds()),
		sql.Named("steps", c.steps), sql.Named("tokens", c.tokens))
	if err != nil || end == nil {
		return err
	}
	return c.exec(runFinishSQL, sql.Named("run", c.number),
		sql.Named("status", string(end.status)), sql.Named("reason", end.reason),
		sql.Named("ended", formatTime(end.at)), sql.Named("seconds", c.run.elapsed(end.at).Seconds()))
}
