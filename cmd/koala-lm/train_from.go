package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/lm/huggingface/config"
	"github.com/koala-lm/koala-lm/lm/spec"
	"github.com/koala-lm/koala-lm/tracking"
)

// resumed completes the request to continue a run: its data, its settings and,
// unless flags change them, its length, threads and device, which the same bits need.
// It returns nil if the run has finished and does not become longer.
func (opts *trainOptions) resumed(ctx context.Context, r *request.Train) (*request.Train, error) {
	run, err := findRun(ctx, r.Store, opts.resume)
	if err != nil {
		return nil, err
	}
	var b configs.Builder
	b.Values("run "+run.ID, run.Settings)
	before, err := b.Settings()
	if err != nil {
		return nil, err
	}
	opts.settings.resolveLength(&b)
	if r.Settings, err = b.Settings(); err != nil {
		return nil, err
	}
	same := len(configs.Diff(before, r.Settings)) == 0
	switch steps := r.Settings.Train.Steps; {
	case run.Status == tracking.Finished && same:
		opts.app.notef("run %s (%s) is already finished, nothing to do", run.ID, run.Name)
		return nil, nil
	case !same && steps > 0 && int64(steps) <= run.Steps:
		return nil, usagef("run %s (%s) has trained %d steps: a longer run has --steps of at least %d", run.ID, run.Name, run.Steps, run.Steps+1)
	case run.Status == tracking.Running && opts.ranks.place.Leads(): // other ranks may start after rank 0
		return nil, fmt.Errorf("run %s (%s) is still running, as process %d on %s", run.ID, run.Name, run.PID, run.Host)
	}
	r.Resume, r.Name = run.ID, run.Name
	if r.Data, err = datasetOf(run.RunSummary, r.Store, r.Data); err != nil {
		return nil, err
	}
	if r.Runs, err = absolute(runsOf(opts.runs, storePath(opts.store), run.ID)); err != nil {
		return nil, err
	}
	// Several ranks divide the cores again, since the number of ranks may have
	// changed.
	if alone := opts.ranks.nproc == 1 && opts.ranks.place == nil; alone && !opts.changed("threads") {
		r.Threads = run.Threads
	}
	if device, err := request.ParseDevice(run.Device); err == nil && !opts.changed("device") {
		r.Device = device
	}
	return r, nil
}

// torchrunJob returns the tag of the runs of a torchrun job, "" without torchrun, and
// whether torchrun has restarted the job after a failure. The variables belong to
// https://pytorch.org/docs/stable/elastic/run.html.
func torchrunJob(getenv func(string) string) (tag string, restarted bool) {
	id, restarts := getenv("TORCHELASTIC_RUN_ID"), getenv("TORCHELASTIC_RESTART_COUNT")
	if id == "" {
		return "", false
	}
	return "torchrun:" + id, restarts != "" && restarts != "0"
}

// ofJob returns the id of the run to continue after a restart: the newest one of the
// job, if it has the same data and settings and has not finished. Every rank gets
// the same answer.
func (opts *trainOptions) ofJob(ctx context.Context, r *request.Train, tag string) (string, error) {
	store, err := tracking.OpenCurrent(r.Store)
	if errors.Is(err, tracking.ErrNoStore) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	defer store.Close()
	runs, err := store.Runs(ctx, tracking.Query{Tags: []string{tag}, Limit: 1})
	if err != nil || len(runs) == 0 || runs[0].Status == tracking.Finished {
		return "", err
	}
	var b configs.Builder
	b.Values("run "+runs[0].ID, runs[0].Settings)
	before, err := b.Settings()
	wanted := r.Settings
	if wanted.Train.Precision == spec.AutoPrecision {
		wanted.Train.Precision = before.Train.Precision // as it was settled when the job began
	}
	if err != nil || len(configs.Diff(before, wanted)) > 0 {
		return "", nil // another job of the same name
	}
	if place, err := datasetOf(runs[0], r.Store, r.Data); err != nil || place == "" {
		return "", nil
	}
	return runs[0].ID, nil
}

// forked completes the request for a child of a run: the run's settings under the
// flags' settings, and the run's data unless --data names other data.
func (opts *trainOptions) forked(ctx context.Context, r *request.Train) error {
	run, err := findRun(ctx, r.Store, opts.fork)
	if err != nil {
		return err
	}
	var parent configs.Builder
	parent.Values("run "+run.ID, run.Settings)
	before, err := parent.Settings()
	if err != nil {
		return err
	}
	var b configs.Builder
	b.Values("run "+run.ID, run.Settings)
	if r.Settings, err = opts.settings.resolve(&b); err != nil {
		return err
	}
	isShape := func(key string) bool {
		return strings.HasPrefix(key, "model.") && !strings.HasPrefix(key, "model.dropout.")
	}
	changed := configs.Diff(before, r.Settings)
	if i := slices.IndexFunc(changed, isShape); i >= 0 {
		return fmt.Errorf("--fork starts from the weights of run %s: %s cannot be changed", run.ID, changed[i])
	}
	r.Fork = run.ID
	if r.Data == "" {
		r.Data, err = datasetOf(run.RunSummary, r.Store, "")
	}
	return err
}

// startingFrom resolves the settings for --init. A folder of transformers determines
// the shape of the model; settings that contradict it are an error.
func (s *settingsFlags) startingFrom(init string, b *configs.Builder) (configs.Settings, error) {
	if init == "" || !config.Is(init) {
		return s.resolve(b)
	}
	folder, err := config.Open(init)
	if err != nil {
		return configs.Settings{}, fmt.Errorf("--init: %w", err)
	}
	shape := folder.Model.Shape
	if err := folder.Close(); err != nil {
		return configs.Settings{}, fmt.Errorf("--init: %w", err)
	}
	list := shape.Settings()
	values, get := map[string]any{}, spec.Lookup(list)
	for i := range list {
		if d := &list[i]; d.Applies(get) && !strings.HasPrefix(d.Key, "model.dropout.") {
			values[d.Key] = d.Get()
		}
	}
	b.Values("--init "+init, values)
	settings, err := s.resolve(b)
	if err != nil {
		return settings, err
	}
	if differs := config.Differences(shape, settings.Model); len(differs) > 0 {
		return settings, fmt.Errorf("--init %s has the shape of the model: %s", init, strings.Join(differs, "; "))
	}
	return settings, nil
}

// checkInit returns an error unless path has weights to start from.
func checkInit(path string) error {
	if path == "" {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("--init: %w", err)
	}
	if !info.IsDir() && filepath.Ext(path) != ".safetensors" {
		return fmt.Errorf("--init %s: weights are read from a .safetensors file or a folder that holds one", path)
	}
	return nil
}

// prepareOutput makes sure that runs can be recorded: the store exists or can be
// made, and the folder of runs is writable. Checks that create nothing come first,
// so that a mistake leaves no files behind.
func prepareOutput(storeFile, runs string) error {
	if info, err := os.Stat(runs); err == nil && !info.IsDir() {
		return fmt.Errorf("folder of runs: %s is a file", runs)
	}
	store, err := tracking.Open(storeFile)
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	if err := checkWritable(runs); err != nil {
		return fmt.Errorf("folder of runs: %w", err)
	}
	return nil
}
