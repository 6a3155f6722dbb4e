package tracking

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
)

// Query selects runs. The zero value selects all, the newest first.
type Query struct {
	IDs   []string // only these
	Where string   // an expression over names, see Name; "" is no filter
	Sort  string   // names with commas between them, - before one for falling order
	Limit int      // 0 is no limit
	Parts *Parts   // nil is everything
}

// Parts say what to read of runs beside their fields: of thousands of runs,
// settings and metrics that nobody asked for take most of the time.
type Parts struct {
	Settings []string // keys
	Metrics  []string // names
	Tags     bool
}

// Runs returns the selected runs. An error of the question itself is
// ErrBadQuestion.
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

// snapshot runs read in a transaction, so that all its queries see one state.
func (s *Store) snapshot(ctx context.Context, read func(queryer) error) error {
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return read(tx)
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
	}, seenSQL+runsSQL+clauses, args...)
	if err != nil {
		return nil, err
	}
	return runs, fillRuns(ctx, q, runs, query.Parts)
}

// clauses writes what follows FROM seen: the selection, its order and its limit.
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

// conditions writes the WHERE clause of a query, if it has one.
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
		&r.Dataset, &r.DatasetPath, &r.DatasetFingerprint, &r.Parent)
	r.Started, r.Ended = parseTime(started), parseTime(ended)
	r.recorded = !r.Ended.IsZero()
	if r.Status == Crashed && !r.recorded {
		r.Ended = parseTime(heartbeat)
		r.Reason = fmt.Sprintf("process %d on %s is gone", r.PID, r.Host)
	}
	return r, err
}

// fillRuns adds settings, metrics and tags, with one query each for all runs.
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
		byNumber[number].Settings[key] = decodeSetting(value, kind)
		return nil
	}, runsSettingsSQL, sql.Named("runs", string(list)), sql.Named("keys", keys))
	if err != nil {
		return err
	}
	err = forEach(ctx, q, func(rows *sql.Rows) error {
		var run int64
		var name string
		var s Summary
		var last, best sql.NullFloat64
		var bestStep sql.NullInt64
		if err := rows.Scan(&run, &name, &s.Step, &last, &bestStep, &best); err != nil {
			return err
		}
		s.Last, s.Best, s.BestStep = number(last), number(best), bestStep.Int64
		byNumber[run].Metrics[name] = s
		return nil
	}, runsSummariesSQL, sql.Named("runs", string(list)), sql.Named("names", names))
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
		byNumber[number].Tags = append(byNumber[number].Tags, tag)
		return nil
	}, runsTagsSQL, string(list))
}

// lists are the keys and names as JSON, nil where all are wanted.
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
