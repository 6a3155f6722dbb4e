package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/distributed"
	"github.com/koala-lm/koala-lm/distributed/environment"
	"github.com/koala-lm/koala-lm/internal/torch"
)

// meeting starts a rank that finds the others only by a rendezvous file.
func (w *workshop) meeting(s configs.Settings, file string, rank, size int, patience time.Duration) *process {
	w.t.Helper()
	r := w.request(s, "")
	r.RankTimeout, r.Quiet = patience, false
	r.Place = &environment.Rank{Rank: rank, WorldSize: size, RendezvousFile: file}
	p := w.train(r)
	w.t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// lastLine is the last line that a process has written: its error.
func (p *process) lastLine() string {
	lines := strings.Split(strings.TrimSuffix(p.stderr.String(), "\n"), "\n")
	return lines[len(lines)-1]
}

// awaitOther returns once a rendezvous file holds another rendezvous than this
// one.
func awaitOther(t *testing.T, file, id string) {
	t.Helper()
	await(t, "another rank 0's rendezvous in "+file, func() bool {
		m, err := distributed.ReadRendezvous(file)
		return err == nil && m.ID != id
	})
}

// TestRanksMeetAtFile: the ranks may start in any order, and an earlier run may
// have left a file.
func TestRanksMeetAtFile(t *testing.T) {
	alone := trainedAlone(t)
	other, err := torch.OpenKVStore(nil, torch.KVStoreOptions{Host: "127.0.0.1", Serve: true, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for first, who := range []string{"rank 0 first", "rank 0 last"} {
		w := alone.another(t)
		file := filepath.Join(t.TempDir(), "rendezvous")
		// A rank 0 that was killed left its file, and its port to another run.
		left := distributed.Rendezvous{ID: "left", Hosts: []string{"no-such-host.invalid", "127.0.0.1"}, Port: other.Port()}
		if err := left.Publish(file); err != nil {
			t.Fatal(err)
		}
		early := w.meeting(alike(t), file, first, 2, 30*time.Second)
		if first == 0 {
			awaitOther(t, file, left.ID)
		} else {
			early.await(t, "waiting: cannot reach rank 0 at no-such-host.invalid")
		}
		late := w.meeting(alike(t), file, 1-first, 2, 30*time.Second)
		early.mustEnd(t, exit.OK)
		late.mustEnd(t, exit.OK)
		sameLosses(t, who, alone, w)
		if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) > 0 {
			t.Errorf("%s: %v is left (%v)", who, entries, err)
		}
	}
}

func TestFileThatIsNoRendezvous(t *testing.T) {
	t.Parallel() // it waits more than it computes
	w := newWorkshop(t)
	file := filepath.Join(t.TempDir(), "thesis.txt")
	const text = "Chapter 1\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for rank := range 2 {
		p := w.meeting(alike(t), file, rank, 2, 30*time.Second)
		p.mustEnd(t, exit.Failed)
		if said := p.lastLine(); !strings.Contains(said, file+" is not a rendezvous file") {
			t.Errorf("rank %d said:\n%s", rank, said)
		}
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != text {
		t.Errorf("the file now holds %q (%v)", now, err)
	}
}

// TestTwoRunsAtOneFile: the second run fails, and does not change the first
// run's file.
func TestTwoRunsAtOneFile(t *testing.T) {
	t.Parallel() // it waits more than it computes
	w := newWorkshop(t)
	file := filepath.Join(t.TempDir(), "rendezvous")
	first := w.meeting(alike(t), file, 0, 2, 30*time.Second)
	awaitOther(t, file, "")
	second := w.meeting(alike(t), file, 0, 2, 30*time.Second)
	second.mustEnd(t, exit.Failed)
	if said := second.lastLine(); !strings.Contains(said, file+" belongs to another run, whose rank 0 is on ") {
		t.Errorf("it said:\n%s", said)
	}
	if _, err := distributed.ReadRendezvous(file); err != nil {
		t.Error(err)
	}
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	first.mustEnd(t, exit.Interrupted)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the file is left: %v", err)
	}
}

func TestNobodyComesToFile(t *testing.T) {
	t.Parallel() // it waits more than it computes
	w := newWorkshop(t)
	file := filepath.Join(t.TempDir(), "rendezvous")
	for rank, want := range []string{"rank 1 of 2 did not join", "rank 0 has not written " + file + ": rank 1 waited 1s for rank 0"} {
		p := w.meeting(alike(t), file, rank, 2, time.Second)
		p.mustEnd(t, exit.Failed)
		if said := p.lastLine(); !strings.Contains(said, want) {
			t.Errorf("rank %d said:\n%s\nwant %q", rank, said, want)
		}
	}
	waiting := w.meeting(alike(t), file, 1, 2, 30*time.Second)
	waiting.await(t, "waiting: rank 0 has not written "+file)
	if err := waiting.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	waiting.mustEnd(t, exit.Interrupted)
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) > 0 {
		t.Errorf("%v is left (%v)", entries, err)
	}
}
