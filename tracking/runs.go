package tracking

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/koala-lm/koala-lm/tracking/environment"
)

// RunSummary is a run as a list shows it.
type RunSummary struct {
	ID      string
	Name    string
	Note    string
	Status  Status // as seen by the reader: crashed if its process is gone
	Reason  string
	Started time.Time
	Ended   time.Time // zero while running; the last sign of life if crashed
	Seconds float64   // spent training
	Steps   int64
	Tokens  int64

	Host    string
	PID     int
	CPU     string
	Device  string
	Threads int

	Dataset            string
	DatasetPath        string // at the last start
	DatasetRelative    string // the same path from the store's folder
	DatasetFingerprint string
	TrainTokens        int64 // of the dataset; 0 if unknown
	Parent             string

	Settings map[string]any
	Metrics  map[string]Summary
	Tags     []string

	number   int64
	recorded bool // the store has its end
}

// Summary is the last and the best value of one metric of a run. Best is NaN where
// no value was finite.
type Summary struct {
	Step     int64 // of the last value
	Last     float64
	BestStep int64
	Best     float64
}

// RunDetail is the whole record of a run except its points.
type RunDetail struct {
	RunSummary
	DatasetFacts map[string]any
	Git          environment.Git
	Command      []string
	Versions     map[string]string
	Events       []Event
}

// Event is an entry in a run's journal.
type Event struct {
	Time    time.Time
	Kind    string
	Message string
}

// Query selects runs. The zero value selects all, the newest first.
type Query struct {
	IDs   []string  // only these
	Since time.Time // only runs with a sign of life at or after it, and running ones
	Tags  []string  // only runs with any of these tags; nil is no filter
	Where string    // an expression over names, see Name; "" is no filter
	Sort  string    // names with commas between them; the prefix - means descending
	Limit int       // 0 is no limit
	Parts *Parts    // nil is everything
}

// Parts lists what to read beside the fields of runs. Reading the unused settings
// and metrics of thousands of runs would take most of the time.
type Parts struct {
	Settings []string // keys
	Metrics  []string // names
	Tags     bool
}

// Runs returns the selected runs. A wrong query gives ErrBadQuestion.
func (s *Store) Runs(ctx context.Context, query Query) ([]RunSummary, error) {
	var runs []RunSummary
	err := s.snapshot(ctx, func(q queryer) (err error) {
		runs, err = s.readRuns(ctx, q, query)
		return err
	})
	if err != nil {
		return nil, explainQuestion(err, query)
	}
	return runs, nil
}

