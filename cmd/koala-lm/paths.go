package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/tracking"
)

// defaultRuns is where runs keep their files unless --runs or KOALA_LM_RUNS
// say otherwise.
const defaultRuns = "runs"

// runsPath is the folder to use given what --runs says.
func runsPath(flag string) string {
	return cmp.Or(flag, os.Getenv("KOALA_LM_RUNS"), defaultRuns)
}

// absolute makes a path independent of the working folder; none stays none.
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

// findRun reads what the store has of the run that ref names.
func findRun(ctx context.Context, path, ref string) (tracking.RunDetail, error) {
	store, err := tracking.OpenCurrent(path)
	if err != nil {
		return tracking.RunDetail{}, err
	}
	defer store.Close()
	return store.Run(ctx, ref)
}

// checkWritable makes a folder and finds out whether files can be made in it,
// which permissions alone do not tell.
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

// runNames lists the newest runs for completion; a store that cannot be read
// has none.
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
