package main

import (
	"bytes"
	"context"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/koala-lm/koala-lm/report"
)

// watchIt redraws the terminal every two seconds while draw reports that a run
// trains. Ctrl-C ends it with exit code 0.
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
		// Cursor home, the page with the rest of each line erased, then everything below.
		screen := bytes.ReplaceAll(cutLines(page.Bytes(), out.Width, terminalHeight()), []byte("\n"), []byte("\x1b[K\n"))
		if _, err := o.app.io.Out.Write(append(append([]byte("\x1b[H"), screen...), "\x1b[J"...)); err != nil {
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

// terminalHeight returns the terminal's height in lines, or a large number if it is
// unknown.
func terminalHeight() int {
	if _, height, err := term.GetSize(int(os.Stdout.Fd())); err == nil && height > 1 {
		return height
	}
	return 1000
}

// cutLines keeps the lines that fit into a terminal of this width and height, above
// the line of the cursor. A line wider than the terminal takes several.
func cutLines(page []byte, width, height int) []byte {
	room := height - 1
	end := 0
	for line := range bytes.Lines(page) {
		room -= max(1, (text.StringWidthWithoutEscSequences(string(bytes.TrimRight(line, "\n")))+width-1)/max(1, width))
		if room < 0 {
			break
		}
		end += len(line)
	}
	return page[:end]
}
