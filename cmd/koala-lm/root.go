package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/koala-lm/koala-lm/internal/suggest"
)

// app is what every command shares.
type app struct {
	io    *streams
	quiet bool // --quiet: no progress and no messages but errors

	// started is set when a command's run function is entered: whatever fails
	// before that is wrong usage.
	started bool
}

// notef writes a message to the error stream unless --quiet was given.
func (a *app) notef(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.io.ErrOut, format+"\n", args...)
	}
}

// newRootCmd assembles the command tree.
func newRootCmd(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "koala-lm",
		Short: "Train language models with the KOALA optimizer",
		Long: `koala-lm trains language models: text in, tokens out, an LSTM or a Transformer
trained with the KOALA optimizer on libtorch, and every run kept in a store that
answers questions afterwards.

Results go to standard output, progress and messages to standard error.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "print results and errors only")
	root.SetIn(a.io.In)
	root.SetOut(a.io.Out)
	root.SetErr(a.io.ErrOut)
	root.SetFlagErrorFunc(explainFlagError)
	root.CompletionOptions.DisableDefaultCmd = true

	root.AddCommand(
		newPrepareCmd(a),
		newBenchCmd(a),
		newCompletionCmd(a),
		newEvalCmd(a),
		newExportCmd(a),
		newGenerateCmd(a),
		newReportCmd(a),
		newSweepCmd(a),
		newTrainCmd(a),
		newVersionCmd(a),
	)
	a.prepareTree(root)
	return root
}

// prepareTree gives every command under cmd the behaviour that all share:
// arguments are refused unless the command says otherwise, with the nearest
// name offered, and the entry into the run function is noted.
func (a *app) prepareTree(cmd *cobra.Command) {
	if cmd.Args == nil {
		cmd.Args = noArguments
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.started = true
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		a.prepareTree(sub)
	}
}

// noArguments refuses positional arguments: an unknown command where there
// are commands below, else an argument too many.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasAvailableSubCommands() {
		return usagef("%s takes no argument, got %q", cmd.CommandPath(), args[0])
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("unknown command %q: did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return usagef("unknown command %q", args[0])
}

// exactArguments requires as many arguments as the command's usage names, and names
// them otherwise.
func exactArguments(wants string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		n := len(strings.Fields(cmd.Use)) - 1
		if len(args) != n {
			return usagef("%s wants %s, got %d arguments", cmd.CommandPath(), wants, len(args))
		}
		return nil
	}
}

// explainFlagError turns pflag's error into a usageError that names the flag
// nearest to one that does not exist.
func explainFlagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return &usageError{err}
	}
	name := unknown.GetSpecifiedName()
	if shorts := unknown.GetSpecifiedShortnames(); shorts != "" {
		return usagef("unknown flag -%s", name)
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := suggest.Name(name, names); near != "" {
		return usagef("unknown flag --%s: did you mean --%s?", name, near)
	}
	return usagef("unknown flag --%s", name)
}
