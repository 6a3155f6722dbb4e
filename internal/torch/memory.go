package torch

import (
	"syscall"

	"github.com/koala-lm/koala-lm/internal/memory"
)

// rlimitData is RLIMIT_DATA, the limit of private writable memory in bytes, which
// package syscall does not define.
const rlimitData = 2

// limitMemory makes an allocation beyond the free memory of the machine, or of its
// container, fail with an [OutOfMemoryError]. Linux would grant it and, once it is used,
// kill this process or another one without a message. lift removes the limit. There is
// no limit if the system does not report its free memory.
func limitMemory() (lift func()) {
	var before syscall.Rlimit
	free, known := memory.Free()
	used, ok := memory.Field("/proc/self/status", "VmData:")
	if !known || !ok || syscall.Getrlimit(rlimitData, &before) != nil {
		return func() {}
	}
	limit := syscall.Rlimit{Cur: min(before.Cur, used<<10+free), Max: before.Max}
	if syscall.Setrlimit(rlimitData, &limit) != nil {
		return func() {}
	}
	return func() { _ = syscall.Setrlimit(rlimitData, &before) }
}

// unlimitMemory removes the limit before CUDA is used, since CUDA maps its devices'
// memory into the process.
func unlimitMemory() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(rlimitData, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(rlimitData, &limit)
	}
}
