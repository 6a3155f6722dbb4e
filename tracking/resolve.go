package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/koala-lm/koala-lm/internal/suggest"
	"github.com/koala-lm/koala-lm/metric"
)

// ErrNoRun means that no run matches.
var ErrNoRun = errors.New("no such run")

// BestMetrics decide the reference "best": the first metric in which any run has a
// result counts.
var BestMetrics = []string{metric.ValidPPL, metric.ValidLoss, metric.TrainLoss}

// Resolve returns the id of the run that ref names. A ref is a whole id, "latest"
// (the newest run), "best" (the best result in validation perplexity on the dataset
// of the newest run that has one: perplexities compare only within a dataset), a
// name (the newest run of that name), or a unique prefix of an id.
func (s *Store) Resolve(ctx context.Context, ref string) (string, error) {
	var id string
	err := s.snapshot(ctx, func(q queryer) (err error) {
		id, err = resolve(ctx, q, ref)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("run %q: %w", ref, explain(err))
	}
	return id, nil
}

func resolve(ctx context.Context, q queryer, ref string) (string, error) {
	if ref == "" {
		return "", fmt.Errorf("%w: the reference is empty", ErrNoRun)
	}
	for _, try := range []func(context.Context, queryer, string) (string, error){byID, byKeyword, byName, byPrefix} {
		id, err := try(ctx, q, ref)
		if !errors.Is(err, sql.ErrNoRows) {
			return id, err
		}
	}
	names := []string{"latest", "best"}
	err := forEach(ctx, q, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}, `SELECT DISTINCT name FROM (SELECT name FROM runs ORDER BY number DESC LIMIT 200)`)
	if err != nil {
		return "", err
	}
	if near := suggest.Name(ref, names); near != "" {
		return "", fmt.Errorf("%w: did you mean %s?", ErrNoRun, near)
	}
	return "", fmt.Errorf("%w; `koala-lm report list` shows all runs", ErrNoRun)
}

func byID(ctx context.Context, q queryer, ref string) (id string, err error) {
	err = q.QueryRowContext(ctx, `SELECT id FROM runs WHERE id = ?`, strings.ToLower(ref)).Scan(&id)
	return id, err
}

func byName(ctx context.Context, q queryer, ref string) (id string, err error) {
	err = q.QueryRowContext(ctx, `SELECT id FROM runs WHERE name = ? ORDER BY started DESC, number DESC LIMIT 1`, ref).Scan(&id)
	return id, err
}

func byKeyword(ctx context.Context, q queryer, ref string) (id string, err error) {
	switch ref {
	case "latest":
		err = q.QueryRowContext(ctx, `SELECT id FROM runs ORDER BY started DESC, number DESC LIMIT 1`).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("%w: the store has none yet", ErrNoRun)
		}
		return id, err
	case "best":
		for _, metric := range BestMetrics {
			if err = q.QueryRowContext(ctx, `
				WITH results AS (
				  SELECT r.id, r.started, r.dataset_fingerprint, s.best
				  FROM metric_names n
				  JOIN run_summaries s ON s.metric = n.metric
				  JOIN runs r ON r.number = s.run
				  WHERE n.name = ? AND s.best IS NOT NULL AND abs(s.value) < 9e999 AND r.reason NOT LIKE '`+DivergedReason+`%'
				)
				SELECT id FROM results
				WHERE dataset_fingerprint = (SELECT dataset_fingerprint FROM results ORDER BY started DESC LIMIT 1)
				ORDER BY best, started DESC
				LIMIT 1`, metric).Scan(&id); !errors.Is(err, sql.ErrNoRows) {
				return id, err
			}
		}
		return "", fmt.Errorf("%w: none has %s yet", ErrNoRun, strings.Join(BestMetrics, " or "))
	}
	return "", sql.ErrNoRows
}

func byPrefix(ctx context.Context, q queryer, ref string) (string, error) {
	const shown = 5
	prefix := strings.ToLower(ref)
	var ids []string
	err := forEach(ctx, q, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT id FROM runs WHERE id >= :prefix AND id < :prefix || char(0x10ffff) ORDER BY id DESC LIMIT :limit`, sql.Named("prefix", prefix), sql.Named("limit", shown))
	switch {
	case err != nil:
		return "", err
	case len(ids) == 0:
		return "", sql.ErrNoRows
	case len(ids) > 1:
		return "", fmt.Errorf("several ids start with it: %s", strings.Join(ids, ", "))
	}
	return ids[0], nil
}

// Run returns the whole record of the run that ref names, see Resolve.
func (s *Store) Run(ctx context.Context, ref string) (RunDetail, error) {
	var detail RunDetail
	err := s.snapshot(ctx, func(q queryer) error {
		id, err := resolve(ctx, q, ref)
		if err != nil {
			return err
		}
		detail, err = s.readDetail(ctx, q, id)
		return err
	})
	if err != nil {
		return RunDetail{}, fmt.Errorf("run %q: %w", ref, explain(err))
	}
	return detail, nil
}

func (s *Store) readDetail(ctx context.Context, q queryer, id string) (RunDetail, error) {
	runs, err := s.readRuns(ctx, q, Query{IDs: []string{id}})
	if err != nil {
		return RunDetail{}, err
	}
	if len(runs) == 0 {
		return RunDetail{}, ErrNoRun
	}
	d := RunDetail{RunSummary: runs[0], Events: []Event{}}
	var facts, command, versions string
	err = q.QueryRowContext(ctx, `SELECT dataset_facts, git_commit, git_dirty, git_diff, command, versions FROM runs WHERE number = ?`, d.number).
		Scan(&facts, &d.Git.Commit, &d.Git.Dirty, &d.Git.Diff, &command, &versions)
	if err != nil {
		return RunDetail{}, err
	}
	for _, field := range []struct {
		text string
		into any
	}{{facts, &d.DatasetFacts}, {command, &d.Command}, {versions, &d.Versions}} {
		if err := decodeJSON(field.text, field.into); err != nil {
			return RunDetail{}, err
		}
	}
	plainNumbers(d.DatasetFacts)
	err = forEach(ctx, q, func(rows *sql.Rows) error {
		var e Event
		var at string
		err := rows.Scan(&at, &e.Kind, &e.Message)
		e.Time = parseTime(at)
		d.Events = append(d.Events, e)
		return err
	}, `SELECT at, kind, message FROM run_events WHERE run = ? ORDER BY event`, d.number)
	return d, err
}
