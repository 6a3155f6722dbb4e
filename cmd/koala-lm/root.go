package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/internal/suggest"
	"github.com/koala-lm/koala-lm/internal/visible"
)

// app is the state that all commands share.
type app struct {
	io    *streams
	quiet bool // --quiet: no progress and no messages but errors

	// started is set when a command's run function is entered. An error before that
	// is wrong usage.
	started bool
}

// notef writes a message to the error stream unless --quiet was given.
func (a *app) notef(format string, args ...any) {
	if !a.quiet {
		visible.Fprintf(a.io.ErrOut, format+"\n", args...)
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
	}
	var version bool
	root.Flags().BoolVar(&version, "version", false, "print the version, as koala-lm version does")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if !version {
			return cmd.Help()
		}
		command, _, err := cmd.Find([]string{"version"})
		if err != nil {
			return err
		}
		command.SetContext(cmd.Context())
		return command.RunE(command, nil)
	}
	root.SetHelpCommand(newHelpCmd(root))
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

// newHelpCmd makes `koala-lm help COMMAND`. An unknown command is wrong usage.
func newHelpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		Example: `  koala-lm help train
  koala-lm help report curve`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				if cmd == nil {
					cmd = root
				}
				return noArguments(cmd, append(rest, args...)[:1])
			}
			return cmd.Help()
		},
	}
}

// prepareTree gives every command under cmd the common behaviour: it refuses
// arguments, with a suggestion, unless the command declares some, and it records
// that the run function was entered.
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

// noArguments refuses positional arguments: as an unknown command if cmd has
// subcommands, else as an argument too many.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasAvailableSubCommands() {
		return usagef("%s takes no argument, got %q", cmd.CommandPath(), args[0])
	}
	if cmd.Name() == "report" && (args[0] == "latest" || args[0] == "best" && len(args) == 1) {
		return usagef("unknown command %q: did you mean report show %s?", args[0], args[0])
	}
	cmd.SuggestionsMinimumDistance = 2
	if report, _, err := cmd.Find([]string{"report"}); err == nil && report != cmd {
		if verb, _, err := report.Find(args[:1]); err == nil && verb != report {
			return usagef("unknown command %q: did you mean report %s?", args[0], verb.Name())
		}
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("unknown command %q: did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return usagef("unknown command %q", args[0])
}

// exactArguments requires as many arguments as the command's usage names. Its error
// names them.
func exactArguments(wants string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		n := len(strings.Fields(cmd.Use)) - 1
		if len(args) != n {
			return usagef("%s wants %s, got %s", cmd.CommandPath(), wants, plural(len(args), "argument"))
		}
		return nil
	}
}

// explainFlagError turns pflag's error into a usageError. For an unknown flag it
// suggests the nearest one.
func explainFlagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return explainValueError(invalid)
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return &usageError{err}
	}
	name := unknown.GetSpecifiedName()
	if key := settingOf(cmd, name); key != "" {
		return usagef("unknown flag --%s: settings are given as --set %s=VALUE", name, key)
	}
	if way := otherWays[strings.ToLower(strings.ReplaceAll(name, "_", "-"))]; way != "" && cmd.Name() == "train" {
		return usagef("unknown flag --%s: %s", name, way)
	}
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

// explainValueError names the flag, its value and the allowed values.
func explainValueError(invalid *pflag.InvalidValueError) error {
	flag := invalid.GetFlag()
	wants, known := map[string]string{
		"int": "a whole number", "int64": "a whole number", "uint64": "a whole number from 0", "float64": "a number",
		"duration": "a time such as 90s, 10m or 1h30m", "bool": "true or false",
	}[flag.Value.Type()]
	if !known {
		return usagef("--%s %q: %v", flag.Name, invalid.GetValue(), errors.Unwrap(invalid))
	}
	if errors.Is(invalid, strconv.ErrRange) {
		return usagef("--%s %s is too large", flag.Name, invalid.GetValue())
	}
	return usagef("--%s must be %s, not %q", flag.Name, wants, invalid.GetValue())
}

// otherWays maps flags of other programs to what does the same here.
var otherWays = map[string]string{
	"wandb": recorded, "wandb-project": recorded, "project": recorded, "mlflow": recorded, "tensorboard": recorded, "logdir": recorded,
	"gpu": "a GPU is chosen by --device cuda", "gpus": "a GPU is chosen by --device cuda, several by --nproc", "cuda": "a GPU is chosen by --device cuda",
	"run-name": "a run is named by --name", "output-dir": "folders of runs are made under --runs DIR", "save-dir": "folders of runs are made under --runs DIR",
	"checkpoint": "a run is continued by --resume RUN", "ckpt": "a run is continued by --resume RUN", "load": "a run is continued by --resume RUN",
	"resume-from": "a run is continued by --resume RUN", "resume-from-checkpoint": "a run is continued by --resume RUN",
	"tokenizer": prepared, "vocab-size": prepared, "train": prepared, "valid": prepared, "val": prepared, "text": prepared,
}

const (
	recorded = "every run is recorded in the store, which koala-lm report shows"
	prepared = "text becomes a dataset by koala-lm prepare, and --data names it"
)

// settingOf returns the setting that an unknown flag means; "" for a command without
// --set.
func settingOf(cmd *cobra.Command, flag string) string {
	if cmd.Flags().Lookup("set") == nil {
		return ""
	}
	return configs.Meant(flag)
}
