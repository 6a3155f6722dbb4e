package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/tracking"
)

// selection are the flags that choose runs.
type selection struct {
	where string
	sort  string
	limit int
}

const whereHelp = `--where is a condition on names. A name is a field of every run (id, name, note,
status, reason, started, ended, seconds, steps, tokens, dataset, host, device,
diverged, ...), a setting (optimizer.lr), the last value of a metric (val_ppl) or
its best (best.val_ppl). Write texts in quotes; only values of one type compare, and
a value that a setting or status never has is an error.

  status == 'finished'                  also running, interrupted, failed, crashed
  val_ppl < 120 && optimizer.lr >= 0.1  also == != <= > + - * / and, or, not, ||, !
  optimizer.kind in ['sgd', 'adam']     also not in, contains, startsWith, endsWith
  'baseline' in tags && model.tied      true and false need no comparison
  started > ago('36h')                  or > '2026-01-31' (UTC)
  val_ppl == nil                        no value; == NaN, finite(val_ppl), diverged`

func (s *selection) addFlags(cmd *cobra.Command, limit int) {
	flags := cmd.Flags()
	flags.StringVar(&s.where, "where", "", "only runs for which this `condition` holds")
	flags.StringVar(&s.sort, "sort", "", "order by these `names`; the prefix - means descending (default -started)")
	flags.IntVar(&s.limit, "limit", limit, "at most this many, 0 for all")
}

func (s *selection) check() error {
	if s.limit < 0 {
		return usagef("--limit must not be negative, got %d", s.limit)
	}
	return nil
}

func (s *selection) query() tracking.Query {
	return tracking.Query{Where: s.where, Sort: s.sort, Limit: s.limit}
}

// chosenRuns returns the runs that refs name, in their order. Without refs it returns
// the runs that the flags select.
func chosenRuns(ctx context.Context, store *tracking.Store, refs []string, s selection) ([]tracking.RunSummary, error) {
	query := s.query()
	if len(refs) == 0 {
		return store.Runs(ctx, query)
	}
	query.IDs = []string{}
	for _, ref := range refs {
		id, err := store.Resolve(ctx, ref)
		if err != nil {
			return nil, err
		}
		query.IDs = append(query.IDs, id)
	}
	runs, err := store.Runs(ctx, query)
	if err != nil || s.sort != "" {
		return runs, err
	}
	return inOrder(runs, query.IDs), nil
}

// withRuns opens the store and calls use with the runs that refs name, or else with
// the runs that the flags select. A message says that the limit left runs out; it
// never leaves out a run that refs name.
func (o *reportOptions) withRuns(ctx context.Context, open func() (*tracking.Store, error), refs []string, s selection,
	use func(*tracking.Store, []tracking.RunSummary) error) error {
	store, err := open()
	if err != nil {
		return err
	}
	defer store.Close()
	if len(refs) > 0 {
		s.limit = 0
	}
	limit := s.limit
	if limit > 0 {
		s.limit++ // one more shows whether the limit leaves any out
	}
	runs, err := chosenRuns(ctx, store, refs, s)
	if err != nil {
		return err
	}
	if limit > 0 && len(runs) > limit {
		runs, o.cut = runs[:limit], true
		o.app.notef("only the first %d runs; --limit 0 takes all", limit)
	}
	return use(store, runs)
}

// inOrder returns the runs in the order of ids, each once.
func inOrder(runs []tracking.RunSummary, ids []string) []tracking.RunSummary {
	byID := map[string]tracking.RunSummary{}
	for _, run := range runs {
		byID[run.ID] = run
	}
	var ordered []tracking.RunSummary
	for _, id := range ids {
		if run, ok := byID[id]; ok {
			ordered = append(ordered, run)
			delete(byID, id)
		}
	}
	return ordered
}

// asUsage turns a malformed --where, --sort or name into a usage error (exit code 2).
func asUsage(err error) error {
	if errors.Is(err, tracking.ErrBadQuestion) {
		return &usageError{err}
	}
	return err
}
