package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// streams are a command's input and output, and the properties of the terminal.
// Results go to Out, progress and messages to ErrOut.
type streams struct {
	In     io.Reader
	Out    io.Writer
	ErrOut io.Writer

	// results is what Out writes to in the end; nil if nobody asks how that went.
	results *watchedWriter

	InIsTerminal  bool
	OutIsTerminal bool
	ErrIsTerminal bool

	// Width is the terminal's width in columns; 80 without a terminal.
	Width int
	// Color allows colours in Out, ErrColor in ErrOut.
	Color    bool
	ErrColor bool
}

// systemStreams returns the streams of the process.
func systemStreams() *streams {
	results := &watchedWriter{w: os.Stdout}
	s := &streams{
		In:            os.Stdin,
		Out:           results,
		results:       results,
		ErrOut:        os.Stderr,
		InIsTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		OutIsTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		ErrIsTerminal: term.IsTerminal(int(os.Stderr.Fd())),
		Width:         80,
	}
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			s.Width = w
			break
		}
	}
	s.Color = wantColor(s.OutIsTerminal, os.Getenv)
	s.ErrColor = wantColor(s.ErrIsTerminal, os.Getenv)
	return s
}

// wantColor follows no-color.org and the CLICOLOR_FORCE convention.
func wantColor(terminal bool, getenv func(string) string) bool {
	if getenv("NO_COLOR") != "" {
		return false
	}
	if force := getenv("CLICOLOR_FORCE"); force != "" && force != "0" {
		return true
	}
	return terminal && getenv("TERM") != "dumb"
}

// outErr is the first error met in writing results, whichever command wrote
// them: a full disk under `koala-lm ... > file` must not exit with 0.
func (s *streams) outErr() error {
	if s.results != nil && s.results.err != nil {
		return fmt.Errorf("write standard output: %w", s.results.err)
	}
	return nil
}

// watchedWriter remembers the first error of w.
type watchedWriter struct {
	w   io.Writer
	err error
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil && w.err == nil {
		w.err = err
		var path *os.PathError
		if errors.As(err, &path) {
			w.err = path.Err
		}
	}
	return n, err
}
