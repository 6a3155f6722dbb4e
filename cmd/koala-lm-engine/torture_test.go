package main

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/configs"
)

var (
	torture = flag.Bool("torture", false, "make every fault, and kill 200 processes in place of a few")
	kills   = flag.Int("kills", 4, "how often each run of TestKilledAnywhere is killed")
)

// A training process is killed at any moment, any number of times. The resumed run
// ends with the weights, the optimizer's state and the metrics of an undisturbed
// run.
func TestKilledAnywhere(t *testing.T) {
	cases := tortureCases(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			quiet := newWorkshop(t)
			began := time.Now()
			c.start(quiet, "").mustEnd(t, exit.OK)
			whole := time.Since(began)
			want := quiet.ended()

			w := quiet.another(t)
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			kills := *kills
			if *torture {
				kills = 200 / len(cases)
			}
			for kills > 0 {
				p := c.start(w, w.unfinished())
				time.Sleep(time.Duration(r.Float64() * float64(whole)))
				if err := p.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				// The process was killed, or ended before.
				switch code := p.code(t); code {
				case -1:
					kills--
				case exit.OK:
				default:
					t.Fatalf("exit code %d; it said:\n%s", code, &p.stderr)
				}
				if run, ok := w.run(); ok && run.Status == "finished" {
					w.mustBe(want)
					w = quiet.another(t)
				}
			}
			c.start(w, w.unfinished()).mustEnd(t, exit.OK)
			w.mustBe(want)
		})
	}
}

type tortureCase struct {
	name     string
	threads  int // their sums must not depend on which thread is first
	settings configs.Settings
}

// start starts a case in a workshop, or resumes it.
func (c tortureCase) start(w *workshop, resume string) *process {
	r := w.request(c.settings, resume)
	r.Threads = c.threads
	return w.train(r)
}

// tortureCases are the models and optimizers whose runs are killed; the short form
// takes one of each.
func tortureCases(t *testing.T) []tortureCase {
	models := map[string][]string{
		"lstm": {"model.kind=lstm"},
		"gpt":  {"model.kind=transformer", "model.heads=2", "model.context=16", "model.dropout.hidden=0.1"},
	}
	made := func(model, optimizer string, threads int) tortureCase {
		return tortureCase{model + " " + optimizer, threads, settings(t, append(models[model], "optimizer.kind="+optimizer)...)}
	}
	if !*torture {
		return []tortureCase{made("lstm", "koala-v", 1), made("gpt", "koala-m", 1)}
	}
	var all []tortureCase
	for i, optimizer := range []string{"koala-v", "koala-m", "koala++", "adam"} {
		all = append(all, made("lstm", optimizer, 1+i%2), made("gpt", optimizer, 1))
	}
	return all
}

// unfinished returns the id of the run to resume, "" for a new one.
func (w *workshop) unfinished() string {
	run, ok := w.run()
	if !ok {
		return ""
	}
	return run.ID
}

func (w *workshop) mustBe(want ended) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.ended()); diff != "" {
		w.t.Errorf("the killed run (-left alone +killed):\n%s", diff)
	}
}
