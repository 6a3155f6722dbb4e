package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/configs"
)

// settingsFlags are the flags that choose settings.
type settingsFlags struct {
	configs   []string
	set       []string
	seed      int64
	steps     int
	epochs    int
	timeLimit time.Duration
	hasLength bool // steps, epochs and time limit are flags too
	changed   func(flag string) bool
}

// add adds all flags; addSettings adds all but the flags of a run's length.
func (s *settingsFlags) add(cmd *cobra.Command) {
	s.addSettings(cmd)
	s.hasLength = true
	f := cmd.Flags()
	f.IntVar(&s.steps, "steps", 0, "total steps: short for --set train.steps")
	f.IntVar(&s.epochs, "epochs", 0, "short for --set train.epochs")
	f.DurationVar(&s.timeLimit, "time-limit", 0, "such as 10m: short for --set train.time_limit")
}

func (s *settingsFlags) addSettings(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&s.configs, "config", "c", nil, "preset or YAML `file` of settings (repeatable, later over earlier; default "+configs.DefaultPreset+")")
	f.StringArrayVarP(&s.set, "set", "s", nil, "one setting as `key=value` (repeatable)")
	f.Int64Var(&s.seed, "seed", 0, "short for --set train.seed")
	s.changed = f.Changed
	// The only errors are flags that do not exist or have their completion already.
	_ = cmd.RegisterFlagCompletionFunc("config", completePresets)
	_ = cmd.RegisterFlagCompletionFunc("set", completeSettings)
}

// resolve applies the flags over the settings in b.
func (s *settingsFlags) resolve(b *configs.Builder) (configs.Settings, error) {
	for _, name := range s.configs {
		b.Config(name)
	}
	for _, text := range s.set {
		b.Assign(text, "--set")
	}
	if s.changed("seed") {
		b.Set("train.seed", s.seed, "--seed")
	}
	if s.hasLength {
		s.resolveLength(b)
	}
	return b.Settings()
}

func (s *settingsFlags) resolveLength(b *configs.Builder) {
	if s.changed("steps") {
		b.Set("train.steps", int64(s.steps), "--steps")
	}
	if s.changed("epochs") {
		b.Set("train.epochs", int64(s.epochs), "--epochs")
	}
	if s.changed("time-limit") {
		b.Set("train.time_limit", s.timeLimit.String(), "--time-limit")
	}
}

func completePresets(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var list []string
	for _, p := range configs.Presets() {
		list = append(list, p.Name+"\t"+p.About)
	}
	return list, cobra.ShellCompDirectiveDefault
}

func completeSettings(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var list []string
	for _, e := range configs.Reference() {
		list = append(list, e.Key+"=\t"+e.Meaning)
	}
	return list, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}

// printSettings writes settings as a file for --config.
func printSettings(w io.Writer, s configs.Settings) {
	var section []string
	for _, kv := range s.Flat() {
		path := strings.Split(kv.Key, ".")
		name, within := path[len(path)-1], path[:len(path)-1]
		for depth := range within {
			if depth >= len(section) || section[depth] != within[depth] {
				fmt.Fprintf(w, "%s%s:\n", indent(depth), within[depth])
				section = nil
			}
		}
		section = within
		fmt.Fprintf(w, "%s%s: %s\n", indent(len(within)), name, configs.Text(kv.Value))
	}
}

func indent(depth int) string { return strings.Repeat("  ", depth) }

// printSettingsHelp writes the reference of all settings.
func printSettingsHelp(streams *streams) error {
	for _, e := range configs.Reference() {
		fmt.Fprintf(streams.Out, "%s\n", e.Key)
		fmt.Fprintf(streams.Out, "    %s.\n", e.Meaning)
		fmt.Fprintf(streams.Out, "    %s%s; default %s\n", strings.ToUpper(e.Allowed[:1]), e.Allowed[1:], e.Default)
		if e.For != "" {
			fmt.Fprintf(streams.Out, "    Only for %s\n", e.For)
		}
	}
	_, err := fmt.Fprintf(streams.Out, "\nA default comes first for all kinds, then for the kinds that have another one;\nin parentheses, for a family of models among those.\n")
	return err
}

// printPresetsHelp writes the names of the presets.
func printPresetsHelp(streams *streams) error {
	width := 0
	for _, p := range configs.Presets() {
		width = max(width, len(p.Name))
	}
	for _, p := range configs.Presets() {
		if _, err := fmt.Fprintf(streams.Out, "%-*s  %s\n", width, p.Name, p.About); err != nil {
			return err
		}
	}
	return nil
}
