package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
)

// Many training processes write into one store and are killed again and again:
// each of the runs has every metric of one that was left alone, once.
func TestManyIntoOneStore(t *testing.T) {
	processes, steps, kills := 3, 400, 4
	if *torture {
		processes, steps, kills = 16, 6000, math.MaxInt // a minute and more
	}
	s := settings(t, fmt.Sprint("train.steps=", steps), "checkpoint.every=50")
	first := newWorkshop(t)
	first.train(first.request(s, "")).mustEnd(t, exit.OK)
	want := first.ended()

	w := first.another(t)
	var crowd crowd
	done := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for range kills {
			select {
			case <-done:
				return
			case <-time.After(time.Second):
				crowd.killOne()
			}
		}
	})
	var trainers sync.WaitGroup
	for i := range processes {
		name := fmt.Sprint("run ", i)
		trainers.Go(func() {
			for ended := false; !ended; {
				r := w.request(s, "")
				if run, ok := w.find(name); ok {
					r = w.request(s, run.ID)
				}
				r.Name = name
				p := w.train(r)
				crowd.add(p)
				code := p.code(t)
				if said := p.stderr.String(); strings.Contains(said, "locked") || strings.Contains(said, "store") {
					t.Errorf("%s said:\n%s", name, said)
				}
				if ended = code == exit.OK; !ended && code != -1 {
					t.Errorf("%s: exit code %d; it said:\n%s", name, code, &p.stderr)
					return
				}
			}
		})
	}
	trainers.Wait()
	close(done)
	killer.Wait()
	t.Logf("%d processes killed", crowd.killed)
	for i := range processes {
		if diff := cmp.Diff(want, w.endOf(fmt.Sprint("run ", i))); diff != "" {
			t.Errorf("run %d (-left alone +in the crowd):\n%s", i, diff)
		}
	}
}

// crowd is the processes that are running.
type crowd struct {
	sync.Mutex
	running []*process
	killed  int
}

func (c *crowd) add(p *process) {
	c.Lock()
	defer c.Unlock()
	c.running = append(c.running, p)
}

// killOne kills one of the processes that have not been killed yet.
func (c *crowd) killOne() {
	c.Lock()
	defer c.Unlock()
	if len(c.running) == 0 {
		return
	}
	i := rand.IntN(len(c.running))
	if c.running[i].Process.Kill() == nil { // else it has ended
		c.killed++
	}
	c.running = append(c.running[:i], c.running[i+1:]...)
}
