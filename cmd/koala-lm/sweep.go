package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
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
	listing bool
	index   int
	maxRuns int
	limit   time.Duration
	format  string
	changed func(flag string) bool
}

func newSweepCmd(a *app) *cobra.Command {
	opts := &sweepOptions{app: a}
	cmd := &cobra.Command{
		Use:   "sweep FILE",
		Short: "Train every point of a search over settings",
		Long: `Train every point of a grid or random search over settings and seeds. FILE is
YAML; relative paths are taken from its folder:

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
    model.hidden: {log: [64, 1024]}      # a whole number where the setting needs one
    train.batch: [20, 40, 80]            # one of these
  trials: 20
  random_seed: 1                         # of the draws

or several of them, each with name, set, grid, random, trials, seeds, best_seeds,
stop of its own, in a list under "searches". With "best_seeds: [2, 3]" the best point
of each search is then trained again with these seeds: the best of one seed is
partly luck. Further keys:

  metric: val_loss                 # decides; default val_ppl. direction: min or max
  stop: {kind: asha, min_steps: 200, factor: 3}   # or {kind: median, min_steps: 200}
  time_limit: 12h                  # start no run later

asha stops a trial at the steps 200, 600, 1800, ... unless it is among the best
third there; when all trials have been there, those that are in it after all continue.
median stops one that is worse than the median of the finished ones. Both compare the
trials of one search, and never stop best_seeds. A point that starts slowly and would
win is lost: give min_steps at which the order is the order of the end, often a third
of the steps; a rate that falls helps large rates only at the end.

Runs are tagged sweep:NAME (the name of the file, or "name:") and search:NAME.
Started again, a sweep skips the finished trials, also after its file was renamed,
and resumes the interrupted ones; an extended file runs its new trials. A failed
trial is recorded, and trained again only with --retry-failed. The output of each
trial is in RUNS/sweeps/NAME/TRIAL.log.

For job arrays (Slurm, GNU parallel, Kubernetes), --list prints the trials and
--index N trains one; report import brings the stores of several machines together.`,
		Example: `  koala-lm sweep lr.yaml --data prepared/godoc
  koala-lm sweep lr.yaml --jobs 2 --dry-run
  koala-lm sweep lr.yaml --index $SLURM_ARRAY_TASK_ID --store node$SLURM_NODEID/koala.db
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
	f.StringArrayVarP(&opts.set, "set", "s", nil, "one setting as `key=value` for all trials; replaces the file's (repeatable)")
	f.IntVarP(&opts.jobs, "jobs", "j", 1, "train this many `runs` at a time; they share the cores unless --threads is given")
	f.StringVar(&opts.store, "store", "", "store `file` (default $KOALA_LM_STORE or "+defaultStore+")")
	f.StringVar(&opts.runs, "runs", "", runsHelp)
	f.BoolVar(&opts.retry, "retry-failed", false, "train failed trials again")
	f.BoolVar(&opts.dryRun, "dry-run", false, "list the trials and the state of their runs, and stop")
	f.BoolVar(&opts.listing, "list", false, "list the trials with their index, and stop")
	f.IntVar(&opts.index, "index", 0, "train the trial with this `index` in --list alone, as a task of a job array")
	f.IntVar(&opts.maxRuns, "max-runs", 0, "start at most this many `runs`; 0 is no limit")
	f.DurationVar(&opts.limit, "time-limit", 0, "start no run after this `time`; 0 is no limit")
	addFormatFlag(cmd, &opts.format, tableFormats...)
	opts.compute.add(cmd)
	// The only error is a flag that does not exist or has its completion already.
	_ = cmd.RegisterFlagCompletionFunc("set", completeSettings)
	return cmd
}

func runSweep(ctx context.Context, opts *sweepOptions) error {
	if opts.maxRuns < 0 || opts.limit < 0 || opts.index < 0 {
		return usagef("--max-runs, --time-limit and --index must not be negative")
	}
	if opts.jobs < 1 || opts.jobs > 256 {
		return usagef("--jobs must be from 1 to 256, not %d", opts.jobs)
	}
	if err := opts.compute.check(); err != nil {
		return err
	}
	s, err := opts.resolve(ctx)
	if err != nil {
		return err
	}
	if len(s.Trials)+s.File.Further() == 1 {
		opts.app.notef("%s is one trial: several come from grid, from random with trials, or from seeds", opts.file)
	}
	if opts.dryRun || opts.listing {
		return opts.list(ctx, s)
	}
	if opts.changed("index") {
		for _, flag := range []string{"jobs", "max-runs", "time-limit", "format"} {
			if opts.changed(flag) {
				return usagef("--index trains one trial and prints no table: --%s cannot be given beside it", flag)
			}
		}
	}
	if opts.index >= len(s.Trials) {
		return usagef("--index must be from 0 to %d, the trials that --list prints, not %d", len(s.Trials)-1, opts.index)
	}
	if s.Program, err = os.Executable(); err != nil {
		return fmt.Errorf("find koala-lm: %w", err)
	}
	if _, err := request.FindEngine(); err != nil {
		return err
	}
	if err := prepareOutput(s.Store, opts.runs); err != nil {
		return err
	}
	if opts.changed("index") {
		if err := s.RunOne(ctx, opts.index); err != nil {
			return err
		}
		return s.Failure()
	}
	if opts.app.io.ErrIsTerminal && !opts.app.quiet {
		live := &sweepProgress{io: opts.app.io}
		s.Watch, s.Notef = live.draw, live.notef
		defer live.clear()
	}
	if err := s.Run(ctx); err != nil {
		return err
	}
	if err := opts.compare(ctx, s); err != nil {
		return err
	}
	return s.Failure()
}

// resolve reads the file and finds every error in it before the first run starts.
func (opts *sweepOptions) resolve(ctx context.Context) (*sweep.Runner, error) {
	file, err := sweep.Read(opts.file)
	if err != nil {
		return nil, err
	}
	for _, assignment := range opts.set {
		if err := file.Set(assignment, "--set"); err != nil {
			return nil, err
		}
	}
	file.Data = cmp.Or(opts.data, file.Data)
	if file.Data == "" {
		return nil, usagef("no data: give --data DIR, or data: in %s", opts.file)
	}
	if opts.limit > 0 {
		file.TimeLimit = opts.limit
	}
	s := &sweep.Runner{File: file, Jobs: opts.jobs, Retry: opts.retry, MaxRuns: opts.maxRuns, Notef: opts.app.notef}
	var data string
	for _, p := range []struct {
		to   *string
		from string
	}{{&data, file.Data}, {&s.Store, storePath(opts.store)}, {&opts.runs, runsPath(opts.runs, storePath(opts.store))}} {
		if *p.to, err = absolute(p.from); err != nil {
			return nil, err
		}
	}
	s.Folder = filepath.Join(opts.runs, "sweeps", file.Name)
	s.Train = []string{"--data", data}
	s.Common = []string{"--store", s.Store, "--runs", opts.runs}
	if opts.compute.device != "auto" {
		s.Common = append(s.Common, "--device", opts.compute.device)
	}
	if !opts.changed("threads") && opts.jobs > 1 {
		opts.compute.threads = max(1, runtime.NumCPU()/opts.jobs)
	}
	if opts.compute.threads > 0 {
		s.Common = append(s.Common, "--threads", strconv.Itoa(opts.compute.threads))
	}
	return s, expand(ctx, s, data)
}

// expand lists the sweep's trials and checks each of them against the dataset.
func expand(ctx context.Context, s *sweep.Runner, folder string) error {
	dataset, err := data.Open(folder, data.Unverified())
	if err != nil {
		return err
	}
	defer dataset.Close()
	s.Dataset = tracking.Dataset{Name: dataset.Name(), Path: folder, Fingerprint: dataset.Fingerprint()}
	if s.Trials, err = s.File.Trials(ctx, s.Dataset.Fingerprint); err != nil {
		return err
	}
	for _, trial := range s.Trials {
		if err := checkDataset(dataset, trial.Settings); err != nil {
			return fmt.Errorf("%s: %w", trial.Label, err)
		}
	}
	return nil
}

// list prints each trial and the state of its run. Once the trials are done, the
// list includes the repeats of the best ones.
func (opts *sweepOptions) list(ctx context.Context, s *sweep.Runner) error {
	known, err := s.Known(ctx)
	if err != nil {
		return err
	}
	trials, all := s.Trials, true
	for _, trial := range trials {
		run, ok := known[trial.ID]
		all = all && ok && s.Done(run)
	}
	if all {
		repeats, err := s.Repeats(known)
		if err != nil {
			return err
		}
		trials = append(trials, repeats...)
	}
	table := report.Table{Columns: []report.Column{{Name: "index", Title: "index", Right: true}, {Name: "trial", Title: "trial"},
		{Name: "status", Title: "status"}, {Name: "run", Title: "run"}, {Name: "search", Title: "search"}, {Name: "label", Title: "label"}}}
	for i, trial := range trials {
		status, run := "new", ""
		if r, ok := known[trial.ID]; ok {
			status, run = sweep.State(r), r.ID
		}
		table.Rows = append(table.Rows, []any{int64(i), trial.ID, status, run, trial.Search, trial.Label})
	}
	if n := s.File.Further(); n > 0 && !all {
		opts.app.notef("after these, the best point of each search is repeated: %d further runs", n)
	}
	return table.Write((&reportOptions{app: opts.app, format: opts.format}).output())
}

// compare prints the comparison of the sweep's runs.
func (opts *sweepOptions) compare(ctx context.Context, s *sweep.Runner) error {
	store, err := tracking.OpenCurrent(s.Store)
	if err != nil {
		return err
	}
	defer store.Close()
	runs, err := store.Runs(ctx, tracking.Query{Where: s.Where(), Sort: "best.val_ppl"})
	if err != nil || len(runs) == 0 {
		return err
	}
	prefix, err := store.PrefixLength(ctx, runs)
	if err != nil {
		return err
	}
	output := (&reportOptions{app: opts.app, format: opts.format}).output()
	return report.Compare{Runs: runs, Prefix: prefix, Now: time.Now()}.Write(output)
}
