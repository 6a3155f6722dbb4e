package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/request"
	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/sweep"
	"github.com/koala-lm/koala-lm/tracking"
)

type sweepOptions struct {
	app     *app
	compute computeFlags
	file    string
	data    string
	store   string
	runs    string
	set     []string
	jobs    int
	retry   bool
	dryRun  bool
	format  string
	changed func(flag string) bool
}

func newSweepCmd(a *app) *cobra.Command {
	opts := &sweepOptions{app: a}
	cmd := &cobra.Command{
		Use:   "sweep FILE",
		Short: "Train every point of a search over settings",
		Long: `Train every point of a grid or random search over settings and seeds. FILE is
YAML:

  data: prepared/godoc             # or --data
  config: small                    # preset, file, or a list of them
  set: {train.epochs: 1}           # for all
  seeds: [1, 2, 3]                 # every point with each
  grid:                            # every combination ...
    optimizer.kind: [sgd, adam]
    train.batch: [20, 40]

or, in place of grid,

  random:                          # ... or that many draws
    optimizer.lr: {log: [1e-4, 1e-1]}    # also {uniform: [a, b]}, {int: [a, b]}
    train.batch: [20, 40, 80]            # one of these
  trials: 20

or several of them, each with name, set, grid, random, trials, seeds, best_seeds
of its own, in a list under "searches". With "best_seeds: [2, 3]" the best point
of each search, by val_ppl, is then trained again with these seeds: what was
chosen for being the best of one seed is worth what it reaches with others.

Runs are tagged sweep:NAME, NAME being the file's or what "name:" says, and
search:NAME where their search has one. Started again, a sweep skips what has
finished and resumes what was interrupted; a file that was extended runs what is
new.`,
		Example: `  koala-lm sweep lr.yaml --data prepared/godoc
  koala-lm sweep lr.yaml --jobs 2 --dry-run
  koala-lm report best --where "'sweep:lr' in tags" --by val_ppl --group-by optimizer.lr`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("sweep wants one FILE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.file = args[0]
			opts.changed = cmd.Flags().Changed
			if err := refuseEmpty(cmd, "data", "store", "runs"); err != nil {
				return err
			}
			return runSweep(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.data, "data", "d", "", "dataset `folder` (default: the file's data)")
	f.StringArrayVarP(&opts.set, "set", "s", nil, "one setting as `key=value` over the file's for all trials (repeatable)")
	f.IntVarP(&opts.jobs, "jobs", "j", 1, "how many runs at a time; they share the cores unless --threads says otherwise")
	f.StringVar(&opts.store, "store", "", "store `file` (default $KOALA_LM_STORE or "+defaultStore+")")
	f.StringVar(&opts.runs, "runs", "", "`folder` of the runs' folders (default $KOALA_LM_RUNS or "+defaultRuns+")")
	f.BoolVar(&opts.retry, "retry-failed", false, "train again what has failed")
	f.BoolVar(&opts.dryRun, "dry-run", false, "list the trials and how they stand, and stop")
	addFormatFlag(cmd, &opts.format, "auto", "table", "json", "csv", "md", "tsv")
	opts.compute.add(cmd)
	// The only error is a flag that does not exist or has its completion already.
	_ = cmd.RegisterFlagCompletionFunc("set", completeSettings)
	return cmd
}

func runSweep(ctx context.Context, opts *sweepOptions) error {
	if opts.jobs < 1 || opts.jobs > 256 {
		return usagef("--jobs must be from 1 to 256, not %d", opts.jobs)
	}
	if err := opts.compute.check(); err != nil {
		return err
	}
	s, err := opts.resolve()
	if err != nil {
		return err
	}
	if opts.dryRun {
		return s.list(ctx)
	}
	if s.program, err = os.Executable(); err != nil {
		return fmt.Errorf("find koala-lm: %w", err)
	}
	if _, err := request.FindEngine(); err != nil {
		return err
	}
	if err := prepareOutput(s.store, s.runs); err != nil {
		return err
	}
	unlock, err := lockFolder(s.folder())
	if err != nil {
		return fmt.Errorf("sweep %s: %w", s.file.Name, err)
	}
	defer unlock()
	if err := s.trainAll(ctx); err != nil {
		return err
	}
	return s.report(ctx, opts.format)
}

// resolve finds everything that is wrong before the first run starts.
func (opts *sweepOptions) resolve() (*sweeper, error) {
	file, err := sweep.Read(opts.file)
	if err != nil {
		return nil, err
	}
	for _, assignment := range opts.set {
		if err := file.Set(assignment, "--set"); err != nil {
			return nil, err
		}
	}
	s := &sweeper{app: opts.app, file: file, jobs: opts.jobs, retry: opts.retry, compute: opts.compute}
	if !opts.changed("threads") && opts.jobs > 1 {
		s.compute.threads = max(1, runtime.NumCPU()/opts.jobs)
	}
	if opts.data != "" {
		file.Data = opts.data
	}
	if file.Data == "" {
		return nil, usagef("no data: give --data DIR, or data: in %s", opts.file)
	}
	for _, p := range []struct {
		to   *string
		from string
	}{{&s.data, file.Data}, {&s.store, storePath(opts.store)}, {&s.runs, runsPath(opts.runs)}} {
		if *p.to, err = absolute(p.from); err != nil {
			return nil, err
		}
	}
	dataset, err := data.Open(s.data, data.Unverified())
	if err != nil {
		return nil, err
	}
	defer dataset.Close()
	s.dataset = dataset.Fingerprint()
	if s.trials, err = file.Trials(s.dataset); err != nil {
		return nil, err
	}
	for _, trial := range s.trials {
		if err := checkDataset(dataset, trial.Settings); err != nil {
			return nil, fmt.Errorf("%s: %w", trial.Label, err)
		}
	}
	return s, nil
}

// list prints the trials and how they stand, among them the repeats of the best
// once it is known which these are.
func (s *sweeper) list(ctx context.Context) error {
	known, err := s.known(ctx)
	if err != nil {
		return err
	}
	trials, all := s.trials, true
	for _, trial := range trials {
		run, ok := known[trial.ID]
		all = all && ok && s.done(run)
	}
	if all {
		repeats, err := s.repeats(known)
		if err != nil {
			return err
		}
		trials = append(trials, repeats...)
	}
	for _, trial := range trials {
		status, run := "new", ""
		if r, ok := known[trial.ID]; ok {
			status, run = string(r.Status), r.ID
		}
		if _, err := fmt.Fprintf(s.app.io.Out, "%s\t%s\t%s\t%s\n", trial.ID, status, run, trial.Label); err != nil {
			return err
		}
	}
	return nil
}

// report compares the sweep's runs on standard output.
func (s *sweeper) report(ctx context.Context, format string) error {
	store, err := openStore(s.store)
	if err != nil {
		return err
	}
	defer store.Close()
	runs, err := store.Runs(ctx, tracking.Query{Where: s.where(), Sort: "val_ppl"})
	if err != nil || len(runs) == 0 {
		return err
	}
	prefix, err := store.PrefixLength(ctx, runs)
	if err != nil {
		return err
	}
	output := (&reportOptions{app: s.app, format: format}).output()
	if err := (report.Compare{Runs: runs, Prefix: prefix, Now: time.Now()}).Write(output); err != nil {
		return err
	}
	return s.failure()
}

// folder keeps what belongs to the sweep beside its runs: the log of each
// trial, and the lock.
func (s *sweeper) folder() string { return filepath.Join(s.runs, "sweeps", s.file.Name) }
