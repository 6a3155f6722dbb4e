package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/tracking"
)

// defaultRuns is the folder of the runs' files beside a store in the working folder.
const defaultRuns = "runs"

// runsHelp describes --runs.
const runsHelp = "`folder` of the runs' files (default $KOALA_LM_RUNS, or the store's folder)"

// runsPath returns the folder of the runs' files, from --runs, KOALA_LM_RUNS or the
// store. Beside a store in the working folder it is runs.
func runsPath(flag, store string) string {
	folder := filepath.Dir(store)
	if folder == "." {
		folder = defaultRuns
	}
	return cmp.Or(flag, os.Getenv("KOALA_LM_RUNS"), folder)
}

// runsOf is runsPath for an existing run. It also looks in ./runs.
func runsOf(flag, store, id string) string {
	folder := runsPath(flag, store)
	if flag == "" && os.Getenv("KOALA_LM_RUNS") == "" {
		_, errHere := os.Stat(filepath.Join(folder, id))
		_, errThere := os.Stat(filepath.Join(defaultRuns, id))
		if errHere != nil && errThere == nil {
			return defaultRuns
		}
	}
	return folder
}

// datasetOf finds the dataset that a run was trained on: at flag if given, else at
// its recorded path, or at the same path relative to the store.
func datasetOf(run tracking.RunSummary, store, flag string) (string, error) {
	places := []string{flag}
	if flag == "" {
		places = []string{run.DatasetPath}
		if moved := filepath.Join(filepath.Dir(store), run.DatasetRelative); run.DatasetRelative != "" && moved != run.DatasetPath {
			places = append(places, moved)
		}
	}
	var reasons []string
	for _, place := range places {
		dataset, err := data.Open(place, data.Unverified())
		if err != nil {
			reasons = append(reasons, "no dataset at "+place)
			continue
		}
		fingerprint := dataset.Fingerprint()
		if err := dataset.Close(); err != nil {
			return "", err
		}
		if fingerprint == run.DatasetFingerprint {
			return absolute(place)
		}
		reasons = append(reasons, fmt.Sprintf("%s is another dataset (fingerprint %.12s, not %.12s)", place, fingerprint, run.DatasetFingerprint))
	}
	hint := "--data DIR names its place"
	if flag != "" {
		hint = "--fork starts a new run on another dataset from these weights"
	}
	return "", fmt.Errorf("run %s was trained on dataset %s: %s; %s", run.ID, run.Dataset, strings.Join(reasons, "; "), hint)
}

// absolute makes a path independent of the working folder. An empty path stays
// empty.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("working folder: %w", err)
	}
	return abs, nil
}

// findRun reads the record of the run that ref names.
func findRun(ctx context.Context, path, ref string) (tracking.RunDetail, error) {
	store, err := tracking.OpenCurrent(path)
	if err != nil {
		return tracking.RunDetail{}, err
	}
	defer store.Close()
	return store.Run(ctx, ref)
}

// checkWritable makes a folder and tries to create a file in it, since permissions
// alone do not show whether that works.
func checkWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	probe, err := os.CreateTemp(dir, ".koala-lm-*")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// registerRunCompletion completes flags that name a run.
func registerRunCompletion(cmd *cobra.Command, store *string, flags ...string) {
	complete := func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return runNames(cmd.Context(), storePath(*store)), cobra.ShellCompDirectiveNoFileComp
	}
	for _, name := range flags {
		// The only error is a flag that does not exist or has its completion already.
		_ = cmd.RegisterFlagCompletionFunc(name, complete)
	}
}

// runNames lists the newest runs for completion; none if the store cannot be read.
func runNames(ctx context.Context, path string) []string {
	store, err := tracking.OpenReadOnly(path)
	if err != nil {
		return nil
	}
	defer store.Close()
	const offered = 100
	runs, err := store.Runs(ctx, tracking.Query{Limit: offered})
	if err != nil {
		return nil
	}
	names := []string{"latest", "best"}
	for _, run := range runs {
		names = append(names, run.ID+"\t"+run.Name)
	}
	return names
}
