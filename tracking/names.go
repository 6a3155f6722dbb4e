package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/internal/suggest"
)

// NameKind is the kind of value that a name refers to.
type NameKind int

const (
	FieldName   NameKind = iota // a column of runs
	SettingName                 // a setting's value
	MetricName                  // a metric's last value
	BestName                    // a metric's best value
	StepName                    // the step of a metric's last value
)

// Name is a value that runs can be filtered, sorted and grouped by.
type Name struct {
	Kind NameKind
	Key  string // name of the field, the setting or the metric
}

// ErrUnknownName is returned for a name that no run has.
var ErrUnknownName = errors.New("unknown name")

// field is a value that every run has.
type field struct {
	sql  string // an expression on the row r of observed_runs
	kind valueKind
}

// divergedSQL is true for a run that ended because it diverged, and for one whose
// last loss or perplexity is not finite. NaN is NULL in SQL, 9e999 is infinity.
const divergedSQL = `(r.reason LIKE '` + DivergedReason + `%' OR EXISTS (
	SELECT 1 FROM run_summaries s JOIN metric_names n ON n.metric = s.metric
	WHERE s.run = r.number AND n.name IN ('train_loss', 'val_loss', 'val_ppl') AND coalesce(abs(s.value) = 9e999, 1)))`

var fields = map[string]field{
	"id": {"r.id", textKind}, "name": {"r.name", textKind}, "note": {"r.note", textKind},
	"status": {"r.status", statusKind}, "reason": {"r.reason", textKind}, "diverged": {divergedSQL, boolKind},
	"started": {"r.started", timeKind}, "ended": {"r.ended", timeKind},
	"seconds": {"r.seconds", numberKind}, "steps": {"r.steps", numberKind}, "tokens": {"r.tokens", numberKind},
	"host": {"r.host", textKind}, "cpu": {"r.cpu", textKind}, "device": {"r.device", textKind}, "threads": {"r.threads", numberKind},
	"dataset": {"r.dataset", textKind}, "dataset_path": {"r.dataset_path", textKind},
	"dataset_fingerprint": {"r.dataset_fingerprint", textKind},
	"parent":              {"r.parent", textKind}, "git_commit": {"r.git_commit", textKind}, "git_dirty": {"r.git_dirty", boolKind},
}

// Name looks up text: a field of every run (status), a setting (optimizer.lr), the
// last value of a metric (val_ppl), or its best value (best.val_ppl). The prefixes
// "settings." and "metrics." decide where a setting and a metric share a name.
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
	if slices.Contains(configs.Keys(), text) { // also where no run tells
		return checkName(ctx, q, Name{SettingName, text})
	}
	name, err := checkName(ctx, q, Name{MetricName, text})
	if errors.Is(err, ErrUnknownName) {
		name, err = checkName(ctx, q, Name{SettingName, text})
	}
	return name, err
}

// checkName returns an error unless some run has the name. A store without runs
// accepts every name.
func checkName(ctx context.Context, q queryer, name Name) (Name, error) {
	statement := `SELECT EXISTS (SELECT 1 FROM metric_names WHERE name = ?), NOT EXISTS (SELECT 1 FROM runs)`
	if name.Kind == SettingName {
		statement = `SELECT EXISTS (SELECT 1 FROM run_settings WHERE key = ?), NOT EXISTS (SELECT 1 FROM runs)`
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
	if near := suggest.Name(name.Key, all); near != "" && near != name.Key {
		return Name{}, fmt.Errorf("%w %q: did you mean %s?", ErrUnknownName, name.Key, near)
	} else if near != "" && name.Kind == SettingName {
		return Name{}, fmt.Errorf("%w %q: it is no setting", ErrUnknownName, name.Key)
	} else if near != "" {
		return Name{}, fmt.Errorf("%w %q: it is no metric", ErrUnknownName, name.Key)
	}
	return Name{}, fmt.Errorf("%w %q: it is no field, and no run has such a setting or metric", ErrUnknownName, name.Key)
}

// allNames lists the known names, for a suggestion.
func allNames(ctx context.Context, q queryer) ([]string, error) {
	names := slices.Sorted(maps.Keys(fields))
	err := forEach(ctx, q, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}, `
		SELECT name FROM metric_names
		UNION
		SELECT key FROM run_settings WHERE run IN (SELECT number FROM runs ORDER BY number DESC LIMIT 100)`)
	return names, err
}

