package interrupt

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// childVariable makes this test binary a process that is to be interrupted.
const childVariable = "KOALA_LM_TEST_SIGNALS"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		Watch(func() { os.Stdout.WriteString("cancelled\n") })
		os.Stdout.WriteString("ready\n")
		time.Sleep(time.Second)
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// start returns a process that has been cancelled by SIGINT, and ends with code 3
// a second later if it is left alone.
func start(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	buf := make([]byte, 64)
	for _, want := range []string{"ready\n", "cancelled\n"} {
		n, err := out.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("read %q, %v; want %q", buf[:n], err, want)
		}
		if want == "ready\n" {
			send(t, cmd, syscall.SIGINT)
		}
	}
	return cmd
}

func send(t *testing.T, cmd *exec.Cmd, s os.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func mustEnd(t *testing.T, cmd *exec.Cmd, code int) {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Errorf("ended with %v, want exit code %d", err, code)
	}
}

func TestSecondSignal(t *testing.T) {
	cmd := start(t)
	time.Sleep(2 * together)
	send(t, cmd, syscall.SIGTERM)
	mustEnd(t, cmd, ExitCode)
}

// timeout sends one to the process and one to its group.
func TestSignalSentTwice(t *testing.T) {
	cmd := start(t)
	send(t, cmd, syscall.SIGINT)
	mustEnd(t, cmd, 3)
}
