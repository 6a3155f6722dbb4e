package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/report"
)

type reportQueryOptions struct {
	*reportOptions
	sql     string
	timeout time.Duration
}

func newReportQueryCmd(shared *reportOptions) *cobra.Command {
	opts := &reportQueryOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "query SQL",
		Short: "Query the store in SQL",
		Long: `Query the store in SQL. A query can only read, and ends after --timeout.

  runs      id, name, status, started, seconds, steps, tokens, dataset, ...
  settings  run, key, value
  metrics   run, name, step, tokens, time, seconds, value
  latest    run, name, step, value, best_step, best
  tags      run, tag
  events    run, time, kind, message

The column run is the id of a run. NaN is NULL, infinity is 9e999, times are RFC
3339 in UTC. Values are read row by row; --format table needs all rows at once and
takes at most 20,000.`,
		Example: `  koala-lm report query "SELECT status, count(*) FROM runs GROUP BY status"
  koala-lm report query "SELECT step, value FROM metrics WHERE run = '01k...' AND name = 'val_ppl'" --format csv`,
		Args: exactArguments("one SQL statement in quotes"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.sql = args[0]
			return asUsage(runReportQuery(cmd.Context(), opts))
		},
	}
	cmd.Flags().DurationVar(&opts.timeout, "timeout", 30*time.Second, "stop the query after this `time`")
	opts.addFormat(cmd)
	return cmd
}

func runReportQuery(ctx context.Context, opts *reportQueryOptions) (err error) {
	if opts.timeout <= 0 {
		return usagef("--timeout must be a time above 0, such as 30s, not %v", opts.timeout)
	}
	store, err := opts.open()
	if err != nil {
		return err
	}
	defer store.Close()
	tooSlow := fmt.Errorf("no whole answer within %v: ask for less, or for longer with --timeout", opts.timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, opts.timeout, tooSlow)
	defer cancel()
	rows, err := store.QuerySQL(ctx, opts.sql)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if err := report.WriteSQLRows(opts.output(), rows); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return nil
}
