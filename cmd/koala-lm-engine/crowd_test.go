package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
)

// Many training processes write into one store and are killed: each run has every
// metric of an undisturbed run exactly once. A process is killed when its run reaches
// a new step, so that every kill happens.
func TestManyIntoOneStore(t *testing.T) {
	processes, steps, kills := 3, 1500, 2
	if *torture {
		processes, steps, kills = 16, 6000, 8 // a minute and more
	}
	s := settings(t, fmt.Sprint("train.steps=", steps), "checkpoint.every=50")
	first := newWorkshop(t)
	first.train(first.request(s, "")).mustEnd(t, exit.OK)
	want := first.ended()

	w := first.another(t)
	killed := make([]int, processes)
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
				if killed[i] < kills {
					// Each run and kill at another step.
					w.awaitSaved(t, name, int64((killed[i]+1)*steps/(kills+2)+50*(i%4)))
					if err := p.Process.Kill(); err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
				}
				code := p.code(t)
				if said := p.stderr.String(); strings.Contains(said, "locked") || strings.Contains(said, "store") {
					t.Errorf("%s said:\n%s", name, said)
				}
				switch code {
				case -1:
					killed[i]++
				case exit.OK:
					ended = true
				default:
					t.Errorf("%s: exit code %d; it said:\n%s", name, code, &p.stderr)
					return
				}
			}
		})
	}
	trainers.Wait()
	for i := range processes {
		if killed[i] != kills {
			t.Errorf("run %d was killed %d times, want %d", i, killed[i], kills)
		}
		if diff := cmp.Diff(want, w.endOf(fmt.Sprint("run ", i))); diff != "" {
			t.Errorf("run %d (-left alone +in the crowd):\n%s", i, diff)
		}
	}
}

// awaitSaved returns once the run of that name has a checkpoint of that step or a
// later one.
func (w *workshop) awaitSaved(t *testing.T, name string, step int64) {
	t.Helper()
	if !happens(func() bool {
		run, ok := w.find(name)
		return ok && w.saved(run.ID) >= step
	}) {
		t.Errorf("%s has no checkpoint of step %d", name, step)
	}
}
