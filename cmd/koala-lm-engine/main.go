// Command koala-lm-engine does koala-lm's computations with libtorch. koala-lm
// execs it with a verb and one resolved request as JSON (package
// cmd/internal/request); people type koala-lm.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/cmd/internal/interrupt"
	"github.com/koala-lm/koala-lm/distributed"
	"github.com/koala-lm/koala-lm/internal/visible"
	"github.com/koala-lm/koala-lm/lm"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	interrupt.Watch(cancel)
	if len(os.Args) > 1 && os.Args[1] == "train" {
		interrupt.SurviveClosedPipes()
	}
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// verbs are the requests that koala-lm can make.
var verbs = map[string]func(ctx context.Context, request string, stdout, stderr io.Writer) error{
	"train":    train,
	"eval":     eval,
	"generate": generate,
	"bench":    bench,
	"export":   export,
}

// execute does one request and returns the exit code. It prints an error.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && args[0] == "version" {
		return exitCode(version(stdout), stderr)
	}
	if len(args) != 2 || verbs[args[0]] == nil {
		fmt.Fprintln(stderr, "koala-lm-engine: it is started by koala-lm; run koala-lm --help")
		return exit.Usage
	}
	return exitCode(verbs[args[0]](ctx, args[1], stdout, stderr), stderr)
}

func exitCode(err error, stderr io.Writer) int {
	var reported distributed.ReportedError
	if errors.As(err, &reported) {
		stderr = io.Discard
	}
	switch {
	case err == nil:
		return exit.OK
	case errors.Is(err, lm.ErrInterrupted): // names the run, and how to resume it
		interrupt.Report(stderr, "koala-lm: %v\n", err)
		return exit.Interrupted
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "koala-lm: interrupted")
		return exit.Interrupted
	}
	visible.Fprintf(stderr, "koala-lm: %v\n", err)
	return exit.Failed
}
