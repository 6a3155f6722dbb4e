package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/internal/ranks"
)

// A fleet is the ranks that rank 0 starts on its own host. Whatever ends rank 0
// ends them. They share its terminal and its process group, so that Ctrl-C reaches
// them too; that one of them is asked to stop stops all.
type fleet struct {
	ships []*exec.Cmd
	ended sync.WaitGroup
	whole context.Context // ends with the first of them
	lost  context.CancelCauseFunc
}

// startFleet starts ranks 1 and up.
func startFleet(ctx context.Context, r request.Train, place ranks.Place, stderr io.Writer) (*fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the other ranks: %w", err)
	}
	f := &fleet{}
	f.whole, f.lost = context.WithCancelCause(ctx)
	r.NProc = 0
	for rank := 1; rank < place.Size; rank++ {
		place.Rank, place.Local = rank, rank
		r.Place = &place
		text, err := request.Encode(&r)
		if err != nil {
			f.kill()
			return nil, err
		}
		c := exec.Command(self, "train", text)
		c.Stderr = stderr
		// This goroutine keeps its thread, whose end the signal is for.
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := c.Start(); err != nil {
			f.kill()
			return nil, fmt.Errorf("start rank %d: %w", rank, err)
		}
		f.ships = append(f.ships, c)
		f.ended.Go(func() {
			err := c.Wait()
			if err == nil {
				err = errors.New("exit status 0")
			}
			f.lost(fmt.Errorf("rank %d (process %d) ended before all had come: %w", rank, c.Process.Pid, err))
		})
	}
	return f, nil
}

func (f *fleet) kill() {
	if f == nil {
		return
	}
	for _, c := range f.ships {
		_ = c.Process.Kill() // it may have ended
	}
}

// wait waits for the ranks to end, as they do when they know that all is over,
// and ends those that take longer.
func (f *fleet) wait(patience time.Duration) {
	if f == nil {
		return
	}
	late := time.AfterFunc(patience, f.kill)
	defer late.Stop()
	f.ended.Wait()
}
