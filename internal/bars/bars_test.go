package bars

import (
	"bytes"
	"testing"

	"github.com/vbauerster/cupwriter"
)

// A bar that is drawn again covers the one before, although ^C stands there.
func TestDrawsOverCtrlC(t *testing.T) {
	var screen bytes.Buffer
	w := cupwriter.New(Drawing(&screen), true)
	for _, bar := range []string{"epoch 1 [=  ]\n", "epoch 1 [== ]\n"} {
		if _, err := w.Write([]byte(bar)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(1); err != nil {
			t.Fatal(err)
		}
		screen.WriteString("^C")
	}
	if want := "\repoch 1 [=  ]\n^C\r\x1b[1A\x1b[Jepoch 1 [== ]\n^C"; screen.String() != want {
		t.Errorf("%q, want %q", screen.String(), want)
	}
}
