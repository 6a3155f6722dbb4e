package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/koala-lm/koala-lm/internal/visible"
	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/tracking"
)

// Columns are the columns of a list of runs.
type Columns []field

// field is a column with the function that reads its value from a run.
type field struct {
	Column
	value func(tracking.RunSummary) any
	name  tracking.Name // of the setting or metric that it reads; the zero Name for a field
}

// runFields are the columns that are neither settings nor metrics.
func runFields(now time.Time) []field {
	return []field{
		{Column: Column{Name: "id", Title: "id"}, value: func(r tracking.RunSummary) any { return r.ID }},
		{Column: Column{Name: "name", Title: "name", Human: brief(40), Flexible: true}, value: func(r tracking.RunSummary) any { return r.Name }},
		{Column: Column{Name: "status", Title: "status"}, value: func(r tracking.RunSummary) any { return string(r.Status) }},
		{Column: Column{Name: "reason", Title: "reason", Human: brief(60), Flexible: true}, value: func(r tracking.RunSummary) any { return r.Reason }},
		{Column: Column{Name: "note", Title: "note", Human: brief(60), Flexible: true}, value: func(r tracking.RunSummary) any { return r.Note }},
		{Column: Column{Name: "tags", Title: "tags", Human: brief(40), Flexible: true}, value: func(r tracking.RunSummary) any { return r.Tags }},
		{Column: Column{Name: "started", Title: "started", Human: ago(now)}, value: func(r tracking.RunSummary) any { return r.Started }},
		{Column: Column{Name: "ended", Title: "ended", Human: ago(now)}, value: func(r tracking.RunSummary) any { return r.Ended }},
		{Column: Column{Name: "seconds", Title: "time", Right: true, Human: span}, value: func(r tracking.RunSummary) any { return r.Seconds }},
		{Column: Column{Name: "steps", Title: "steps", Right: true, Human: count}, value: func(r tracking.RunSummary) any { return r.Steps }},
		{Column: Column{Name: "tokens", Title: "tokens", Right: true, Human: short}, value: func(r tracking.RunSummary) any { return r.Tokens }},
		{Column: Column{Name: "host", Title: "host"}, value: func(r tracking.RunSummary) any { return r.Host }},
		{Column: Column{Name: "cpu", Title: "cpu"}, value: func(r tracking.RunSummary) any { return r.CPU }},
		{Column: Column{Name: "device", Title: "device"}, value: func(r tracking.RunSummary) any { return r.Device }},
		{Column: Column{Name: "threads", Title: "threads", Right: true}, value: func(r tracking.RunSummary) any { return int64(r.Threads) }},
		{Column: Column{Name: "dataset", Title: "dataset", Human: brief(24), Flexible: true}, value: func(r tracking.RunSummary) any { return r.Dataset }},
		{Column: Column{Name: "dataset_path", Title: "dataset path"}, value: func(r tracking.RunSummary) any { return r.DatasetPath }},
		{Column: Column{Name: "dataset_fingerprint", Title: "fingerprint"}, value: func(r tracking.RunSummary) any { return r.DatasetFingerprint }},
		{Column: Column{Name: "parent", Title: "parent"}, value: func(r tracking.RunSummary) any { return r.Parent }},
	}
}

// brief writes text for people, cut in its middle to limit characters.
func brief(limit int) func(any) string {
	return func(value any) string {
		return cutMiddle(visible.Text(plain(value)), limit)
	}
}

// setting is the column of a setting.
func setting(name, key string) field {
	return field{
		Column: Column{Name: name, Title: key, Human: brief(40), Flexible: true},
		value:  func(r tracking.RunSummary) any { return r.Settings[key] },
		name:   tracking.Name{Kind: tracking.SettingName, Key: key},
	}
}

// lastOf is the column of a metric's last value, bestOf of the run's result in it:
// the best value, or NaN if the run diverged.
func lastOf(name, metric string) field {
	return metricOf(name, metric, func(r tracking.RunSummary) any { return r.Metrics[metric].Last })
}

func bestOf(name, metric string) field {
	return metricOf(name, metric, func(r tracking.RunSummary) any { return r.Result(metric).Best })
}

func metricOf(name, metric string, value func(tracking.RunSummary) any) field {
	return field{
		Column: Column{Name: name, Title: metricTitle(name), Right: true, Human: metricFormat(metric)},
		value: func(r tracking.RunSummary) any {
			if _, known := r.Metrics[metric]; !known {
				return nil
			}
			return value(r)
		},
		name: tracking.Name{Kind: tracking.MetricName, Key: metric},
	}
}

