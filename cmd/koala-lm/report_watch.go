package main

import (
	"bytes"
	"context"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/koala-lm/koala-lm/report"
)

// watchIt draws the same place of the terminal every two seconds for as long as
// draw says that something goes on. Ctrl-C ends it well.
func (o *reportOptions) watchIt(ctx context.Context, draw func(report.Output) (bool, error)) error {
	const every = 2 * time.Second
	if !o.app.io.OutIsTerminal || o.format != "auto" && o.format != "table" {
		return usagef("--watch shows tables on a terminal")
	}
	for {
		var page bytes.Buffer
		out := o.output()
		out.W = &page
		goesOn, err := draw(out)
		if err != nil {
			return err
		}
		// Home, the page with every line's old end erased, then what is below.
		text := bytes.ReplaceAll(cutLines(page.Bytes(), terminalHeight()), []byte("\n"), []byte("\x1b[K\n"))
		if _, err := o.app.io.Out.Write(append(append([]byte("\x1b[H"), text...), "\x1b[J"...)); err != nil {
			return err
		}
		if !goesOn {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// terminalHeight is in lines; a large number where nobody knows.
func terminalHeight() int {
	if _, height, err := term.GetSize(int(os.Stdout.Fd())); err == nil && height > 1 {
		return height
	}
	return 1000
}

// cutLines keeps what fits into height lines, the cursor's own among them.
func cutLines(text []byte, height int) []byte {
	for i, lines := 0, 0; i < len(text); i++ {
		if text[i] != '\n' {
			continue
		}
		if lines++; lines == height-1 {
			return text[:i+1]
		}
	}
	return text
}
