package report

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/koala-lm/koala-lm/tracking"
)

// Best ranks runs, or groups of runs, by their results in a metric. Over seeds, the
// mean and its spread are more informative than the luckiest run.
type Best struct {
	By      string // the metric
	Last    bool   // show the last value too
	Missing int    // number of runs without a value of the metric, when not grouped
	More    bool   // the limit left groups out

	keys    Columns
	grouped bool
	prefix  int // number of characters of an id that identify a run
	groups  []*ranked
}

// ranked is a group with the values of the keys that its runs share.
type ranked struct {
	key []any
	group
	status string // of a single run
}

// NewBest reads the selected runs' results in metric and groups them by the values
// of keys. Without keys it ranks single runs. Runs on different datasets are never
// in one group. The query's limit is a number of groups.
func NewBest(ctx context.Context, store *tracking.Store, query tracking.Query, metric string, keys []string, now time.Time) (*Best, error) {
	name, err := store.Name(ctx, metric)
	if err != nil {
		return nil, questionError("metric", err)
	}
	switch name.Kind {
	case tracking.SettingName:
		return nil, fmt.Errorf("metric %w: %q is a setting, not a metric such as val_ppl", tracking.ErrBadQuestion, metric)
	case tracking.FieldName:
		return nil, fmt.Errorf("metric %w: %q is a field, not a metric such as val_ppl", tracking.ErrBadQuestion, metric)
	}
	b := &Best{By: name.Key, grouped: len(keys) > 0}
	if !b.grouped {
		keys = []string{"id", "name"}
	}
	of := func(kind tracking.NameKind, key string) tracking.Name { return tracking.Name{Kind: kind, Key: key} }
	names := []tracking.Name{
		of(tracking.FieldName, "id"), of(tracking.FieldName, "status"), of(tracking.FieldName, "reason"),
		of(tracking.StepName, b.By), of(tracking.MetricName, b.By), of(tracking.BestName, b.By),
		of(tracking.FieldName, "dataset_fingerprint"),
	}
	for _, key := range keys {
		name, err := store.Name(ctx, key)
		if err != nil {
			return nil, questionError("group", err)
		}
		names = append(names, name)
		b.keys = append(b.keys, fieldOf(key, name, now))
	}
	limit := query.Limit // a limit on groups, which need all runs
	query.Limit = 0
	rows, err := store.Values(ctx, query, names...)
	if err != nil {
		return nil, err
	}
	b.collect(rows)
	if limit > 0 && len(b.groups) > limit {
		b.groups, b.More = b.groups[:limit], true
	}
	runs := make([]tracking.RunSummary, 0, len(b.groups))
	for _, g := range b.groups {
		runs = append(runs, tracking.RunSummary{ID: g.id})
	}
	b.prefix, err = store.PrefixLength(ctx, runs)
	return b, err
}

// Len returns the number of groups.
func (b *Best) Len() int { return len(b.groups) }

func questionError(what string, err error) error {
	if errors.Is(err, tracking.ErrUnknownName) {
		return fmt.Errorf("%s %w: %w", what, tracking.ErrBadQuestion, err)
	}
	return err
}

// collect groups rows of id, status, reason, step, last, best, dataset and the
// keys' values.
func (b *Best) collect(rows [][]any) {
	const dataset, keys = 6, 7
	highest := tracking.HigherIsBetter(b.By)
	datasets := map[any]bool{}
	for _, row := range rows {
		datasets[row[dataset]] = true
	}
	first := keys
	if len(datasets) > 1 {
		first = dataset
		fingerprint := runField("dataset_fingerprint", time.Time{})
		fingerprint.Title, fingerprint.Human = "dataset", func(value any) string { return shorten("", plain(value)) }
		b.keys = append(Columns{fingerprint}, b.keys...)
	}
	index := map[string]*ranked{}
	for _, row := range rows {
		id, status := plain(row[0]), tracking.Status(plain(row[1]))
		result := tracking.NewResult(status, plain(row[2]), row[3] != nil, orNaN(row[4]), orNaN(row[5]))
		if !b.grouped {
			switch {
			case result.Outcome == tracking.NoneSoFar, result.Outcome == tracking.Broken && math.IsNaN(result.Best):
				b.Missing++
				continue
			case result.Outcome == tracking.Broken: // a single failed run keeps its best value
				result.Outcome = tracking.Reached
			}
		}
		text := id
		if b.grouped {
			text = fmt.Sprintf("%#v", row[first:])
		}
		g := index[text]
		if g == nil {
			g = &ranked{key: row[first:], group: group{id: id}, status: string(status)}
			index[text] = g
			b.groups = append(b.groups, g)
		}
		g.addResult(result, id, highest)
	}
	slices.SortStableFunc(b.groups, func(a, c *ranked) int {
		switch {
		case a.before(&c.group, highest):
			return -1
		case c.before(&a.group, highest):
			return 1
		}
		return 0
	})
}

// toFloat returns a value that is a number, NaN included.
func toFloat(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	}
	return 0, false
}

func orNaN(value any) float64 {
	if v, ok := toFloat(value); ok {
		return v
	}
	return math.NaN()
}

// Write writes the ranking, the best group first.
func (b *Best) Write(o Output) error {
	t := b.table()
	if o.Format == JSON {
		return writeJSON(o.W, t.objects())
	}
	return o.Render(t)
}

func (b *Best) table() Table {
	format := metricFormat(b.By)
	number := func(name, title string) Column { return Column{Name: name, Title: title, Right: true, Human: format} }
	t := Table{Columns: b.keys.abbreviated(b.prefix).heads()}
	if b.grouped {
		t.Columns = append(t.Columns, countColumns()...)
		t.Columns = append(t.Columns, number("mean", "mean best "+b.By), Column{Name: "sd", Title: "sd", Right: true, Human: significant})
	} else {
		t.Columns = append(t.Columns, Column{Name: "status", Title: "status"})
	}
	if b.Last {
		title := "last"
		if b.grouped {
			title = "mean last"
		}
		t.Columns = append(t.Columns, number("last", strings.TrimSpace(title+" "+b.By)))
	}
	if b.grouped {
		t.Columns = append(t.Columns, number("best", "best"), Column{Name: "best_run", Title: "best run", Human: shortID(b.prefix)})
	} else {
		t.Columns = append(t.Columns, number("best", "best "+b.By))
	}
	for _, g := range b.groups {
		row := slices.Clone(g.key)
		var best, last any
		bestRun := any(g.id)
		switch {
		case g.n > 0:
			best, last = g.best, g.last
		case !b.grouped:
			best, last = math.NaN(), math.NaN()
		default:
			bestRun = nil
		}
		if b.grouped {
			row = append(append(row, g.counts()...), g.value(), g.spread())
		} else if g.diverged > 0 {
			row = append(row, "diverged")
		} else {
			row = append(row, g.status)
		}
		if b.Last {
			row = append(row, last)
		}
		row = append(row, best)
		if b.grouped {
			row = append(row, bestRun)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
