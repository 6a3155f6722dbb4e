package interrupt

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
)

// The signals of one request arrive close together and count once; a later signal
// ends the process. Both channels are unbuffered: when a send returns, the signal
// before it has been handled.
func TestWatch(t *testing.T) {
	signals, times := make(chan os.Signal), make(chan time.Time)
	cancelled, ended := make(chan struct{}), make(chan struct{})
	go watch(signals, func() time.Time { return <-times }, func() { close(cancelled) }, func() { close(ended) })

	start := time.Now()
	signals <- os.Interrupt
	<-cancelled
	times <- start
	for _, after := range []time.Duration{0, together / 2, together - 1} {
		times <- start.Add(after)
		signals <- syscall.SIGTERM
	}
	times <- start.Add(together)
	<-ended
}

// childVariable makes this test binary a process to interrupt: it exits with code 3
// once its standard input is closed.
const childVariable = "KOALA_LM_TEST_SIGNALS"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "pipe" {
		SurviveClosedPipes()
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test has closed the other pipes
		started := exec.Command("sh", "-c", "echo result >&2; echo result >&2")
		started.Stderr = os.Stderr
		if _ = started.Run(); started.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE {
			os.Exit(2)
		}
		_, err := os.Stderr.WriteString("progress\n")
		Report(os.Stderr, "the hint\n")
		if errors.Is(err, syscall.EPIPE) {
			os.Exit(7)
		}
		os.Exit(1)
	}
	if os.Getenv(childVariable) != "" {
		Watch(func() { _, _ = os.Stdout.WriteString("cancelled\n") })
		_, _ = os.Stdout.WriteString("ready\n")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// A process survives when nobody reads its standard error any more, and a command
// that it starts does not.
func TestSurviveClosedPipes(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=pipe")
	in, err := cmd.StdinPipe()
	check(t, err)
	read, write, err := os.Pipe()
	check(t, err)
	cmd.Stderr = write
	check(t, cmd.Start())
	check(t, write.Close())
	check(t, read.Close())
	check(t, in.Close())
	var ended *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ended) || ended.ExitCode() != 7 {
		t.Errorf("ended with %v, want exit code 7", err)
	}
}

func TestProcess(t *testing.T) {
	for _, test := range []struct {
		name   string
		signal syscall.Signal
		again  bool // send the signal until the process ends
		code   int
	}{
		{"SIGINT asks for a clean end", syscall.SIGINT, false, 3},
		{"SIGTERM asks for a clean end", syscall.SIGTERM, false, 3},
		{"SIGHUP asks for a clean end", syscall.SIGHUP, false, 3},
		{"who insists ends it", syscall.SIGINT, true, exit.Interrupted},
	} {
		t.Run(test.name, func(t *testing.T) {
			if signal.Ignored(test.signal) {
				t.Skip("the tests run without this signal, as under nohup, and so does what they start")
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childVariable+"=1")
			in, err := cmd.StdinPipe()
			check(t, err)
			out, err := cmd.StdoutPipe()
			check(t, err)
			check(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			lines := bufio.NewReader(out)
			mustRead(t, lines, "ready\n")
			check(t, cmd.Process.Signal(test.signal))
			mustRead(t, lines, "cancelled\n")
			var waiting sync.WaitGroup
			waiting.Go(func() { err = cmd.Wait() })
			if test.again {
				// Signal fails once the process has ended and was waited for.
				for cmd.Process.Signal(test.signal) == nil {
					runtime.Gosched()
				}
			} else {
				check(t, in.Close())
			}
			waiting.Wait()
			var ended *exec.ExitError
			if !errors.As(err, &ended) || ended.ExitCode() != test.code {
				t.Errorf("ended with %v, want exit code %d", err, test.code)
			}
		})
	}
}

func mustRead(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if got, err := r.ReadString('\n'); err != nil || got != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
