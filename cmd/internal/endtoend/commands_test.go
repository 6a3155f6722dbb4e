package endtoend

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// exitcode is `exitcode N COMMAND [ARG...]`: the command must exit with code N.
func exitcode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N COMMAND [ARG...]")
	}
	wantCode(ts, ts.Exec(args[1], args[2:]...), args[0], args[1:])
}

func wantCode(ts *testscript.TestScript, err error, code string, args []string) {
	want, parseErr := strconv.Atoi(code)
	ts.Check(parseErr)
	got := 0
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", strings.Join(args, " "), err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args, " "), got, want)
	}
}

// A watched writer closes seen once the text want was written.
type watched struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	want string
	seen chan struct{}
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p)
	if w.want != "" && strings.Contains(w.buf.String(), w.want) {
		close(w.seen)
		w.want = ""
	}
	return len(p), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// interrupt is `interrupt FILE TEXT COMMAND [ARG...]`: SIGINT as soon as the command
// has written TEXT to stdout or stderr, which go to FILE; the exit code must
// be 130.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: interrupt FILE TEXT COMMAND [ARG...]")
	}
	output := &watched{want: args[1], seen: make(chan struct{})}
	cmd := command(ts, args[2:])
	cmd.Stdout, cmd.Stderr = output, output
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	select {
	case <-output.seen:
		ts.Check(cmd.Process.Signal(os.Interrupt))
		err = <-ended
	case err = <-ended:
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(output.String()), 0o644))
	ts.Logf("[output]\n%.1000s", output)
	wantCode(ts, err, "130", args[2:])
}

// command is a program with the script's folder and environment.
func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	path := args[0]
	if !strings.ContainsRune(path, '/') {
		path = bin + "/" + path
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1")
	return cmd
}

// flip is `flip FILE OFFSET`: it changes one byte. A negative offset counts from the
// end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	content, at := readAt(ts, args)
	content[at] ^= 0x11
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content, 0o644))
}

// truncate is `truncate FILE OFFSET`: it removes the rest of the file.
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	content, at := readAt(ts, args)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content[:at], 0o644))
}

func readAt(ts *testscript.TestScript, args []string) ([]byte, int) {
	if len(args) != 2 {
		ts.Fatalf("usage: flip or truncate FILE OFFSET")
	}
	content, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(content)
	}
	return content, at
}

// same is `[!] same FILE FILE`: it compares two files.
func same(ts *testscript.TestScript, neg bool, args []string) {
	a, b := ts.ReadFile(args[0]), ts.ReadFile(args[1])
	if (a == b) == neg {
		ts.Fatalf("%s and %s:\n%s\n%s", args[0], args[1], a, b)
	}
}
