package distributed

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// A launcher runs ranks 1 and up on the host of rank 0. Whatever ends rank 0 ends
// them. They share its terminal and its process group, so that Ctrl-C reaches all of
// them; a rank that is asked to stop stops all.
type launcher struct {
	children []*exec.Cmd
	ended    sync.WaitGroup
	alive    context.Context // ends with the first child
	lost     context.CancelCauseFunc
}

// launch starts ranks 1 to size-1: start makes the command of a rank.
func launch(ctx context.Context, size int, start func(rank int) (*exec.Cmd, error)) (*launcher, error) {
	l := &launcher{}
	l.alive, l.lost = context.WithCancelCause(ctx)
	for rank := 1; rank < size; rank++ {
		c, err := start(rank)
		if err == nil {
			// This goroutine keeps its thread, whose end the signal reports.
			c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			err = c.Start()
		}
		if err != nil {
			l.kill()
			l.ended.Wait()
			return nil, fmt.Errorf("start rank %d: %w", rank, err)
		}
		l.children = append(l.children, c)
		l.ended.Go(func() {
			err := c.Wait()
			if err == nil {
				err = errors.New("exit status 0")
			}
			l.lost(fmt.Errorf("rank %d (process %d) ended before all ranks had joined: %w", rank, c.Process.Pid, err))
		})
	}
	return l, nil
}

func (l *launcher) kill() {
	if l == nil {
		return
	}
	for _, c := range l.children {
		_ = c.Process.Kill() // it may have ended
	}
}

// wait waits for the children to end by themselves, and kills those that take longer
// than grace.
func (l *launcher) wait(grace time.Duration) {
	if l == nil {
		return
	}
	late := time.AfterFunc(grace, l.kill)
	defer late.Stop()
	l.ended.Wait()
}
