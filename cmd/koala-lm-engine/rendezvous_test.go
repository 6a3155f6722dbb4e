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
	"github.com/koala-lm/koala-lm/internal/ranks"
	"github.com/koala-lm/koala-lm/internal/torch"
)

// meeting starts a rank that knows of the others by a file alone.
func (w *workshop) meeting(s configs.Settings, file string, rank, size int, patience time.Duration) *process {
	w.t.Helper()
	r := w.request(s, "")
	r.RankTimeout = patience
	r.Place = &ranks.Place{Rank: rank, Size: size, File: file}
	p := w.train(r)
	w.t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// awaitOther returns once a rendezvous file holds another meeting than this.
func awaitOther(t *testing.T, file, id string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if m, err := ranks.ReadMeeting(file); err == nil && m.ID != id {
			return
		}
	}
	t.Fatalf("nobody has come to %s", file)
}

// TestRanksMeetAtFile: whoever comes first, and whatever an earlier run left.
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
		left := ranks.Meeting{ID: "left", Hosts: []string{"no-such-host.invalid", "127.0.0.1"}, Port: other.Port()}
		if err := left.Announce(file); err != nil {
			t.Fatal(err)
		}
		early := w.meeting(alike(t), file, first, 2, 30*time.Second)
		if first == 0 {
			awaitOther(t, file, left.ID)
		} else {
			time.Sleep(time.Second) // in which it looks in vain
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
		if said := p.stderr.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, file+" is something else") {
			t.Errorf("rank %d said:\n%s", rank, said)
		}
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != text {
		t.Errorf("the file now holds %q (%v)", now, err)
	}
}

// TestTwoRunsAtOneFile: the second is refused, and leaves the first its file.
func TestTwoRunsAtOneFile(t *testing.T) {
	t.Parallel() // it waits more than it computes
	w := newWorkshop(t)
	file := filepath.Join(t.TempDir(), "rendezvous")
	first := w.meeting(alike(t), file, 0, 2, 30*time.Second)
	awaitOther(t, file, "")
	second := w.meeting(alike(t), file, 0, 2, 30*time.Second)
	second.mustEnd(t, exit.Failed)
	if said := second.stderr.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, file+" is another run's, whose rank 0 is on ") {
		t.Errorf("it said:\n%s", said)
	}
	if _, err := ranks.ReadMeeting(file); err != nil {
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
	for rank, want := range []string{"rank 1 of 2 has not come", "no rank 0 has come to " + file + ": rank 1 has waited for rank 0 for 1s"} {
		p := w.meeting(alike(t), file, rank, 2, time.Second)
		p.mustEnd(t, exit.Failed)
		if said := p.stderr.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, want) {
			t.Errorf("rank %d said:\n%s\nwant %q", rank, said, want)
		}
	}
	waiting := w.meeting(alike(t), file, 1, 2, 30*time.Second)
	time.Sleep(time.Second)
	if err := waiting.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	waiting.mustEnd(t, exit.Interrupted)
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) > 0 {
		t.Errorf("%v is left (%v)", entries, err)
	}
}
