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

// A launcher runs ranks 1 and up on the host of rank 0. They end when rank 0 ends,
// however it ends. They share its terminal and its process group, so that Ctrl-C
// reaches all of them; if any rank is asked to stop, all of them stop.
type launcher struct {
	children []*exec.Cmd
	ended    sync.WaitGroup
	alive    context.Context // canceled when the first child ends
	lost     context.CancelCauseFunc
}

// launch starts ranks 1 to size-1: start makes the command of a rank.
func launch(ctx context.Context, size int, start func(rank int) (*exec.Cmd, error)) (*launcher, error) {
	l := &launcher{}
	l.alive, l.lost = context.WithCancelCause(ctx)
	for rank := 1; rank < size; rank++ {
		c, err := start(rank)
		if err == nil {
			// The signal comes when the parent's thread ends, so this goroutine
			// keeps its thread.
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

// wait waits for the children to end, and kills any child that takes longer than
// grace.
func (l *launcher) wait(grace time.Duration) {
	if l == nil {
		return
	}
	late := time.AfterFunc(grace, l.kill)
	defer late.Stop()
	l.ended.Wait()
}
