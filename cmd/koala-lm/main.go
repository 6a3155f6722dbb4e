// Command koala-lm trains language models with the KOALA optimizer and keeps
// every run in a store that answers questions afterwards.
//
// It owns every command, flag and message, and loads no libtorch: it resolves and
// validates a request and passes it to koala-lm-engine, which lies beside it and
// computes. One file a command: flags fill an options struct, a run function acts on
// it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/cmd/internal/interrupt"
	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/internal/visible"
	"github.com/koala-lm/koala-lm/sweep"
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	interrupt.Watch(func() { cancel(errInterrupted) })
	// `report rm ... | head` must remove all that it was asked to.
	interrupt.SurviveClosedPipes()
	os.Exit(execute(ctx, systemStreams(), os.Args[1:]))
}

// errInterrupted is the cause of a context that a signal cancelled.
var errInterrupted = errors.New("interrupted")

// execute runs one command line, writes its errors to the error stream, and returns
// the process's exit code.
func execute(ctx context.Context, io *streams, args []string) int {
	a := &app{io: io}
	root := newRootCmd(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = io.outErr()
		if errors.Is(err, syscall.EPIPE) {
			return exit.OK // the reader had enough, and the command did all it had to
		}
	}
	var usage *usageError
	var settings configs.Problems
	var search sweep.Problems
	var call *os.SyscallError
	switch {
	case err == nil:
		return exit.OK
	case errors.Is(context.Cause(ctx), errInterrupted):
		interrupt.Report(io.ErrOut, "koala-lm: interrupted\n")
		return exit.Interrupted
	case errors.Is(err, syscall.EPIPE):
		return exit.ClosedPipe // nobody reads the rest, nor a message
	case errors.As(err, &settings), errors.As(err, &search):
		printError(io.ErrOut, err)
		return exit.Usage
	case errors.As(err, &usage), !a.started:
		visible.Fprintf(io.ErrOut, "koala-lm: %v (see %s --help)\n", err, cmd.CommandPath())
		return exit.Usage
	case errors.As(err, &call) && call.Syscall == "getwd": // a relative path has no meaning
		visible.Fprintf(io.ErrOut, "koala-lm: the working folder was removed: enter one that exists, or give absolute paths\n")
		return exit.Failed
	default:
		printError(io.ErrOut, err)
		return exit.Failed
	}
}

// printError writes err. If err joins several problems, it writes each on its own
// line, so that the user can fix all of them at once.
func printError(w io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		visible.Fprintf(w, "koala-lm: %s\n", line)
	}
}

// usageError marks a malformed command line: the command exits with 2 and points at
// its help.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usageError.
func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}
