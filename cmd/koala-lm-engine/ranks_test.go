package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/distributed/environment"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/tracking"
)

// alike are settings whose result is the same with any number of ranks. They have
// no dropout, which each rank draws separately.
func alike(t testing.TB, set ...string) configs.Settings {
	t.Helper()
	return settings(t, append([]string{
		"model.dropout.input=0", "model.dropout.embed=0", "model.dropout.hidden=0", "model.dropout.output=0",
		"optimizer.kind=sgd", "optimizer.lr=0.5", "train.steps=300", "eval.every=60", "checkpoint.every=20",
	}, set...)...)
}

// alone is a workshop in which one process has trained with the settings alike.
var alone struct {
	sync.Mutex
	*workshop
}

func trainedAlone(t *testing.T) *workshop {
	t.Helper()
	alone.Lock()
	defer alone.Unlock()
	if alone.workshop == nil {
		folder, err := os.MkdirTemp("", "koala-lm-engine-")
		if err != nil {
			t.Fatal(err)
		}
		atEnd = append(atEnd, folder)
		w := newWorkshopIn(t, folder)
		w.train(w.request(alike(t), "")).mustEnd(t, exit.OK)
		alone.workshop = w
	}
	return &workshop{t, alone.data, alone.store, alone.runs}
}

// local asks for ranks that rank 0 starts.
func (w *workshop) local(s configs.Settings, resume string, nproc int) *request.Train {
	r := w.request(s, resume)
	r.RankTimeout = 30 * time.Second
	if nproc > 1 {
		r.NProc = nproc
	}
	return r
}

// placed starts the ranks like a launcher that serves c10d's store itself. change
// may change each rank's request.
func (w *workshop) placed(s configs.Settings, resume string, size int, change func(rank int, r *request.Train)) []*process {
	w.t.Helper()
	store, err := torch.OpenKVStore(nil, torch.KVStoreOptions{Host: "127.0.0.1", Serve: true, Timeout: time.Minute})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(store.Close)
	var all []*process
	for rank := range size {
		all = append(all, w.rank(s, resume, environment.Rank{Rank: rank, WorldSize: size, MasterAddr: "127.0.0.1", MasterPort: store.Port(), AgentStore: true}, change))
	}
	return all
}

// rank starts one rank, and changes its request before.
func (w *workshop) rank(s configs.Settings, resume string, rank environment.Rank, change func(rank int, r *request.Train)) *process {
	w.t.Helper()
	r := w.request(s, resume)
	r.RankTimeout = 30 * time.Second
	r.Place = &rank
	if change != nil {
		change(rank.Rank, r)
	}
	p := w.train(r)
	w.t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// losses are a run's metrics of a name by step.
func (w *workshop) losses(ref, name string) map[string]float64 {
	w.t.Helper()
	run, ok := w.find(ref)
	if !ok {
		w.t.Fatalf("there is no run %s", ref)
	}
	values := map[string]float64{}
	for _, line := range w.metrics(run.ID) {
		key, value, _ := strings.Cut(line, " = ")
		if strings.HasPrefix(key, name+" at") {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				w.t.Fatal(err)
			}
			values[key] = v
		}
	}
	return values
}

// sameLosses checks that two runs have the same losses.
func sameLosses(t *testing.T, who string, want, got *workshop) {
	t.Helper()
	for _, name := range []string{"train_loss", "val_loss", "test_loss"} {
		a, b := want.losses("latest", name), got.losses("latest", name)
		if len(a) == 0 || len(a) != len(b) {
			t.Errorf("%s: %d values of %s, want %d", who, len(b), name, len(a))
		}
		for at, v := range a {
			if !(math.Abs(v-b[at]) <= 1e-5) {
				t.Errorf("%s: %s is %v, want %v", who, at, b[at], v)
			}
		}
	}
}

func TestRanksAreAsOne(t *testing.T) {
	s := alike(t)
	alone := trainedAlone(t)
	started := alone.another(t)
	started.train(started.local(s, "", 2)).mustEnd(t, exit.OK)
	sameLosses(t, "--nproc 2", alone, started)
	launched := alone.another(t)
	for _, p := range launched.placed(s, "", 4, nil) {
		p.mustEnd(t, exit.OK)
	}
	sameLosses(t, "4 ranks of a launcher", alone, launched)
	if runs, err := filepath.Glob(filepath.Join(launched.runs, "*")); err != nil || len(runs) != 1 {
		t.Errorf("4 ranks left the runs %v, %v", runs, err)
	}
}

// TestRanksOfMatrices: kinds that step along whole matrices have the same losses on 1
// and 2 ranks. (lm's TestRanksTrainAsOne has every kind.)
func TestRanksOfMatrices(t *testing.T) {
	for kind, lr := range map[string]string{"koala-k": "0.1", "muon": "0.001"} {
		s := alike(t, "optimizer.kind="+kind, "optimizer.lr="+lr, "train.steps=40", "eval.every=20")
		alone := newWorkshop(t)
		alone.train(alone.request(s, "")).mustEnd(t, exit.OK)
		both := alone.another(t)
		both.train(both.local(s, "", 2)).mustEnd(t, exit.OK)
		sameLosses(t, kind, alone, both)
	}
}

