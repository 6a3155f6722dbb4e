package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/distributed/environment"
	"github.com/koala-lm/koala-lm/tracking"
)

var severalHosts = flag.Bool("hosts", false, "train on several hosts, each a network namespace: needs root, ip and unshare")

// A network is hosts on one machine: namespaces joined by veth to a bridge in one
// of their own.
type network struct {
	t      *testing.T
	prefix string
}

// newNetwork makes hosts 0 and up at 10.77.0.1 and up.
func newNetwork(t *testing.T, hosts int) *network {
	n := &network{t, fmt.Sprintf("koala-lm-%d-", os.Getpid())}
	n.add("switch")
	n.run("switch", "ip", "link", "add", "bridge0", "type", "bridge")
	n.run("switch", "ip", "link", "set", "bridge0", "up")
	for i := range hosts {
		host, port := fmt.Sprintf("host%d", i), fmt.Sprintf("port%d", i)
		n.add(host)
		n.run("switch", "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", n.prefix+host)
		n.run("switch", "ip", "link", "set", port, "master", "bridge0", "up")
		n.run(host, "ip", "address", "add", fmt.Sprintf("10.77.0.%d/24", i+1), "dev", "eth0")
		n.run(host, "ip", "link", "set", "eth0", "up")
		n.run(host, "ip", "link", "set", "lo", "up")
	}
	return n
}

func (n *network) add(name string) {
	n.t.Helper()
	if out, err := exec.Command("ip", "netns", "add", n.prefix+name).CombinedOutput(); err != nil {
		n.t.Fatalf("network namespaces cannot be made here (as root, with ip?): %v: %s", err, out)
	}
	n.t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", n.prefix+name).Run() })
}

// run runs a command on a host.
func (n *network) run(host string, command ...string) {
	n.t.Helper()
	args := append([]string{"netns", "exec", n.prefix + host}, command...)
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
}

// train starts a rank on each host, under the host's name, which nobody resolves.
// They find rank 0 by its address, or by a file.
func (n *network) train(w *workshop, r func() *request.Train, hosts int, file string) []*process {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	var all []*process
	for i := range hosts {
		req := r()
		req.RankTimeout = 3 * time.Second
		req.Place = &environment.Rank{Rank: i, WorldSize: hosts, MasterAddr: "10.77.0.1", MasterPort: 29500}
		if file != "" {
			req.Place = &environment.Rank{Rank: i, WorldSize: hosts, RendezvousFile: file}
		}
		text, err := request.Encode(req)
		if err != nil {
			n.t.Fatal(err)
		}
		// ip and unshare exec what they start: the process is the rank's.
		p := &process{Cmd: exec.Command("ip", "netns", "exec", fmt.Sprintf("%shost%d", n.prefix, i),
			"unshare", "--uts", "sh", "-c", `hostname "$0" && exec "$@"`, fmt.Sprintf("host%d", i), self, "train", text)}
		p.Env = append(os.Environ(), engineVariable+"=1")
		p.Stderr = &p.stderr
		if err := p.Start(); err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { _ = p.Process.Kill() })
		all = append(all, p)
	}
	return all
}

// TestHosts: ranks on three hosts get the same result as a single process. When one
// host's cable is pulled, all ranks end in time and name that rank, and the run can be
// resumed.
func TestHosts(t *testing.T) {
	if !*severalHosts {
		t.Skip("needs root: make test-hosts")
	}
	const hosts = 3
	s := alike(t)
	alone := trainedAlone(t)
	n := newNetwork(t, hosts)

	whole := alone.another(t)
	for i, p := range n.train(whole, func() *request.Train { return whole.request(s, "") }, hosts, "") {
		if code := p.code(t); code != exit.OK {
			t.Fatalf("host%d: exit code %d; it said:\n%s", i, code, &p.stderr)
		}
	}
	sameLosses(t, "three hosts", alone, whole)

	for cut := range hosts {
		w := alone.another(t)
		all := n.train(w, func() *request.Train { return w.request(s, "") }, hosts, "")
		w.awaitStep(40)
		n.run("switch", "ip", "link", "set", fmt.Sprintf("port%d", cut), "down")
		started := time.Now()
		for i, p := range all {
			p.mustEnd(t, exit.Failed)
			said := p.stderr.String()
			t.Logf("host%d cut off: after %v host%d says: %s", cut, time.Since(started).Round(100*time.Millisecond), i, strings.TrimSpace(said))
			// The rank that is cut off reports rank 0 as silent, as all ranks do if rank
			// 0 is cut off.
			silent := fmt.Sprintf("host%d", cut)
			if i == cut {
				silent = ""
			}
			if !strings.Contains(said, "has not been heard of for 3s") || silent != "" && !strings.Contains(said, "on "+silent+")") {
				t.Errorf("host%d cut off: host%d says\n%s", cut, i, said)
			}
		}
		if took := time.Since(started); took > 15*time.Second {
			t.Errorf("host%d cut off: the last rank ended after %v", cut, took)
		}
		n.run("switch", "ip", "link", "set", fmt.Sprintf("port%d", cut), "up")
		run, _ := w.run()
		if run.Status != tracking.Failed {
			t.Errorf("host%d cut off: the run is %s", cut, run.Status)
		}
		file := filepath.Join(w.runs, "rendezvous")
		for i, p := range n.train(w, func() *request.Train { return w.request(s, run.ID) }, hosts, file) {
			if code := p.code(t); code != exit.OK {
				t.Fatalf("host%d, resumed: exit code %d; it said:\n%s", i, code, strings.TrimSpace(p.stderr.String()))
			}
		}
		sameLosses(t, "cut off and resumed", alone, w)
	}
}
