// Package interrupt turns the signals that ask a process to end into a clean end.
package interrupt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
)

// together is the interval within which two signals count as one request: timeout
// and job schedulers signal the process and then its group. Nobody presses Ctrl-C
// twice that fast.
const together = 100 * time.Millisecond

// Watch calls cancel on the first SIGINT, SIGTERM or SIGHUP, so that the work can
// come to a clean end. A second request, later than together after the first, ends
// the process at once with exit code [exit.Interrupted]. An ignored SIGHUP, as under
// nohup, stays ignored.
func Watch(cancel func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	go watch(signals, time.Now, cancel, func() { os.Exit(exit.Interrupted) })
}

// SurviveClosedPipes lets the process continue when the reader of its standard error
// or output ends, as tee, head and less do. A write to the closed pipe then returns
// an error. By default it would kill the process, and a training with it. Commands
// that the process starts die of closed pipes as usual.
func SurviveClosedPipes() {
	// To ignore the signal would do so in started commands too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}

// Report writes a message to w, or to the terminal where w is a closed pipe: Ctrl-C
// also ends the reader of a pipeline.
func Report(w io.Writer, format string, args ...any) {
	if _, err := fmt.Fprintf(w, format, args...); !errors.Is(err, syscall.EPIPE) {
		return
	}
	terminal, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0)
	if err != nil {
		return // nobody can read the message
	}
	defer terminal.Close()
	fmt.Fprintf(terminal, format, args...)
}

// watch calls cancel on the first signal, and end on the first signal at least
// together later.
func watch(signals <-chan os.Signal, now func() time.Time, cancel, end func()) {
	<-signals
	cancel()
	for first := now(); now().Sub(first) < together; {
		<-signals
	}
	end()
}
