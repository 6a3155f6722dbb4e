package report

import (
	"strings"
	"time"

	"github.com/koala-lm/koala-lm/tracking"
)

// field is a column together with how its value is had from a run.
type field struct {
	Column
	value func(tracking.RunSummary) any
}

// runFields are the columns that are neither settings nor metrics.
func runFields(now time.Time) []field {
	return []field{
		{Column{Name: "id", Title: "id"}, func(r tracking.RunSummary) any { return r.ID }},
		{Column{Name: "name", Title: "name", Human: brief(32)}, func(r tracking.RunSummary) any { return r.Name }},
		{Column{Name: "status", Title: "status"}, func(r tracking.RunSummary) any { return string(r.Status) }},
		{Column{Name: "reason", Title: "reason", Human: brief(60)}, func(r tracking.RunSummary) any { return r.Reason }},
		{Column{Name: "note", Title: "note", Human: brief(60)}, func(r tracking.RunSummary) any { return r.Note }},
		{Column{Name: "tags", Title: "tags", Human: brief(40)}, func(r tracking.RunSummary) any { return r.Tags }},
		{Column{Name: "started", Title: "started", Human: ago(now)}, func(r tracking.RunSummary) any { return r.Started }},
		{Column{Name: "ended", Title: "ended", Human: ago(now)}, func(r tracking.RunSummary) any { return r.Ended }},
		{Column{Name: "seconds", Title: "time", Right: true, Human: span}, func(r tracking.RunSummary) any { return r.Seconds }},
		{Column{Name: "steps", Title: "steps", Right: true, Human: count}, func(r tracking.RunSummary) any { return r.Steps }},
		{Column{Name: "tokens", Title: "tokens", Right: true, Human: short}, func(r tracking.RunSummary) any { return r.Tokens }},
		{Column{Name: "host", Title: "host"}, func(r tracking.RunSummary) any { return r.Host }},
		{Column{Name: "cpu", Title: "cpu"}, func(r tracking.RunSummary) any { return r.CPU }},
		{Column{Name: "device", Title: "device"}, func(r tracking.RunSummary) any { return r.Device }},
		{Column{Name: "threads", Title: "threads", Right: true}, func(r tracking.RunSummary) any { return int64(r.Threads) }},
		{Column{Name: "dataset", Title: "dataset", Human: brief(24)}, func(r tracking.RunSummary) any { return r.Dataset }},
		{Column{Name: "dataset_path", Title: "dataset path"}, func(r tracking.RunSummary) any { return r.DatasetPath }},
		{Column{Name: "dataset_fingerprint", Title: "fingerprint"}, func(r tracking.RunSummary) any { return r.DatasetFingerprint }},
		{Column{Name: "parent", Title: "parent"}, func(r tracking.RunSummary) any { return r.Parent }},
	}
}

// brief writes text for people, cut where it would fill the line.
func brief(limit int) func(any) string {
	return func(value any) string {
		runes := []rune(harmless(plain(value)))
		if len(runes) > limit {
			return string(runes[:limit-1]) + "…"
		}
		return string(runes)
	}
}

// setting is the column of a setting.
func setting(key string) field {
	return field{Column{Name: key, Title: strings.TrimPrefix(key, "settings.")}, func(r tracking.RunSummary) any {
		return r.Settings[strings.TrimPrefix(key, "settings.")]
	}}
}

// metric is the column of a metric's last value.
func metric(name string) field {
	return metricOf(name, strings.TrimPrefix(name, "metrics."), func(m tracking.Summary) float64 { return m.Last })
}

func metricOf(name, metric string, value func(tracking.Summary) float64) field {
	return field{Column{Name: name, Title: metricTitle(name), Right: true, Human: metricFormat(metric)},
		func(r tracking.RunSummary) any {
			m, known := r.Metrics[metric]
			if !known {
				return nil
			}
			return value(m)
		}}
}

// metricTitle is short where the name is long and seen every day.
func metricTitle(name string) string {
	switch name {
	case "tokens_per_second":
		return "tok/s"
	case "val_unigram_ppl":
		return "unigram"
	}
	return strings.TrimPrefix(name, "metrics.")
}

func metricFormat(metric string) func(any) string {
	if metric == "tokens_per_second" || metric == "rss_bytes" {
		return count
	}
	return significant
}

// listFields are the columns of a list unless others are asked for.
func listFields(now time.Time) []field {
	byName := map[string]field{}
	for _, f := range runFields(now) {
		byName[f.Name] = f
	}
	spare := func(f field, spare int) field {
		f.Spare = spare
		return f
	}
	optimizer := setting("optimizer.kind")
	optimizer.Title = "optimizer"
	model := setting("model.kind")
	model.Title = "model"
	return []field{
		byName["id"], byName["name"], byName["status"],
		spare(model, 6), optimizer,
		spare(byName["dataset"], 7), spare(byName["steps"], 1), spare(byName["tokens"], 5), spare(byName["seconds"], 4),
		spare(metric("tokens_per_second"), 2),
		metric("val_ppl"), metric("test_ppl"), metric("val_unigram_ppl"),
		spare(byName["started"], 3),
	}
}

// columnsOf returns the heads of fields.
func columnsOf(fields []field) []Column {
	columns := make([]Column, len(fields))
	for i, f := range fields {
		columns[i] = f.Column
	}
	return columns
}

// rowsOf returns the values of fields for each run.
func rowsOf(fields []field, runs []tracking.RunSummary) [][]any {
	rows := make([][]any, len(runs))
	for i, run := range runs {
		for _, f := range fields {
			rows[i] = append(rows[i], f.value(run))
		}
	}
	return rows
}
