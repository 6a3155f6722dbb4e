package torchtest

import (
	"runtime"
	"testing"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// Threads gives the operators of this goroutine n threads until undo is called. OpenMP
// and MKL keep the number for each thread of the operating system, and products round
// otherwise with another number. So the goroutine stays on its thread, which ends with
// it: no later test gets a thread that still has the number.
func Threads(t testing.TB, n int) (undo func()) {
	runtime.LockOSThread()
	before := torch.Threads()
	if err := torch.SetThreads(n); err != nil {
		t.Error(err)
	}
	return func() { _ = torch.SetThreads(before) }
}
