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

// Best ranks groups of runs by a metric: over seeds, the mean and the spread
// say more than the luckiest run.
type Best struct {
	By     string // the metric
	keys   Columns
	prefix int // how many characters of an id people need
	groups []group
}

// group are the runs that share the values of the keys.
type group struct {
	key  []any
	n    int
	mean float64
	m2   float64 // sum of squared distances from the mean
	best float64
	id   string // of the best run
}

// NewBest reads the best value of metric in each of the selected runs and
// groups them by the values of keys, without which every run is by itself. Runs
// on different datasets are never put into one group.
func NewBest(ctx context.Context, store *tracking.Store, query tracking.Query, metric string, keys []string, now time.Time) (*Best, error) {
	value, err := store.Name(ctx, metric)
	if err != nil {
		return nil, questionError("metric", err)
	}
	if value.Kind == tracking.SettingName {
		return nil, fmt.Errorf("metric %w: %q is a setting", tracking.ErrBadQuestion, metric)
	}
	if value.Kind == tracking.MetricName {
		value.Kind = tracking.BestName
	}
	if len(keys) == 0 {
		keys = []string{"id", "name"}
	}
	b := &Best{By: metric}
	names := []tracking.Name{value, {Kind: tracking.FieldName, Key: "id"}, {Kind: tracking.FieldName, Key: "dataset_fingerprint"}}
	for _, key := range keys {
		name, err := store.Name(ctx, key)
		if err != nil {
			return nil, questionError("group", err)
		}
		names = append(names, name)
		b.keys = append(b.keys, fieldOf(key, name, now))
	}
	query.Limit = 0 // of runs; see Limit for groups
	rows, err := store.Values(ctx, query, names...)
	if err != nil {
		return nil, err
	}
	b.collect(rows)
	runs := make([]tracking.RunSummary, len(b.groups))
	for i, g := range b.groups {
		runs[i].ID = g.id
	}
	b.prefix, err = store.PrefixLength(ctx, runs)
	return b, err
}

// Limit keeps the best n groups and reports whether there were more.
func (b *Best) Limit(n int) bool {
	if len(b.groups) <= n {
		return false
	}
	b.groups = b.groups[:n]
	return true
}

func questionError(what string, err error) error {
	if errors.Is(err, tracking.ErrUnknownName) {
		return fmt.Errorf("%s %w: %w", what, tracking.ErrBadQuestion, err)
	}
	return err
}

// collect groups rows of value, id, dataset and the keys' values.
func (b *Best) collect(rows [][]any) {
	highest := tracking.HigherIsBetter(strings.TrimPrefix(b.By, "best."))
	datasets := map[any]bool{}
	for _, row := range rows {
		datasets[row[2]] = true
	}
	if len(datasets) > 1 {
		fingerprint := runField("dataset_fingerprint", time.Time{})
		fingerprint.Title, fingerprint.Human = "dataset", func(value any) string { return shorten("", plain(value)) }
		b.keys = append(Columns{fingerprint}, b.keys...)
	}
	index := map[string]int{}
	for _, row := range rows {
		value, ok := toFloat(row[0])
		if !ok {
			continue
		}
		key := row[3:]
		if len(datasets) > 1 {
			key = row[2:]
		}
		text := fmt.Sprintf("%#v", key)
		i, known := index[text]
		if !known {
			i = len(b.groups)
			index[text] = i
			b.groups = append(b.groups, group{key: key, best: value, id: plain(row[1])})
		}
		b.groups[i].add(value, plain(row[1]), highest)
	}
	slices.SortStableFunc(b.groups, func(a, c group) int {
		if highest {
			a, c = c, a
		}
		switch {
		case a.mean < c.mean:
			return -1
		case a.mean > c.mean:
			return 1
		}
		return 0
	})
}

// add is Welford's update.
func (g *group) add(value float64, id string, highest bool) {
	g.n++
	delta := value - g.mean
	g.mean += delta / float64(g.n)
	g.m2 += delta * (value - g.mean)
	if highest && value > g.best || !highest && value < g.best {
		g.best, g.id = value, id
	}
}

// sd is the standard deviation of the sample; NaN for a single run.
func (g *group) sd() float64 {
	if g.n < 2 {
		return math.NaN()
	}
	return math.Sqrt(g.m2 / float64(g.n-1))
}

func toFloat(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, !math.IsNaN(v)
	case int64:
		return float64(v), true
	}
	return 0, false
}

// Write writes the ranking, the best group first.
func (b *Best) Write(o Output) error {
	format := metricFormat(strings.TrimPrefix(b.By, "best."))
	t := Table{Columns: append(b.keys.abbreviated(b.prefix).heads(),
		Column{Name: "n", Title: "n", Right: true},
		Column{Name: "mean", Title: "mean " + metricTitle(b.By), Right: true, Human: format},
		Column{Name: "sd", Title: "sd", Right: true, Human: significant},
		Column{Name: "best", Title: "best", Right: true, Human: format},
		Column{Name: "best_run", Title: "best run", Human: shortID(b.prefix)},
	)}
	for _, g := range b.groups {
		t.Rows = append(t.Rows, append(slices.Clone(g.key), int64(g.n), g.mean, g.sd(), g.best, g.id))
	}
	if o.Format == JSON {
		return writeJSON(o.W, t.objects())
	}
	return o.Render(t)
}
