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

const whereHelp = `--where is an expression over names: those of every run (id, name, status, note,
started, seconds, steps, tokens, dataset, device, host, ...), settings
(optimizer.lr) and metrics (val_ppl is the last value, best.val_ppl the best),
with == != < <= > >= && || ! + - * /, in ['a', 'b'], 'tag' in tags, contains,
startsWith, endsWith, and ago('36h') for times.`

func (s *selection) addFlags(cmd *cobra.Command, limit int) {
	flags := cmd.Flags()
	flags.StringVar(&s.where, "where", "", "only runs for which this holds")
	flags.StringVar(&s.sort, "sort", "", "order by these names, - before one for falling order (default -started)")
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

// chosenRuns are the runs that refs name, in their order, or without any those
// that the flags select.
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

// withRuns opens the store and hands over the runs that refs name, or without
// any those that the flags select. What the limit leaves out is not left out
// silently, and runs that were named are never left out.
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
		s.limit++ // one more tells whether there are more
	}
	runs, err := chosenRuns(ctx, store, refs, s)
	if err != nil {
		return err
	}
	if limit > 0 && len(runs) > limit {
		runs = runs[:limit]
		o.app.notef("the first %d runs; --limit 0 takes all", limit)
	}
	return use(store, runs)
}

// inOrder puts runs in the order of ids, each once.
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

// asUsage makes a question that cannot be meant as it stands wrong usage.
func asUsage(err error) error {
	if errors.Is(err, tracking.ErrBadQuestion) {
		return &usageError{err}
	}
	return err
}
