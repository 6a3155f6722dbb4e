package tracking

import (
	"fmt"
	"math"
	"time"
)

// batch is what waits to be written in one transaction.
type batch struct {
	samples []sample
	events  []event
	lost    loss
}

func (b *batch) empty() bool {
	return len(b.samples) == 0 && len(b.events) == 0 && b.lost.points == 0
}

// append moves what next holds behind b, and leaves next empty.
func (b *batch) append(next *batch) {
	b.samples = append(b.samples, next.samples...)
	b.events = append(b.events, next.events...)
	b.lost.merge(next.lost)
	next.clear()
}

// clear empties the batch and keeps its memory.
func (b *batch) clear() { *b = batch{samples: b.samples[:0], events: b.events[:0]} }

// sample is one value of one metric, small because thousands may wait.
type sample struct {
	metric  int // index into Run.names
	step    int64
	tokens  int64
	at      int64 // Unix milliseconds
	elapsed int64 // milliseconds
	value   float64
}

type event struct {
	at            time.Time
	kind, message string
}

// ending is how a run ends.
type ending struct {
	at     time.Time
	status Status
	reason string
}

func (e ending) message() string {
	if e.reason == "" {
		return string(e.status)
	}
	return string(e.status) + ": " + e.reason
}

// loss counts points that found the queue full.
type loss struct{ points, first, last int64 }

func (l *loss) add(p Point) {
	if l.points == 0 {
		l.first = p.Step
	}
	l.points++
	l.last = p.Step
}

func (l *loss) merge(next loss) {
	if l.points == 0 {
		*l = next
		return
	}
	if next.points > 0 {
		l.points += next.points
		l.last = next.last
	}
}

// message names what is missing, so that a gap in a curve explains itself.
func (l loss) message() string {
	return fmt.Sprintf("%d points between steps %d and %d were lost: the store took no writes for too long", l.points, l.first, l.last)
}

// summary is the last and the best value of a metric.
type summary struct {
	step     int64
	value    float64
	bestStep int64
	best     float64 // NaN until there is one
}

func newSummary() summary { return summary{step: math.MinInt64, value: math.NaN(), best: math.NaN()} }

// add takes in a value. Infinities count as last values, never as best.
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