// TestRanksGoOnInAnotherNumber: a run starts with 2 ranks, resumes with 1, and
// finishes with 4. Its result equals an undisturbed single process's.
func TestRanksGoOnInAnotherNumber(t *testing.T) {
	s := alike(t)
	alone := trainedAlone(t)
	w := alone.another(t)
	run := tracking.RunDetail{}
	for _, nproc := range []int{2, 1} {
		p := w.train(w.local(s, run.ID, nproc))
		w.awaitStep(run.Steps + 20)
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.mustEnd(t, exit.Interrupted)
		run, _ = w.run()
		if run.Status != tracking.Interrupted || strings.Count(p.stderr.String(), "\n") != 1 {
			t.Fatalf("--nproc %d: the run is %s; it said:\n%s", nproc, run.Status, &p.stderr)
		}
	}
	w.train(w.local(s, run.ID, 4)).mustEnd(t, exit.OK)
	sameLosses(t, "2, 1 and 4 ranks", alone, w)
}

// awaitStep returns once a checkpoint of that step or a later one exists.
func (w *workshop) awaitStep(step int64) {
	w.t.Helper()
	await(w.t, fmt.Sprintf("a checkpoint of step %d", step), func() bool { return w.saved("*") >= step })
}

// saved is the step of the newest checkpoint of a run, or of any run for "*"; -1 if
// there is none.
func (w *workshop) saved(id string) int64 {
	newest := int64(-1)
	found, _ := filepath.Glob(filepath.Join(w.checkpoints(id), "step-*"))
	for _, path := range found {
		var step int64
		if _, err := fmt.Sscanf(filepath.Base(path), "step-%d", &step); err == nil {
			newest = max(newest, step)
		}
	}
	return newest
}

// children are the processes that a process has started.
func children(t *testing.T, parent int) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		if parentOf(pid) == parent {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// parentOf returns 0 for a process that has ended, waited for or not.
func parentOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if fields[0] == "Z" {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// gone waits for processes to end.
func gone(t *testing.T, pids []int) {
	t.Helper()
	await(t, fmt.Sprintf("the end of processes %v", pids), func() bool {
		return !slices.ContainsFunc(pids, func(pid int) bool { return parentOf(pid) != 0 })
	})
}

// TestRanksOfOneMachine: nobody outside reaches the ranks that one process starts:
// whatever they listen at is a loopback address.
func TestRanksOfOneMachine(t *testing.T) {
	w := newWorkshop(t)
	p := w.train(w.local(alike(t, "train.steps=100000"), "", 2))
	w.awaitStep(10)
	listening := 0
	for _, pid := range append(children(t, p.Process.Pid), p.Process.Pid) {
		for _, address := range listensAt(t, pid) {
			listening++
			if !address.Addr().Unmap().IsLoopback() {
				t.Errorf("process %d listens at %s", pid, address)
			}
		}
	}
	if listening == 0 {
		t.Error("no process listens, and the ranks speak to one another")
	}
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.mustEnd(t, exit.Interrupted)
}

// listensAt are the TCP addresses at which a process listens (proc(5), /proc/net/tcp).
func listensAt(t *testing.T, pid int) []netip.AddrPort {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	var mine []string
	for _, link := range links {
		to, _ := os.Readlink(link) // it may be closed by now
		mine = append(mine, to)
	}
	var all []netip.AddrPort
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue // a kernel without IPv6
		}
		for _, line := range strings.Split(string(text), "\n") {
			f := strings.Fields(line)
			const listen = "0A"
			if len(f) < 10 || f[3] != listen || !slices.Contains(mine, "socket:["+f[9]+"]") {
				continue
			}
			host, port, _ := strings.Cut(f[1], ":")
			ip, err := hex.DecodeString(host)
			if err != nil {
				t.Fatal(err)
			}
			for word := range slices.Chunk(ip, 4) { // of the host's byte order
				binary.BigEndian.PutUint32(word, binary.NativeEndian.Uint32(word))
			}
			address, _ := netip.AddrFromSlice(ip)
			number, err := strconv.ParseUint(port, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, netip.AddrPortFrom(address, uint16(number)))
		}
	}
	return all
}

// TestLostRanks: if a rank fails in any way, the others end with a line that names
// it. The run then resumes from its last checkpoint with the same losses.
func TestLostRanks(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := alike(t)
	alone := trainedAlone(t)
	for what, test := range map[string]struct {
		signal syscall.Signal
		want   string
	}{
		"killed":  {syscall.SIGKILL, "ended without a word"},
		"stopped": {syscall.SIGSTOP, "has not been heard of for 3s"},
	} {
		t.Run(what, func(t *testing.T) {
			w := alone.another(t)
			r := w.local(s, "", 3)
			r.RankTimeout = 3 * time.Second
			p := w.train(r)
			w.awaitStep(40)
			pids := children(t, p.Process.Pid)
			if len(pids) != 2 {
				t.Fatalf("rank 0 has the children %v", pids)
			}
			if err := syscall.Kill(pids[1], test.signal); err != nil {
				t.Fatal(err)
			}
			p.mustEnd(t, exit.Failed)
			said := p.stderr.String()
			if want := fmt.Sprintf("(process %d on ", pids[1]); strings.Count(said, "\n") != 1 || !strings.Contains(said, want) || !strings.Contains(said, test.want) {
				t.Errorf("it said:\n%s\nwant one line with %q and %q", said, want, test.want)
			}
			gone(t, pids)
			run, _ := w.run()
			if run.Status != tracking.Failed || !strings.Contains(run.Reason, test.want) {
				t.Errorf("the run is %s: %s", run.Status, run.Reason)
			}
			w.train(w.local(s, run.ID, 2)).mustEnd(t, exit.OK)
			sameLosses(t, "resumed", alone, w)
		})
	}
}

