// Package memory says how much memory a process may use.
package memory

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"strings"
)

// Free returns the number of bytes that this process can allocate and use. known is
// false if the system does not report it.
func Free() (bytes uint64, known bool) {
	available, ok := Field("/proc/meminfo", "MemAvailable:")
	swap, _ := Field("/proc/meminfo", "SwapFree:")
	return min((available+swap)<<10, controlGroupFree(os.DirFS("/"))), ok
}

// controlGroupFree returns the number of bytes that remain within the memory limits of
// this process's control groups and their parents. system is the root of the file
// system.
func controlGroupFree(system fs.FS) uint64 {
	free := uint64(math.MaxInt64)
	groups, err := fs.ReadFile(system, "proc/self/cgroup")
	if err != nil {
		return free
	}
	for line := range strings.Lines(string(groups)) {
		// HIERARCHY:CONTROLLERS:PATH, and 0::PATH for version 2.
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		root, limit, usage := "sys/fs/cgroup", "memory.max", "anon "
		if slices.Contains(strings.Split(parts[1], ","), "memory") { // version 1
			root, limit, usage = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "total_rss "
		} else if parts[1] != "" {
			continue
		}
		// In a container the path may be the host's: then the root is the group.
		for dir := path.Join(root, parts[2]); strings.HasPrefix(dir, root); dir = path.Dir(dir) {
			most, limited := fieldOf(system, path.Join(dir, limit), "") // "max" is none
			used, _ := fieldOf(system, path.Join(dir, "memory.stat"), usage)
			if limited {
				free = min(free, most-min(most, used))
			}
		}
	}
	return free
}

// Field reads the number after name at the start of a line of a file, such as 1234 in
// "VmData:  1234 kB".
func Field(file, name string) (n uint64, ok bool) {
	return fieldOf(os.DirFS("/"), strings.TrimPrefix(file, "/"), name)
}

func fieldOf(system fs.FS, file, name string) (n uint64, ok bool) {
	text, err := fs.ReadFile(system, file)
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
