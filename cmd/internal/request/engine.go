package request

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// EngineName is the name of the program that computes.
const EngineName = "koala-lm-engine"

// maxRequest is the largest argument that Linux accepts (MAX_ARG_STRLEN, with the
// final NUL).
const maxRequest = 128<<10 - 1

// FindEngine returns the path of the engine, which lies in the folder of the running
// program. It resolves symbolic links, so that a link to koala-lm in a folder of
// PATH is a sufficient installation.
func FindEngine() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", EngineName, err)
	}
	if resolved, err := filepath.EvalSymlinks(self); err == nil {
		self = resolved
	}
	path := filepath.Join(filepath.Dir(self), EngineName)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("this needs %s, which is not at %s: build it with `make build` and run bin/koala-lm", EngineName, path)
	case err != nil:
		return "", fmt.Errorf("find %s: %w", EngineName, err)
	case info.IsDir() || info.Mode().Perm()&0o111 == 0:
		return "", fmt.Errorf("%s is not a program: build it with `make build`", path)
	}
	return path, nil
}

// Exec replaces this process by the engine working on r: same process id, same
// standard streams. It returns only if that fails.
func Exec(verb string, r Request) error {
	text, err := Encode(r)
	if err != nil {
		return err
	}
	path, err := FindEngine()
	if err != nil {
		return err
	}
	// MKL, when it is loaded, ends a process whose working folder was removed. The
	// paths of a request are absolute.
	if _, err := os.Getwd(); err != nil {
		if err := os.Chdir("/"); err != nil {
			return fmt.Errorf("the working folder was removed: %w", err)
		}
	}
	if err := syscall.Exec(path, []string{path, verb, text}, engineEnvironment(os.Environ())); err != nil {
		return fmt.Errorf("start %s: %w", path, err)
	}
	return nil
}

// Encode writes r as the one argument that the engine takes after the verb.
func Encode(r Request) (string, error) {
	r.common().Version = Version
	text, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode request: %w", err)
	}
	if len(text) > maxRequest {
		return "", fmt.Errorf("the command line is too long: its %d bytes, written as JSON, must be at most %d; shorten the prompt or the note", len(text), maxRequest)
	}
	return string(text), nil
}