func TestLostRankZero(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := alike(t, "train.steps=100000")
	t.Run("with those it started", func(t *testing.T) {
		w := newWorkshop(t)
		p := w.train(w.local(s, "", 3))
		w.awaitStep(10)
		pids := children(t, p.Process.Pid)
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		p.code(t)
		gone(t, pids)
	})
	t.Run("with others", func(t *testing.T) {
		w := newWorkshop(t)
		all := w.placed(s, "", 3, nil)
		w.awaitStep(10)
		if err := all[0].Process.Kill(); err != nil {
			t.Fatal(err)
		}
		all[0].code(t)
		for _, p := range all[1:] {
			p.mustEnd(t, exit.Failed)
			if said := p.stderr.String(); !strings.Contains(said, fmt.Sprintf("rank 0 (process %d on ", all[0].Process.Pid)) {
				t.Errorf("it said:\n%s", said)
			}
		}
	})
}

func TestRankThatNeverComes(t *testing.T) {
	t.Parallel() // it waits more than it computes
	w := newWorkshop(t)
	for absent, want := range []string{"no answer from rank 0 at 127.0.0.1:", "rank 1 of 3 did not join rank 0"} {
		t.Run(fmt.Sprintf("rank %d", absent), func(t *testing.T) {
			place := environment.Rank{WorldSize: 3, MasterAddr: "127.0.0.1", MasterPort: silentPort(t)}
			if absent > 0 {
				store, err := torch.OpenKVStore(nil, torch.KVStoreOptions{Host: "127.0.0.1", Serve: true, Timeout: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				place.MasterPort, place.AgentStore = store.Port(), true
			}
			var all []*process
			for rank := range 3 {
				if place.Rank = rank; rank != absent {
					all = append(all, w.rank(alike(t), "", place, func(rank int, r *request.Train) { r.RankTimeout = 3 * time.Second }))
				}
			}
			for _, p := range all {
				p.mustEnd(t, exit.Failed)
				if said := p.stderr.String(); !strings.Contains(said, want) {
					t.Errorf("it said:\n%s\nwant %q", said, want)
				}
			}
		})
	}
	if run, ok := w.run(); ok {
		t.Errorf("a run was started: %+v", run)
	}
}

// silentPort is a port of 127.0.0.1 that is taken and refuses connections.
func silentPort(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return bound.(*unix.SockaddrInet4).Port
}

func TestRanksWithOtherWork(t *testing.T) {
	t.Parallel() // it waits more than it computes
	w := newWorkshop(t)
	for want, change := range map[string]func(r *request.Train){
		"optimizer.lr is 0.25, not 0.5": func(r *request.Train) { r.Settings = alike(t, "optimizer.lr=0.25") },
		"koala-lm is other, not test":   func(r *request.Train) { r.Build = "other" },
		"the dataset's fingerprint":     func(r *request.Train) { r.Data = newWorkshopOf(t, 399).data },
	} {
		all := w.placed(alike(t), "", 2, func(rank int, r *request.Train) {
			if rank == 1 {
				change(r)
			}
		})
		for rank, p := range all {
			p.mustEnd(t, exit.Failed)
			if said := p.stderr.String(); !strings.Contains(said, "rank 1 (process ") || !strings.Contains(said, want) {
				t.Errorf("rank %d said:\n%s\nwant %q", rank, said, want)
			}
		}
	}
}

// TestFailureOfARankIsToldByAll: all ranks report an error of one rank.
func TestFailureOfARankIsToldByAll(t *testing.T) {
	w := newWorkshop(t)
	s := alike(t, "checkpoint.on_error=stop", "checkpoint.every=5")
	all := w.placed(s, "", 2, nil)
	w.awaitStep(10)
	run, _ := w.run()
	// A file replaces the folder: rank 0 would make a missing folder again.
	folder := w.checkpoints(run.ID)
	for n := 0; ; n++ {
		if err := os.Rename(folder, fmt.Sprint(folder, ".gone", n)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(folder, nil, 0o644); err == nil {
			break
		}
	}
	for rank, p := range all {
		p.mustEnd(t, exit.Failed)
		if said := p.stderr.String(); !strings.Contains(said, "checkpoint") || rank == 1 && !strings.Contains(said, "rank 0 (process") {
			t.Errorf("rank %d said:\n%s", rank, said)
		}
	}
}
