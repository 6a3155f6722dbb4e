// Package interrupt hears the signals that ask a process to end.
package interrupt

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// ExitCode is that of a process which was interrupted.
const ExitCode = 130

// together is how close signals come that are one request: timeout and job
// schedulers send theirs to a process and once more to its group. No finger
// presses Ctrl-C twice as fast.
const together = 100 * time.Millisecond

// Watch calls cancel on the first SIGINT, SIGTERM or SIGHUP, so that the work at
// hand can be brought to a clean end. The second, for those who will not wait,
// ends the process.
func Watch(cancel func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signal.Notify(signals, syscall.SIGHUP) // the terminal is gone
	}
	go func() {
		<-signals
		cancel()
		for first := time.Now(); time.Since(first) < together; {
			<-signals
		}
		os.Exit(ExitCode)
	}()
}
