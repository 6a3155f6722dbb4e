package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
)

// computeFlags choose the device and the threads. Every command that runs the engine
// has them.
type computeFlags struct {
	device  string
	threads int
}

func (c *computeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.device, "device", "auto", "`device` to compute on: auto, cpu, cuda or cuda:N")
	cmd.Flags().IntVar(&c.threads, "threads", 0, "how many CPU threads compute (default: all cores)")
	// The only error is a flag that does not exist or has its completion already.
	_ = cmd.RegisterFlagCompletionFunc("device",
		cobra.FixedCompletions([]string{"auto", "cpu", "cuda"}, cobra.ShellCompDirectiveNoFileComp))
}

func (c *computeFlags) check() error {
	if _, err := request.ParseDevice(c.device); err != nil {
		return &usageError{err}
	}
	if c.threads < 0 || c.threads > 1024 {
		return usagef("--threads must be from 1 to 1024, or 0 for all cores, not %d", c.threads)
	}
	return nil
}

// common returns the common fields of a request, from these flags and the process.
func (c *computeFlags) common(a *app) request.Common {
	return request.Common{
		Build:   ownVersion(),
		Command: append([]string{"koala-lm"}, os.Args[1:]...),
		Quiet:   a.quiet,
		Device:  request.Device(c.device),
		Threads: c.threads,
	}
}
