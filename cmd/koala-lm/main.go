// Command koala-lm trains language models with the KOALA optimizer and keeps
// every run in a store that answers questions afterwards.
//
// It owns every command, flag and message, and loads no libtorch: what
// computes is handed, resolved and validated, to koala-lm-engine beside it.
// One file a command: flags fill an options struct, a run function acts on it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/cmd/internal/interrupt"
	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/sweep"
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	interrupt.Watch(func() { cancel(errInterrupted) })
	os.Exit(execute(ctx, systemStreams(), os.Args[1:]))
}

// errInterrupted is the cause of a context that a signal cancelled.
var errInterrupted = errors.New("interrupted")

// execute runs one command line and returns the process's exit code, having
// written what went wrong to the error stream.
func execute(ctx context.Context, io *streams, args []string) int {
	a := &app{io: io}
	root := newRootCmd(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = io.outErr()
	}
	var usage *usageError
	var settings configs.Problems
	var search sweep.Problems
	switch {
	case err == nil:
		return exit.OK
	case errors.Is(context.Cause(ctx), errInterrupted):
		fmt.Fprintln(io.ErrOut, "koala-lm: interrupted")
		return exit.Interrupted
	case errors.As(err, &settings), errors.As(err, &search):
		printError(io.ErrOut, err)
		return exit.Usage
	case errors.As(err, &usage), !a.started:
		fmt.Fprintf(io.ErrOut, "koala-lm: %v (see %s --help)\n", err, cmd.CommandPath())
		return exit.Usage
	default:
		printError(io.ErrOut, err)
		return exit.Failed
	}
}

// printError writes err, and each of its lines on its own where it joins
// several problems: a user who is told them all mends them in one go.
func printError(w io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(w, "koala-lm: %s\n", line)
	}
}

// usageError marks a command line that cannot be meant as it stands: it exits
// with 2 and points at the command's help.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usageError.
func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}
