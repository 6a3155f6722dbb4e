package main

import (
	"database/sql"
	"flag"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/tracking"
)

var (
	torture = flag.Bool("torture", false, "make every fault, kill 200 processes and pause 50 in place of a few")
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

// A process is paused until it counts as crashed, a second process takes its run over,
// and the first continues. One of them writes: the second ends as an undisturbed run
// does, with all files, and the first says who trains the run.
func TestTakenOverAnywhere(t *testing.T) {
	rounds := 2
	if *torture {
		rounds = 50
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s := long(t, "checkpoint.every=3")
	quiet := newWorkshop(t)
	quiet.train(quiet.request(s, "")).mustEnd(t, exit.OK)
	want := quiet.ended()
	for round := range rounds {
		w := quiet.another(t)
		first := w.train(w.request(s, ""))
		w.awaitCheckpoints(1 + r.IntN(2))
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		run, _ := w.run()
		for {
			pause(t, first.Process.Pid)
			err := w.seemsDead(run.ID)
			if err == nil {
				break
			}
			// The pause interrupted a transaction, whose lock keeps others out.
			if err := first.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		}
		run, _ = w.run()
		second := w.train(w.request(s, run.ID))
		took := time.Now()
		for { // until it has the lease, or a little longer
			if resumed, _ := w.run(); len(resumed.Events) > len(run.Events) || time.Since(took) > time.Minute {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if err := first.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if code := first.code(t); code != exit.Failed || !strings.Contains(first.stderr.String(), tracking.ErrTakenOver.Error()) {
			t.Errorf("round %d: the first ended with exit code %d and said:\n%s", round, code, &first.stderr)
		}
		second.mustEnd(t, exit.OK)
		w.mustBe(want)
		if partial, err := filepath.Glob(filepath.Join(w.checkpoints(run.ID), ".*")); err != nil || len(partial) > 0 {
			t.Errorf("round %d: unfinished files are left: %v, %v", round, partial, err)
		}
	}
}

// pause stops a process, and returns when it has stopped.
func pause(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("process %d has not stopped: %v, %v", pid, status, err)
	}
}

// seemsDead gives a run the look that a run on another host has after a long silence.
func (w *workshop) seemsDead(id string) error {
	db, err := sql.Open("sqlite3", "file:"+w.store+"?_busy_timeout=300")
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec(`UPDATE runs SET host = 'elsewhere', heartbeat = '2001-01-01T00:00:00.000Z' WHERE id = ?`, id)
	return err
}
