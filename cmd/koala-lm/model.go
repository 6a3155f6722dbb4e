package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/lm/spec"
	"github.com/koala-lm/koala-lm/tracking"
)

// modelFlags choose the trained weights that a command uses.
type modelFlags struct {
	ref   string // RUN or CHECKPOINT
	store string
	runs  string
}

func (m *modelFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&m.store, "store", "", "store `file` (default $KOALA_LM_STORE or "+defaultStore+")")
	f.StringVar(&m.runs, "runs", "", runsHelp)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return runNames(cmd.Context(), storePath(m.store)), cobra.ShellCompDirectiveDefault
	}
}

// modelArgs requires from least to most arguments, of which the first names a model.
func modelArgs(m *modelFlags, least, most int, wants string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s wants %s", cmd.Name(), wants)
		case len(args) > most:
			return usagef("%s wants %s, got %q beside it", cmd.Name(), wants, args[most])
		}
		if len(args) > 0 {
			m.ref = args[0]
		}
		return nil
	}
}

// resolve finds the weights, and their run if they belong to one. A ref written as a
// path is a path; otherwise a run of that name takes precedence.
func (m *modelFlags) resolve(ctx context.Context) (request.Model, *tracking.RunDetail, error) {
	var model request.Model
	var err error
	if model.Store, err = absolute(storePath(m.store)); err != nil {
		return model, nil, err
	}
	if model.Runs, err = absolute(runsPath(m.runs, storePath(m.store))); err != nil {
		return model, nil, err
	}
	isPath := strings.ContainsRune(m.ref, filepath.Separator) || filepath.Ext(m.ref) == ".safetensors"
	_, statErr := os.Stat(m.ref)
	if isPath {
		if statErr != nil {
			return model, nil, fmt.Errorf("checkpoint: %w", statErr)
		}
		model.Path, err = absolute(m.ref)
		return model, nil, err
	}
	run, err := findRun(ctx, model.Store, m.ref)
	missing := errors.Is(err, tracking.ErrNoRun) || errors.Is(err, tracking.ErrNoStore)
	switch {
	case missing && statErr == nil:
		model.Path, err = absolute(m.ref)
		return model, nil, err
	case err != nil:
		return model, nil, err
	}
	model.Run = run.ID
	if model.Runs, err = absolute(runsOf(m.runs, storePath(m.store), run.ID)); err != nil {
		return model, nil, err
	}
	checkpoints := filepath.Join(model.Runs, run.ID, "checkpoints")
	if entries, err := os.ReadDir(checkpoints); err != nil || len(entries) == 0 {
		return model, nil, fmt.Errorf("run %s (%s) has no checkpoint in %s (--runs says where else)", run.ID, run.Name, checkpoints)
	}
	return model, &run, nil
}

// kindOf returns the kind of a run's model, or the zero Kind if it is unknown.
func kindOf(run *tracking.RunDetail) spec.Kind {
	if run == nil {
		return spec.Kind{}
	}
	name, _ := run.Settings["model.kind"].(string)
	return spec.Model{Kind: name}.KindOf()
}

// splitOf returns an error unless the dataset has the split.
func splitOf(dir, split string) error {
	dataset, err := data.Open(dir, data.Unverified())
	if err != nil {
		return err
	}
	defer dataset.Close()
	if _, ok := dataset.Split(split); ok {
		return nil
	}
	var has []string
	for _, name := range data.SplitNames {
		if _, ok := dataset.Split(name); ok {
			has = append(has, name)
		}
	}
	return fmt.Errorf("dataset %s has no %s split, only %s", dir, split, strings.Join(has, " and "))
}
