package run

import (
	"strings"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/configs"
)

// Weights, gradients and an optimizer's state that do not fit are refused by their
// numbers, before they are made.
func TestRunThatDoesNotFit(t *testing.T) {
	settings := func(assignments ...string) configs.Settings {
		var b configs.Builder
		for _, a := range assignments {
			b.Assign(a, "--set")
		}
		s, err := b.Settings()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	large := settings("model.embed=900000", "optimizer.kind=adam")
	err := checkMemory(large, 1000, gotch.CPU)
	if err == nil || !strings.Contains(err.Error(), "parameters, their gradients and the state of adam need") || !strings.Contains(err.Error(), "lower model.layers") {
		t.Errorf("error is %v", err)
	}
	if err := checkMemory(large, 1000, gotch.CudaBuilder(0)); err != nil {
		t.Errorf("on a GPU: %v", err)
	}
	if err := checkMemory(settings(), 1000, gotch.CPU); err != nil {
		t.Errorf("the default model: %v", err)
	}
}

func TestMemory(t *testing.T) {
	before := residentBytes()
	text := make([]byte, 64<<20)
	for i := range text {
		text[i] = 1 // an untouched page is not resident
	}
	now, peak := residentBytes(), PeakBytes()
	if before == 0 || now < before+int64(len(text))*9/10 || peak < now*9/10 || text[len(text)-1] != 1 {
		t.Errorf("%d bytes are resident, %d with %d more, %d at the most", before, now, len(text), peak)
	}
}
