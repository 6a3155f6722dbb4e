// Package bars draws progress bars at the bottom of a terminal.
package bars

import (
	"io"
	"os"
	"time"

	"github.com/vbauerster/cupwriter"
	"github.com/vbauerster/mpb/v8"
)

// New returns a container of bars that are drawn again after each period.
func New(terminal *os.File, every time.Duration) *mpb.Progress {
	w := cupwriter.New(Drawing(terminal), false)
	w.SetTermFd(int(terminal.Fd()))
	return mpb.New(mpb.WithConsoleWriter(w), mpb.WithRefreshRate(every))
}

// Drawing returns a writer for drawings that replace one another. Each write begins in
// the first column: a terminal shows a pressed Ctrl-C as ^C, which moves the cursor.
func Drawing(w io.Writer) io.Writer { return drawing{w} }

type drawing struct{ w io.Writer }

func (d drawing) Write(p []byte) (int, error) {
	if _, err := d.w.Write(append([]byte("\r"), p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}