// DatasetMetric returns the last value of a metric that depends on the dataset alone,
// recorded by any run on the dataset with the fingerprint.
func (s *Store) DatasetMetric(ctx context.Context, fingerprint, metric string) (value float64, known bool, err error) {
	err = s.snapshot(ctx, func(q queryer) error {
		err := q.QueryRowContext(ctx, `
			SELECT s.value FROM runs r JOIN run_summaries s ON s.run = r.number
			WHERE r.dataset_fingerprint = ? AND s.metric = (SELECT metric FROM metric_names WHERE name = ?) AND s.value IS NOT NULL
			ORDER BY r.number DESC LIMIT 1`, fingerprint, metric).Scan(&value)
		known = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return value, known, err
}

func (s *Store) readRuns(ctx context.Context, q queryer, query Query) ([]RunSummary, error) {
	clauses, args, err := s.clauses(ctx, q, query)
	if err != nil {
		return nil, err
	}
	var runs []RunSummary
	err = forEach(ctx, q, func(rows *sql.Rows) error {
		run, err := scanRun(rows)
		runs = append(runs, run)
		return err
	}, `
		SELECT number, id, name, note, status, reason, started, coalesce(ended, ''), heartbeat,
		       seconds, steps, tokens, host, pid, cpu, device, threads,
		       dataset, dataset_path, dataset_relative, dataset_fingerprint,
		       iif(json_valid(dataset_facts), CAST(coalesce(dataset_facts ->> 'train_tokens', 0) AS INTEGER), 0), parent
		FROM observed_runs AS r`+clauses, args...)
	if err != nil {
		return nil, err
	}
	return runs, fillRuns(ctx, q, runs, query.Parts)
}

// clauses writes the WHERE, ORDER BY and LIMIT of a query on observed_runs AS r.
func (s *Store) clauses(ctx context.Context, q queryer, query Query) (string, []any, error) {
	conditions, args, err := s.conditions(ctx, q, query)
	if err != nil {
		return "", nil, err
	}
	order, orderArgs, err := compileOrder(ctx, q, query.Sort)
	if err != nil {
		return "", nil, err
	}
	clauses := conditions + " ORDER BY " + order
	args = append(args, orderArgs...)
	if query.Limit > 0 {
		clauses += " LIMIT ?"
		args = append(args, query.Limit)
	}
	return clauses, args, nil
}

// conditions writes the WHERE clause of a query, or nothing.
func (s *Store) conditions(ctx context.Context, q queryer, query Query) (string, []any, error) {
	var conditions []string
	var args []any
	if query.IDs != nil {
		ids, err := json.Marshal(query.IDs)
		if err != nil {
			return "", nil, err
		}
		conditions = append(conditions, "id IN (SELECT value FROM json_each(?))")
		args = append(args, string(ids))
	}
	if !query.Since.IsZero() {
		conditions = append(conditions, "(heartbeat >= ? OR status = 'running')")
		args = append(args, formatTime(query.Since))
	}
	if query.Tags != nil {
		tags, err := json.Marshal(query.Tags)
		if err != nil {
			return "", nil, err
		}
		conditions = append(conditions, "number IN (SELECT run FROM run_tags WHERE tag IN (SELECT value FROM json_each(?)))")
		args = append(args, string(tags))
	}
	if query.Where != "" {
		condition, whereArgs, err := compileWhere(ctx, q, s.now(), query.Where)
		if err != nil {
			return "", nil, err
		}
		conditions = append(conditions, condition)
		args = append(args, whereArgs...)
	}
	if len(conditions) == 0 {
		return "", nil, nil
	}
	return " WHERE " + strings.Join(conditions, " AND "), args, nil
}

func scanRun(rows *sql.Rows) (RunSummary, error) {
	var r RunSummary
	var started, ended, heartbeat string
	err := rows.Scan(&r.number, &r.ID, &r.Name, &r.Note, &r.Status, &r.Reason, &started, &ended, &heartbeat,
		&r.Seconds, &r.Steps, &r.Tokens, &r.Host, &r.PID, &r.CPU, &r.Device, &r.Threads,
		&r.Dataset, &r.DatasetPath, &r.DatasetRelative, &r.DatasetFingerprint, &r.TrainTokens, &r.Parent)
	r.Started, r.Ended = parseTime(started), parseTime(ended)
	r.recorded = !r.Ended.IsZero()
	if r.Status == Crashed && !r.recorded {
		r.Ended = parseTime(heartbeat)
		r.Reason = fmt.Sprintf("process %d on %s is gone", r.PID, r.Host)
	}
	return r, err
}

// fillRuns reads settings, metrics and tags of all runs, with one query for each of
// the three.
func fillRuns(ctx context.Context, q queryer, runs []RunSummary, parts *Parts) error {
	byNumber := make(map[int64]*RunSummary, len(runs))
	numbers := make([]int64, len(runs))
	for i := range runs {
		runs[i].Settings = map[string]any{}
		runs[i].Metrics = map[string]Summary{}
		runs[i].Tags = []string{}
		byNumber[runs[i].number] = &runs[i]
		numbers[i] = runs[i].number
	}
	// An index of a damaged file may lead to rows of other runs.
	of := func(number int64) (*RunSummary, error) {
		if run := byNumber[number]; run != nil {
			return run, nil
		}
		return nil, sqlite3.Error{Code: sqlite3.ErrCorrupt}
	}
	list, err := json.Marshal(numbers)
	if err != nil {
		return err
	}
	keys, names, err := parts.lists()
	if err != nil {
		return err
	}
	err = forEach(ctx, q, func(rows *sql.Rows) error {
		var number int64
		var key, kind string
		var value any
		if err := rows.Scan(&number, &key, &value, &kind); err != nil {
			return err
		}
		run, err := of(number)
		if err == nil {
			run.Settings[key] = decodeSetting(value, kind)
		}
		return err
	}, `
		SELECT run, key, value, type FROM run_settings
		WHERE run IN (SELECT value FROM json_each(:runs))
		  AND (:keys IS NULL OR key IN (SELECT value FROM json_each(:keys)))`, sql.Named("runs", string(list)), sql.Named("keys", keys))
	if err != nil {
		return err
	}
	err = forEach(ctx, q, func(rows *sql.Rows) error {
		var id int64
		var name string
		var s Summary
		var last, best sql.NullFloat64
		var bestStep sql.NullInt64
		if err := rows.Scan(&id, &name, &s.Step, &last, &bestStep, &best); err != nil {
			return err
		}
		s.Last, s.Best, s.BestStep = number(last), number(best), bestStep.Int64
		run, err := of(id)
		if err == nil {
			run.Metrics[name] = s
		}
		return err
	}, `
		SELECT s.run, n.name, s.step, s.value, s.best_step, s.best
		FROM run_summaries s JOIN metric_names n ON n.metric = s.metric
		WHERE s.run IN (SELECT value FROM json_each(:runs))
		  AND (:names IS NULL OR n.name IN (SELECT value FROM json_each(:names)))`, sql.Named("runs", string(list)), sql.Named("names", names))
	if err != nil {
		return err
	}
	if parts != nil && !parts.Tags {
		return nil
	}
	return forEach(ctx, q, func(rows *sql.Rows) error {
		var number int64
		var tag string
		if err := rows.Scan(&number, &tag); err != nil {
			return err
		}
		run, err := of(number)
		if err == nil {
			run.Tags = append(run.Tags, tag)
		}
		return err
	}, `
		SELECT run, tag FROM run_tags
		WHERE run IN (SELECT value FROM json_each(?))
		ORDER BY run, tag`, string(list))
}

// lists returns the keys and names as JSON; nil selects all.
func (p *Parts) lists() (keys, names any, err error) {
	if p == nil {
		return nil, nil, nil
	}
	settings, err := json.Marshal(append([]string{}, p.Settings...))
	if err != nil {
		return nil, nil, err
	}
	metrics, err := json.Marshal(append([]string{}, p.Metrics...))
	return string(settings), string(metrics), err
}

// Values returns the values of names for each selected run, in the order of the
// query. It suits queries that need few values of many runs. A value that a run
// lacks is nil.
func (s *Store) Values(ctx context.Context, query Query, names ...Name) ([][]any, error) {
	var table [][]any
	err := s.snapshot(ctx, func(q queryer) error {
		statement, args, err := s.compileValues(ctx, q, query, names)
		if err != nil {
			return err
		}
		return forEach(ctx, q, func(rows *sql.Rows) error {
			row := make([]any, len(names))
			into := make([]any, len(names))
			for i := range row {
				into[i] = &row[i]
			}
			if err := rows.Scan(into...); err != nil {
				return err
			}
			table = append(table, row)
			return nil
		}, statement, args...)
	})
	if err != nil {
		return nil, explainQuestion(err, query)
	}
	return table, nil
}

func (s *Store) compileValues(ctx context.Context, q queryer, query Query, names []Name) (string, []any, error) {
	columns := make([]string, len(names))
	var args []any
	for i, name := range names {
		column := name.shown()
		columns[i] = column.text
		args = append(args, column.args...)
	}
	clauses, clauseArgs, err := s.clauses(ctx, q, query)
	if err != nil {
		return "", nil, err
	}
	return "SELECT " + strings.Join(columns, ", ") + " FROM observed_runs AS r" + clauses, append(args, clauseArgs...), nil
}

// explainQuestion attributes an error to the query or to the store. SQLite's
// refusal to compile a filter, such as one nested too deep, is an error of the
// query.
func explainQuestion(err error, query Query) error {
	if errors.Is(err, ErrBadQuestion) {
		return err
	}
	var se sqlite3.Error
	if errors.As(err, &se) && se.Code == sqlite3.ErrError && query.Where != "" {
		return fmt.Errorf("filter %w: %w", ErrBadQuestion, err)
	}
	return fmt.Errorf("read runs: %w", explain(err))
}

// compileOrder turns "val_ppl,-started" into an ORDER BY clause; a minus means
// descending. Runs without a value come last in either direction.
func compileOrder(ctx context.Context, q queryer, text string) (string, []any, error) {
	const newestFirst = "r.started DESC, r.number DESC"
	if text == "" {
		return newestFirst, nil, nil
	}
	var order strings.Builder
	var args []any
	for part := range strings.SplitSeq(text, ",") {
		part, falling := strings.CutPrefix(strings.TrimSpace(part), "-")
		if part == "" {
			return "", nil, fmt.Errorf("order %w: give names with commas between them, and prefix a name with - for descending order; got %q", ErrBadQuestion, text)
		}
		name, err := findName(ctx, q, part)
		if errors.Is(err, ErrUnknownName) {
			return "", nil, fmt.Errorf("order %w: %w", ErrBadQuestion, err)
		}
		if err != nil {
			return "", nil, err
		}
		value := name.sql()
		order.WriteString(value.text)
		args = append(args, value.args...)
		if falling {
			order.WriteString(" DESC")
		}
		order.WriteString(" NULLS LAST, ")
	}
	return order.String() + newestFirst, args, nil
}

// PrefixLength returns how many characters of an id, at least six, identify each of
// the runs among all runs of the store.
func (s *Store) PrefixLength(ctx context.Context, runs []RunSummary) (int, error) {
	ids := make([]string, len(runs))
	for i, run := range runs {
		ids[i] = run.ID
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return 0, err
	}
	length := 6
	err = forEach(ctx, s.read, func(rows *sql.Rows) error {
		var id, below, above string
		if err := rows.Scan(&id, &below, &above); err != nil {
			return err
		}
		length = max(length, shared(id, below)+1, shared(id, above)+1)
		return nil
	}, `
		SELECT j.value,
		       coalesce((SELECT max(id) FROM runs WHERE id < j.value), ''),
		       coalesce((SELECT min(id) FROM runs WHERE id > j.value), '')
		FROM json_each(?) j`, string(list))
	if err != nil {
		return 0, fmt.Errorf("abbreviate ids: %w", explain(err))
	}
	return length, nil
}

// shared returns the length of the common prefix of two ids.
func shared(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
