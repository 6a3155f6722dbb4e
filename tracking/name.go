package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/internal/suggest"
)

// NameKind says what a name in a question stands for.
type NameKind int

const (
	FieldName   NameKind = iota // a column of runs
	SettingName                 // a setting's value
	MetricName                  // a metric's last value
	BestName                    // a metric's best value
)

// Name is a thing that runs can be filtered, sorted and grouped by.
type Name struct {
	Kind NameKind
	Key  string // of the field, the setting or the metric
}

// ErrUnknownName is returned for a name that no run knows.
var ErrUnknownName = errors.New("unknown name")

// fields are the names of what every run has, with the column it is read from.
var fields = map[string]string{
	"id": "id", "name": "name", "note": "note", "status": "state", "reason": "reason",
	"started": "started", "ended": "ended", "seconds": "seconds", "steps": "steps", "tokens": "tokens",
	"host": "host", "cpu": "cpu", "device": "device", "threads": "threads",
	"dataset": "dataset", "dataset_path": "dataset_path", "dataset_fingerprint": "dataset_fingerprint",
	"parent": "parent", "git_commit": "git_commit", "git_dirty": "git_dirty",
}

// Name finds out what text stands for: a field of every run (status), a setting
// (optimizer.lr), the last value of a metric (val_ppl), or with "best." before
// it the best. The prefixes "settings." and "metrics." settle doubts.
func (s *Store) Name(ctx context.Context, text string) (Name, error) {
	name, err := findName(ctx, s.read, text)
	if err != nil {
		return Name{}, explain(err)
	}
	return name, nil
}

func findName(ctx context.Context, q queryer, text string) (Name, error) {
	if _, ok := fields[text]; ok {
		return Name{FieldName, text}, nil
	}
	if key, ok := strings.CutPrefix(text, "best."); ok {
		return checkName(ctx, q, Name{BestName, key})
	}
	if key, ok := strings.CutPrefix(text, "metrics."); ok {
		return checkName(ctx, q, Name{MetricName, key})
	}
	if key, ok := strings.CutPrefix(text, "settings."); ok {
		return checkName(ctx, q, Name{SettingName, key})
	}
	name, err := checkName(ctx, q, Name{MetricName, text})
	if errors.Is(err, ErrUnknownName) {
		name, err = checkName(ctx, q, Name{SettingName, text})
	}
	return name, err
}

// checkName wants one run at least to know the name. In a store without runs
// every name will do.
func checkName(ctx context.Context, q queryer, name Name) (Name, error) {
	statement := nameIsMetricSQL
	if name.Kind == SettingName {
		statement = nameIsSettingSQL
	}
	var known, empty bool
	if err := q.QueryRowContext(ctx, statement, name.Key).Scan(&known, &empty); err != nil {
		return Name{}, err
	}
	if known || empty {
		return name, nil
	}
	all, err := allNames(ctx, q)
	if err != nil {
		return Name{}, err
	}
	if near := suggest.Name(name.Key, all); near != "" {
		return Name{}, fmt.Errorf("%w %q: did you mean %s?", ErrUnknownName, name.Key, near)
	}
	return Name{}, fmt.Errorf("%w %q: it is no field, and no run has such a setting or metric", ErrUnknownName, name.Key)
}

// allNames are the names there are, for a suggestion.
func allNames(ctx context.Context, q queryer) ([]string, error) {
	names := slices.Sorted(maps.Keys(fields))
	err := forEach(ctx, q, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}, nameListSQL)
	return names, err
}

// sql is the name's value for the row of `seen` at hand (see sql/runs.sql).
func (n Name) sql() (text string, args []any) {
	switch n.Kind {
	case SettingName:
		return "(SELECT value FROM run_settings WHERE run = seen.number AND key = ?)", []any{n.Key}
	case MetricName:
		return "(SELECT value FROM run_summaries WHERE run = seen.number AND metric = (SELECT metric FROM metric_names WHERE name = ?))", []any{n.Key}
	case BestName:
		return "(SELECT best FROM run_summaries WHERE run = seen.number AND metric = (SELECT metric FROM metric_names WHERE name = ?))", []any{n.Key}
	}
	return "seen." + fields[n.Key], nil
}

// shown is like sql, with booleans as people write them: SQL has none.
func (n Name) shown() (text string, args []any) {
	if n.Kind == SettingName {
		return "(SELECT CASE type WHEN 'boolean' THEN iif(value, 'true', 'false') ELSE value END" +
			" FROM run_settings WHERE run = seen.number AND key = ?)", []any{n.Key}
	}
	return n.sql()
}
