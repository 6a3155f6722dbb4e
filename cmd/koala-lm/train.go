package main

import (
	"context"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/memory"
	"github.com/koala-lm/koala-lm/internal/processor"
	"github.com/koala-lm/koala-lm/lm/spec"
)

type trainOptions struct {
	app      *app
	data     string
	settings settingsFlags
	compute  computeFlags
	ranks    ranksFlags

	name, note string
	tags       []string
	store      string
	runs       string

	resume, fork, init string
	findLR             bool
	dryRun             bool

	// changed reports whether a flag was given.
	changed func(flag string) bool
}

func newTrainCmd(a *app) *cobra.Command {
	opts := &trainOptions{app: a}
	var helpSettings, helpPresets bool
	cmd := &cobra.Command{
		Use:   "train --data DIR",
		Short: "Train a model and record the run",
		Long: `Train a model on a dataset that prepare made, and record the run in the store.

Settings come from defaults, a preset, a file, --set and flags, later over
earlier; --help-settings and --help-presets list them. A setting that is absent takes
its default for the kind of model and optimizer chosen.

Whichever of steps, epochs and time limit comes first ends the run. Ctrl-C
saves and stops it (exit code 130); --resume continues with the same bits.`,
		Example: `  koala-lm train --data prepared/godoc
  koala-lm train --data prepared/godoc --set optimizer.kind=sgd --epochs 2 --name sgd
  koala-lm train --data prepared/wt2 --config mine.yaml --set train.batch=40 --seed 3
  koala-lm train --data prepared/godoc --set optimizer.kind=adam --find-lr
  koala-lm train --data prepared/godoc --nproc 4
  RANK=0 WORLD_SIZE=2 koala-lm train --data prepared/godoc --rendezvous-file /shared/meet
  koala-lm train --resume latest
  koala-lm train --resume latest --steps 5000
  koala-lm train --fork sgd --set optimizer.lr=5 --steps 20000`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.changed = cmd.Flags().Changed
			switch {
			case helpSettings:
				return printSettingsHelp(a.io)
			case helpPresets:
				return printPresetsHelp(a.io)
			}
			if err := refuseEmpty(cmd, "data", "resume", "fork", "init", "store", "runs", "rendezvous-file"); err != nil {
				return err
			}
			return runTrain(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.data, "data", "d", "", "dataset `folder` to train on")
	opts.settings.add(cmd)
	f.StringVarP(&opts.name, "name", "n", "", "the run's `name`")
	f.StringArrayVar(&opts.tags, "tag", nil, "`word` to find the run by (repeatable)")
	f.StringVar(&opts.note, "note", "", "`text` to keep with the run")
	f.StringVar(&opts.store, "store", "", "store `file` (default $KOALA_LM_STORE or "+defaultStore+")")
	f.StringVar(&opts.runs, "runs", "", runsHelp)
	f.StringVar(&opts.resume, "resume", "", "continue this `RUN` from its last checkpoint; --steps, --epochs and --time-limit change its length")
	f.StringVar(&opts.fork, "fork", "", "start a new run from this `RUN`'s weights and settings")
	f.StringVar(&opts.init, "init", "", "start from the weights at this `path`: a safetensors file, or a folder of transformers, which has the shape too")
	f.BoolVar(&opts.findLR, "find-lr", false, "test rising learning rates instead of training; nothing is recorded")
	opts.compute.add(cmd)
	opts.ranks.add(cmd)
	f.BoolVar(&opts.dryRun, "dry-run", false, "check everything, print the settings and stop")
	f.BoolVar(&helpSettings, "help-settings", false, "list all settings")
	f.BoolVar(&helpPresets, "help-presets", false, "list the presets")
	registerRunCompletion(cmd, &opts.store, "resume", "fork")
	return cmd
}

// runTrain checks everything that can be checked without libtorch, and hands the run
// over to the engine.
func runTrain(ctx context.Context, opts *trainOptions) error {
	if err := opts.checkUsage(); err != nil {
		return err
	}
	r, err := opts.request(ctx)
	if err != nil || r == nil {
		return err
	}
	if err := opts.ranks.put(r); err != nil {
		return err
	}
	if opts.dryRun {
		printSettings(opts.app.io.Out, r.Settings)
		return opts.printCost(r)
	}
	if _, err := request.FindEngine(); err != nil {
		return err // before anything is written
	}
	if !r.FindLR && r.Place.Leads() {
		if err := prepareOutput(r.Store, r.Runs); err != nil {
			return err
		}
	}
	return request.Exec("train", r)
}

// printCost prints the precision that the run settles and what it will take, and warns if
// there is not as much memory.
func (opts *trainOptions) printCost(r *request.Train) error {
	dataset, err := data.Open(r.Data, data.Unverified())
	if err != nil {
		return err
	}
	defer dataset.Close()
	gpu := strings.HasPrefix(string(r.Device), "cuda")
	settings, precision := r.Settings.SettlePrecision(dataset.Vocab(), spec.Processor{GPU: gpu, BFloat16: processor.BFloat16()})
	if precision != "" {
		opts.app.notef("%s", precision)
	}
	cost, known := settings.Cost(dataset.Vocab(), r.Ranks(), gpu)
	if !known {
		return nil
	}
	opts.app.notef("%v", cost)
	if gpu {
		return nil
	}
	free, known := memory.Free()
	processes := uint64(max(1, r.NProc))
	if need := uint64(cost.Total()) * processes; known && need > free {
		opts.app.notef("on the CPU the run will not fit: it needs about %s, and %s are free: lower train.batch, the length of sequences or the model, or set train.gradient_checkpointing",
			humanize.IBytes(need), humanize.IBytes(free))
	}
	return nil
}

// checkUsage refuses flags that contradict one another.
func (opts *trainOptions) checkUsage() error {
	given := func(names ...string) string {
		for _, name := range names {
			if opts.changed(name) {
				return name
			}
		}
		return ""
	}
	switch {
	case opts.resume != "":
		if name := given("fork", "init", "find-lr", "name", "tag", "note", "config", "set", "seed"); name != "" {
			return usagef("--resume continues a run with its own settings: --%s cannot be given beside it (--fork starts a new run with other settings)", name)
		}
	case opts.fork != "":
		if name := given("init"); name != "" {
			return usagef("--fork and --init both say where the weights come from: give one")
		}
	case opts.data == "":
		return usagef("no data: give --data DIR, a folder that `koala-lm prepare` made")
	}
	if name := given("name", "tag", "note"); opts.findLR && name != "" {
		return usagef("--find-lr records nothing: --%s cannot be given beside it", name)
	}
	if err := opts.checkNames(); err != nil {
		return err
	}
	if err := opts.compute.check(); err != nil {
		return err
	}
	return opts.ranks.check(opts.findLR)
}

// checkNames refuses names that could not refer to the run later.
func (opts *trainOptions) checkNames() error {
	if opts.name == "latest" || opts.name == "best" {
		return usagef("--name %s is taken: it means another run to the commands that take a RUN", opts.name)
	}
	if !isPlain(opts.name) {
		return usagef("--name %q must be one line of text without white space around it", opts.name)
	}
	for _, tag := range opts.tags {
		if err := checkTag(tag); err != nil {
			return err
		}
	}
	return nil
}

// isPlain reports whether text is one line without white space around it.
func isPlain(text string) bool {
	return text == strings.TrimSpace(text) && !strings.ContainsFunc(text, unicode.IsControl) && utf8.ValidString(text)
}

// checkTag refuses a tag that nobody could type. Those of a sweep have commas.
func checkTag(tag string) error {
	if tag == "" || !isPlain(tag) {
		return usagef("tag %q must be one line of text without white space around it", tag)
	}
	return nil
}

// request resolves the run to train. It returns nil without an error if nothing is
// left to do.
func (opts *trainOptions) request(ctx context.Context) (*request.Train, error) {
	r := &request.Train{
		Common: opts.compute.common(opts.app),
		Name:   opts.name, Tags: opts.tags, Note: opts.note,
		FindLR: opts.findLR,
	}
	var err error
	paths := []struct {
		to   *string
		from string
	}{{&r.Data, opts.data}, {&r.Store, storePath(opts.store)}, {&r.Runs, runsPath(opts.runs, storePath(opts.store))}, {&r.Init, opts.init}}
	for _, p := range paths {
		if *p.to, err = absolute(p.from); err != nil {
			return nil, err
		}
	}
	switch {
	case opts.resume != "":
		return opts.resumed(ctx, r)
	case opts.fork != "":
		err = opts.forked(ctx, r)
	default:
		var b configs.Builder
		if len(opts.settings.configs) == 0 {
			b.Preset(configs.DefaultPreset)
		}
		r.Settings, err = opts.settings.startingFrom(r.Init, &b)
	}
	if err != nil {
		return nil, err
	}
	if job, restarted := torchrunJob(os.Getenv); job != "" && opts.fork == "" && !r.FindLR {
		r.Tags = append(r.Tags, job)
		if restarted {
			if run, err := opts.ofJob(ctx, r, job); err != nil {
				return nil, err
			} else if run != "" {
				opts.app.notef("torchrun has restarted this job: it continues run %s", run)
				opts.resume = run
				return opts.resumed(ctx, r)
			}
		}
	}
	if err := checkInit(r.Init); err != nil {
		return nil, err
	}
	if err := checkData(r.Data, r.Settings); err != nil {
		return nil, err
	}
	return r, nil
}
