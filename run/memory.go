package run

import (
	"fmt"
	"os"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/internal/memory"
)

// checkMemory returns an error if parameters, gradients and the optimizer's state, which
// are known exactly, do not fit in the memory that is free: the run would end at its
// first step, after seconds or minutes. Activations are an estimate, and too little for
// them is an error when it happens (torch.OutOfMemoryError).
func checkMemory(s configs.Settings, vocab int, device gotch.Device) error {
	free, known := memory.Free()
	cost, estimated := s.Cost(vocab, 1, false)
	if need := uint64(cost.Parameters + cost.Gradients + cost.State); device == gotch.CPU && known && estimated && need > free {
		return fmt.Errorf("%s parameters, their gradients and the state of %s need %s of memory, and %s are free: lower model.layers, model.embed or model.hidden, or take an optimizer.kind with less state",
			humanize.Comma(cost.Count), s.Optimizer.Kind, humanize.IBytes(need), humanize.IBytes(free))
	}
	return nil
}

// residentBytes is this process's resident memory, 0 if the system does not report
// it. Every row of metrics has it, so it is read from the file that the kernel
// produces fastest.
func residentBytes() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}

// PeakBytes is the highest resident memory of this process so far, 0 if the system
// does not report it.
func PeakBytes() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kilobytes int64
			if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
				return 0
			}
			return kilobytes << 10
		}
	}
	return 0
}
