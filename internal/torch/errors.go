package torch

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/sugarme/gotch/ts"
)

// An OpError is an operator's failure, with its inputs and libtorch's reason.
type OpError struct {
	Op     string   // the operator, as libtorch names it
	Inputs []string // type and shape of each input tensor
	Reason error
}

func (e *OpError) Error() string {
	if len(e.Inputs) == 0 {
		return fmt.Sprintf("%s: %v", e.Op, e.Reason)
	}
	return fmt.Sprintf("%s(%s): %v", e.Op, strings.Join(e.Inputs, ", "), e.Reason)
}

func (e *OpError) Unwrap() error { return e.Reason }

// An OutOfMemoryError is a failed allocation. Bytes is its size, or 0 where libtorch does
// not report it.
type OutOfMemoryError struct {
	Device string // "cpu" or "cuda"
	Bytes  uint64
}

func (e *OutOfMemoryError) Error() string {
	asked := "an allocation"
	if e.Bytes > 0 {
		asked += " of " + humanize.IBytes(e.Bytes)
	}
	return fmt.Sprintf("out of memory on %s: %s failed", e.Device, asked)
}

func newOpError(op string, inputs []*ts.Tensor, err error) error {
	e := &OpError{Op: op, Reason: reason(err)}
	for _, t := range inputs {
		e.Inputs = append(e.Inputs, Describe(t))
	}
	return e
}

// reason removes the prefixes of libtorch and gotch, and C++ and Go stack traces, from an
// error.
func reason(err error) error {
	if errors.Is(err, errNilTensor) {
		return err
	}
	text := err.Error()
	if _, after, found := strings.Cut(text, "Libtorch API Error: "); found {
		text = after
	}
	if oom := outOfMemory(text); oom != nil {
		return oom
	}
	for _, end := range []string{"\nException raised from", "\ngoroutine ", "\nThe following operation failed"} {
		text, _, _ = strings.Cut(text, end)
	}
	return errors.New(strings.Join(strings.Fields(text), " "))
}

var (
	cpuMemory  = regexp.MustCompile(`you tried to allocate (\d+) bytes`)
	cudaMemory = regexp.MustCompile(`CUDA out of memory. Tried to allocate ([\d.]+ [KMGT]?i?B)`)
)

func outOfMemory(text string) error {
	if m := cpuMemory.FindStringSubmatch(text); m != nil {
		n, _ := strconv.ParseUint(m[1], 10, 64)
		return &OutOfMemoryError{Device: "cpu", Bytes: n}
	}
	if m := cudaMemory.FindStringSubmatch(text); m != nil {
		n, _ := humanize.ParseBytes(m[1])
		return &OutOfMemoryError{Device: "cuda", Bytes: n}
	}
	switch {
	case strings.Contains(text, "CUDA out of memory"):
		return &OutOfMemoryError{Device: "cuda"}
	case strings.Contains(text, "std::bad_alloc"), strings.Contains(text, "not enough memory"):
		return &OutOfMemoryError{Device: "cpu"}
	}
	return nil
}
