package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// enumFlag is a string flag with a fixed set of values.
type enumFlag struct {
	value   *string
	allowed []string
}

var _ pflag.Value = (*enumFlag)(nil)

func (f *enumFlag) String() string { return *f.value }
func (f *enumFlag) Type() string   { return strings.Join(f.allowed, "|") }

func (f *enumFlag) Set(s string) error {
	if !slices.Contains(f.allowed, s) {
		return fmt.Errorf("must be one of %s", strings.Join(f.allowed, ", "))
	}
	*f.value = s
	return nil
}

// addEnumFlag adds a flag that takes one of allowed, completed by the shell.
func addEnumFlag(cmd *cobra.Command, p *string, name, value, usage string, allowed ...string) {
	*p = value
	cmd.Flags().Var(&enumFlag{p, allowed}, name, usage)
	// The only error is a flag that does not exist or has its completion already.
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
}

// tableFormats are the formats of a table; auto depends on where the output goes.
var tableFormats = []string{"auto", "table", "json", "csv", "md", "tsv"}

// addFormatFlag adds --format; the first of formats is the default.
func addFormatFlag(cmd *cobra.Command, p *string, formats ...string) {
	addEnumFlag(cmd, p, "format", formats[0], "how to print the result", formats...)
}

// refuseEmpty refuses flags with an empty value, as from an unset shell variable:
// they would silently have no effect.
func refuseEmpty(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return usagef("--%s is empty", name)
		}
	}
	return nil
}
