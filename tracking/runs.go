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
	Limit int      // 0 is no limit
}

// Runs returns the selected runs.
func (s *Store) Runs(ctx context.Context, query Query) ([]RunSummary, error) {
	var runs []RunSummary
	err := s.snapshot(ctx, func(q queryer) (err error) {
		runs, err = readRuns(ctx, q, query)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", explain(err))
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

func readRuns(ctx context.Context, q queryer, query Query) ([]RunSummary, error) {
	text := strings.Builder{}
	text.WriteString(runsSQL)
	var args []any
	if query.IDs != nil {
		ids, err := json.Marshal(query.IDs)
		if err != nil {
			return nil, err
		}
		text.WriteString(" WHERE id IN (SELECT value FROM json_each(?))")
		args = append(args, string(ids))
	}
	text.WriteString(" ORDER BY started DESC, number DESC")
	if query.Limit > 0 {
		text.WriteString(" LIMIT ?")
		args = append(args, query.Limit)
	}
	var runs []RunSummary
	err := forEach(ctx, q, func(rows *sql.Rows) error {
		run, err := scanRun(rows)
		runs = append(runs, run)
		return err
	}, text.String(), args...)
	if err != nil {
		return nil, err
	}
	return runs, fillRuns(ctx, q, runs)
}

func scanRun(rows *sql.Rows) (RunSummary, error) {
	var r RunSummary
	var started, ended, heartbeat string
	err := rows.Scan(&r.number, &r.ID, &r.Name, &r.Note, &r.Status, &r.Reason, &started, &ended, &heartbeat,
		&r.Seconds, &r.Steps, &r.Tokens, &r.Host, &r.PID, &r.CPU, &r.Device, &r.Threads,
		&r.Dataset, &r.DatasetPath, &r.DatasetFingerprint, &r.Parent)
	r.Started, r.Ended = parseTime(started), parseTime(ended)
	if r.Status == Crashed && r.Ended.IsZero() {
		r.Ended = parseTime(heartbeat)
		r.Reason = fmt.Sprintf("process %d on %s is gone", r.PID, r.Host)
	}
	return r, err
}

// fillRuns adds settings, metrics and tags, with one query each for all runs.
func fillRuns(ctx context.Context, q queryer, runs []RunSummary) error {
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
	err = forEach(ctx, q, func(rows *sql.Rows) error {
		var number int64
		var key, kind string
		var value any
		if err := rows.Scan(&number, &key, &value, &kind); err != nil {
			return err
		}
		byNumber[number].Settings[key] = decodeSetting(value, kind)
		return nil
	}, runsSettingsSQL, string(list))
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
	}, runsSummariesSQL, string(list))
	if err != nil {
		return err
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
