package main

import (
	"strings"

	"github.com/spf13/cobra"
)

var shells = []string{"bash", "zsh", "fish", "powershell"}

func newCompletionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion script for a shell (" + strings.Join(shells, ", ") + ")",
		Example: `  # in ~/.bashrc
  source <(koala-lm completion bash)

  # once, for zsh
  koala-lm completion zsh > "${fpath[1]}/_koala-lm"

  # once, for fish
  koala-lm completion fish > ~/.config/fish/completions/koala-lm.fish`,
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("completion wants one shell: %s", strings.Join(shells, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.io.Out, true)
			case "zsh":
				return root.GenZshCompletion(a.io.Out)
			case "fish":
				return root.GenFishCompletion(a.io.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.io.Out)
			}
			return usagef("no completion for %q: one of %s", args[0], strings.Join(shells, ", "))
		},
	}
}
