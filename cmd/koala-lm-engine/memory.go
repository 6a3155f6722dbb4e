package main

import (
	"fmt"
	"os"
	"strings"
)

// residentBytes is this process's resident memory, peakBytes the most that it
// has been; 0 where the system does not tell.
func residentBytes() int64 { return statusBytes("VmRSS:") }
func peakBytes() int64     { return statusBytes("VmHWM:") }

func statusBytes(key string) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			var kilobytes int64
			if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
				return 0
			}
			return kilobytes << 10
		}
	}
	return 0
}
