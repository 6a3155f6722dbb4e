package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// checkTools returns an error that names a missing tool, before anything is
// fetched.
func checkTools() error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("libtorch is set up for linux/amd64 only, this is %s/%s (prepare and report build here all the same: go build ./cmd/koala-lm)", runtime.GOOS, runtime.GOARCH)
	}
	for _, tool := range []struct{ name, install string }{
		{"go", "see https://go.dev/doc/install"},
		{"g++", "apt-get install g++"},
		{"gcc", "apt-get install gcc"},
	} {
		if _, err := exec.LookPath(tool.name); err != nil {
			return fmt.Errorf("%s not found: install it (%s)", tool.name, tool.install)
		}
	}
	return nil
}

// command runs a program and returns its standard output. Its error contains
// the most informative line of the output.
func command(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	// pip and g++ start child processes: an interruption ends the whole group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.Env = append(cmd.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		all := stderr.String() + stdout.String()
		if strings.Contains(all, "No space left on device") {
			return nil, fmt.Errorf("%s: %w", name, syscall.ENOSPC)
		}
		if line := tellingLine(all); line != "" {
			return nil, fmt.Errorf("%s: %s", name, line)
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return stdout.Bytes(), nil
}

// tellingLine returns the first line with an error, or else the last line.
func tellingLine(output string) string {
	last := ""
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if strings.Contains(strings.ToLower(line), "error") {
			return line
		}
		if line != "" {
			last = line
		}
	}
	return last
}

// isDiskFull reports whether err came from a full file system.
func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