// summaryOf selects a column of a metric's summary in the run r.
const summaryOf = "(SELECT %s FROM run_summaries WHERE run = r.number AND metric = (SELECT metric FROM metric_names WHERE name = ?))"

// sql is the SQL expression of the name's value in the row r of observed_runs.
func (n Name) sql() expression {
	switch n.Kind {
	case SettingName:
		return expression{"(SELECT value FROM run_settings WHERE run = r.number AND key = ?)", []any{n.Key}}
	case MetricName:
		return expression{fmt.Sprintf(summaryOf, "value"), []any{n.Key}}
	case BestName:
		return expression{fmt.Sprintf(summaryOf, "best"), []any{n.Key}}
	case StepName:
		return expression{fmt.Sprintf(summaryOf, "step"), []any{n.Key}}
	}
	return expression{fields[n.Key].sql, nil}
}

// number is like sql, without the words of a setting that has words and numbers: for
// SQLite, a text is greater than every number.
func (n Name) number() expression {
	if n.Kind != SettingName {
		return n.sql()
	}
	return expression{"(SELECT iif(typeof(value) = 'text', NULL, value) FROM run_settings WHERE run = r.number AND key = ?)", []any{n.Key}}
}

// shown is like sql, with booleans as people write them: SQL has none.
func (n Name) shown() expression {
	switch {
	case n.Kind == SettingName:
		return expression{"(SELECT CASE type WHEN 'boolean' THEN iif(value, 'true', 'false') ELSE value END" +
			" FROM run_settings WHERE run = r.number AND key = ?)", []any{n.Key}}
	case n.Kind == FieldName && fields[n.Key].kind == boolKind:
		return expression{"iif(" + fields[n.Key].sql + ", 'true', 'false')", nil}
	}
	return n.sql()
}

// valueKind is the type of an operand in a filter.
type valueKind string

const (
	textKind     valueKind = "a text"
	statusKind   valueKind = "a status"
	numberKind   valueKind = "a number"
	boolKind     valueKind = "true or false"
	timeKind     valueKind = "a time"
	durationKind valueKind = "a duration"
	mixedKind    valueKind = "a number or a word"
	nilKind      valueKind = "nil"
	anyKind      valueKind = "" // kind of a name in a store without runs
)

// kind returns the type of a name's values. Settings are recorded with their type;
// a duration is recorded as a text such as 1h30m0s.
func (n Name) kind(ctx context.Context, q queryer) (valueKind, error) {
	switch n.Kind {
	case FieldName:
		return fields[n.Key].kind, nil
	case MetricName, BestName, StepName:
		return numberKind, nil
	}
	if configs.HasWordsAndNumbers(n.Key) {
		return mixedKind, nil
	}
	var recorded string
	var value any
	err := q.QueryRowContext(ctx, `SELECT type, value FROM run_settings WHERE key = ? AND type <> 'null' LIMIT 1`, n.Key).
		Scan(&recorded, &value)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return anyKind, nil
	case err != nil:
		return anyKind, err
	}
	switch recorded {
	case "boolean":
		return boolKind, nil
	case "integer", "real":
		return numberKind, nil
	}
	if text, ok := value.(string); ok && strings.HasSuffix(text, "s") {
		if _, err := time.ParseDuration(text); err == nil {
			return durationKind, nil
		}
	}
	return textKind, nil
}