// metricTitle abbreviates the longest of the common names.
func metricTitle(name string) string {
	switch name {
	case metric.TokensPerSecond:
		return "tok/s"
	case metric.ValidUnigramPPL:
		return "unigram"
	}
	if metric, ok := strings.CutPrefix(name, "best."); ok {
		return "best " + metric
	}
	return strings.TrimPrefix(name, "metrics.")
}

func metricFormat(name string) func(any) string {
	if name == metric.TokensPerSecond || name == metric.RSSBytes {
		return count
	}
	return significant
}

// DefaultColumns are the columns of a list unless the user chooses others.
func DefaultColumns(now time.Time) Columns {
	spare := func(f field, spare int) field {
		f.Spare = spare
		return f
	}
	titled := func(f field, title string) field {
		f.Title = title
		return f
	}
	return Columns{
		runField("id", now), runField("name", now), runField("status", now),
		spare(titled(setting("model.kind", "model.kind"), "model"), 6),
		titled(setting("optimizer.kind", "optimizer.kind"), "optimizer"),
		spare(runField("dataset", now), 7), spare(runField("steps", now), 1),
		spare(runField("tokens", now), 5), spare(runField("seconds", now), 4),
		spare(lastOf(metric.TokensPerSecond, metric.TokensPerSecond), 2),
		bestOf("best.val_ppl", metric.ValidPPL), spare(bestOf("best.test_ppl", metric.TestPPL), 1), spare(lastOf(metric.ValidUnigramPPL, metric.ValidUnigramPPL), 8),
		spare(runField("started", now), 3),
	}
}

// ParseColumns reads names with commas between them: fields, settings, metrics
// and "best." metrics, see tracking.Store.Name. A leading + adds them to the default
// columns.
func ParseColumns(ctx context.Context, store *tracking.Store, text string, now time.Time) (Columns, error) {
	if text == "" {
		return DefaultColumns(now), nil
	}
	names, beside := strings.CutPrefix(text, "+")
	var columns Columns
	if beside {
		columns = DefaultColumns(now)
	}
	for name := range strings.SplitSeq(names, ",") {
		f, err := parseColumn(ctx, store, strings.TrimSpace(name), now)
		if err != nil {
			return nil, err
		}
		columns = append(columns, f)
	}
	return columns, nil
}

func parseColumn(ctx context.Context, store *tracking.Store, text string, now time.Time) (field, error) {
	if f := runField(text, now); f.value != nil {
		return f, nil
	}
	name, err := store.Name(ctx, text)
	if errors.Is(err, tracking.ErrUnknownName) {
		return field{}, fmt.Errorf("column %w: %w", tracking.ErrBadQuestion, err)
	}
	if err != nil {
		return field{}, err
	}
	return fieldOf(text, name, now), nil
}

// fieldOf returns the column of a name.
func fieldOf(text string, name tracking.Name, now time.Time) field {
	switch name.Kind {
	case tracking.SettingName:
		return setting(text, name.Key)
	case tracking.BestName:
		return bestOf(text, name.Key)
	case tracking.MetricName:
		return lastOf(text, name.Key)
	}
	return runField(name.Key, now)
}

// runField returns the field of that name, or the zero field.
func runField(name string, now time.Time) field {
	for _, f := range runFields(now) {
		if f.Name == name {
			return f
		}
	}
	return field{}
}

// heads returns the columns without their functions.
func (c Columns) heads() []Column {
	heads := make([]Column, len(c))
	for i, f := range c {
		heads[i] = f.Column
	}
	return heads
}

// rows returns the values of each run.
func (c Columns) rows(runs []tracking.RunSummary) [][]any {
	rows := make([][]any, len(runs))
	for i, run := range runs {
		for _, f := range c {
			rows[i] = append(rows[i], f.value(run))
		}
	}
	return rows
}

// Parts are what the columns need of a run.
func (c Columns) Parts() *tracking.Parts {
	parts := &tracking.Parts{}
	for _, f := range c {
		switch {
		case f.name.Kind == tracking.SettingName:
			parts.Settings = append(parts.Settings, f.name.Key)
		case f.name.Kind == tracking.MetricName:
			parts.Metrics = append(parts.Metrics, f.name.Key)
		case f.Name == "tags":
			parts.Tags = true
		}
	}
	return parts
}

// abbreviated shows people the first prefix characters of ids.
func (c Columns) abbreviated(prefix int) Columns {
	c = slices.Clone(c)
	for i := range c {
		if c[i].Name == "id" {
			c[i].Human = shortID(prefix)
		}
	}
	return c
}

func shortID(prefix int) func(any) string {
	return func(value any) string {
		id := plain(value)
		if prefix > 0 {
			id = id[:min(prefix, len(id))]
		}
		return visible.Text(id)
	}
}
