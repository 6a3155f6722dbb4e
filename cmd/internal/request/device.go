package request

import (
	"fmt"
	"strconv"
	"strings"
)

// Device is where to compute: "auto" (CUDA where there is any), "cpu", "cuda"
// or "cuda:N".
type Device string

// ParseDevice reads a device as it is typed.
func ParseDevice(s string) (Device, error) {
	switch s {
	case "auto", "cpu", "cuda":
		return Device(s), nil
	}
	if index, ok := strings.CutPrefix(s, "cuda:"); ok {
		if n, err := strconv.ParseUint(index, 10, 7); err == nil && strconv.FormatUint(n, 10) == index {
			return Device(s), nil
		}
	}
	return "", fmt.Errorf("unknown device %q: it is auto, cpu, cuda or cuda:N", s)
}
