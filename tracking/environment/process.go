package environment

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Process identifies a process permanently. Process ids are reused, so it also holds
// the start time and the kernel's boot id.
type Process struct {
	Host      string
	Boot      string // the kernel's boot id, "" if there is none
	Namespace string // namespace of process ids, since containers have their own
	PID       int
	Start     int64 // clock ticks after boot, 0 where unknown
}

// Self identifies the calling process.
func Self() Process {
	p := here()
	p.PID = os.Getpid()
	p.Start, _ = startTime(p.PID)
	return p
}

// here returns a Process with this host, boot and namespace, and no process id.
func here() Process {
	host, _ := os.Hostname()
	namespace, _ := os.Readlink("/proc/self/ns/pid")
	return Process{Host: host, Boot: readLine("/proc/sys/kernel/random/boot_id"), Namespace: namespace}
}

// Verdict is what the caller's host can say about a process.
type Verdict int

const (
	Unknown Verdict = iota // on another host, or one that hides its processes
	Alive
	Gone
)

// Observer checks whether processes exist, from one host. It reads the facts about
// its own host once: use one Observer for many checks.
type Observer struct{ here Process }

// NewObserver returns an observer on this host.
func NewObserver() *Observer { return &Observer{here: here()} }

// Look reports whether p still exists.
func (o *Observer) Look(p Process) Verdict {
	switch {
	case p.Host != o.here.Host || p.Boot == "" || p.Start == 0:
		return Unknown
	case p.Boot != o.here.Boot:
		return Gone // the host was started again since
	case p.Namespace != o.here.Namespace:
		return Unknown
	}
	start, err := startTime(p.PID)
	if err != nil || start != p.Start {
		return Gone
	}
	return Alive
}

// startTime reads field 22 of /proc/pid/stat. The second field is the program's
// name in parentheses and may itself hold spaces and parentheses, so counting
// starts after the last one. A zombie has ended, though its entry remains.
func startTime(pid int) (int64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStartTime(stat)
}

func parseStartTime(stat []byte) (int64, error) {
	const state, start = 0, 19 // fields 3 and 22
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	if end < 0 || len(fields) <= start {
		return 0, fmt.Errorf("not a process's stat: %q", stat)
	}
	if s := fields[state]; s[0] == 'Z' || s[0] == 'X' {
		return 0, os.ErrProcessDone
	}
	return strconv.ParseInt(string(fields[start]), 10, 64)
}

// readLine returns a small file's text without the space around it, or "".
func readLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// String returns a text such as "process 4711 on host".
func (p Process) String() string { return fmt.Sprintf("process %d on %s", p.PID, p.Host) }
