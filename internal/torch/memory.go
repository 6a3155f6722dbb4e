package torch

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// rlimitData is RLIMIT_DATA, which package syscall does not name: bytes of
// private writable memory.
const rlimitData = 2

// limitMemory makes an allocation beyond the free memory of the machine, or of its
// container, fail with an [OutOfMemoryError]. Linux would grant it and, once it is used,
// kill this process or another one without a word. lift removes the limit. Where the
// system does not report its free memory there is no limit.
func limitMemory() (lift func()) {
	var before syscall.Rlimit
	free, known := FreeMemory()
	used, ok := field("/proc/self/status", "VmData:")
	if !known || !ok || syscall.Getrlimit(rlimitData, &before) != nil {
		return func() {}
	}
	limit := syscall.Rlimit{Cur: min(before.Cur, used<<10+free), Max: before.Max}
	if syscall.Setrlimit(rlimitData, &limit) != nil {
		return func() {}
	}
	return func() { _ = syscall.Setrlimit(rlimitData, &before) }
}

// unlimitMemory lifts the limit before CUDA is used: CUDA maps its devices' memory too.
func unlimitMemory() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(rlimitData, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(rlimitData, &limit)
	}
}

// FreeMemory returns how many bytes this process could allocate and use. known is false
// where the system does not report it.
func FreeMemory() (bytes uint64, known bool) {
	available, ok := field("/proc/meminfo", "MemAvailable:")
	swap, _ := field("/proc/meminfo", "SwapFree:")
	return min((available+swap)<<10, controlGroupFree()), ok
}

// controlGroupFree returns how many bytes the limits of this process's control group
// (version 2) and of the groups above it leave.
func controlGroupFree() uint64 {
	free := uint64(math.MaxInt64)
	text, err := os.ReadFile("/proc/self/cgroup")
	path, found := strings.CutPrefix(strings.TrimSpace(string(text)), "0::")
	if err != nil || !found {
		return free
	}
	const root = "/sys/fs/cgroup"
	for dir := filepath.Join(root, path); strings.HasPrefix(dir, root); dir = filepath.Dir(dir) {
		most, limited := field(filepath.Join(dir, "memory.max"), "") // "max" is none
		used, _ := field(filepath.Join(dir, "memory.stat"), "anon ")
		if limited {
			free = min(free, most-min(most, used))
		}
	}
	return free
}

// field reads the number after name at the start of a line, such as 1234 in
// "VmData:  1234 kB".
func field(path, name string) (n uint64, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name); found {
			_, err := fmt.Sscan(rest, &n)
			return n, err == nil
		}
	}
	return 0, false
}
