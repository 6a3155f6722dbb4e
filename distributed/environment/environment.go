// Package environment finds which rank of a distributed job a process is, from the
// environment variables of torchrun, Slurm or koala-lm's own launcher. It needs no
// libtorch.
package environment

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// A Rank is one process of a distributed job, in torchrun's words. The zero value is
// a process that trains alone.
type Rank struct {
	Rank           int    `json:"rank"`       // from 0
	WorldSize      int    `json:"size"`       // number of ranks; 0 and 1 mean a process alone
	LocalRank      int    `json:"local"`      // among the ranks of this host
	LocalWorldSize int    `json:"local_size"` // number of ranks of this host, 0 if unknown
	MasterAddr     string `json:"host"`       // host of rank 0, which serves c10d's store
	MasterPort     int    `json:"port"`
	AgentStore     bool   `json:"served,omitempty"` // the launcher serves the store, not rank 0
	Prefix         string `json:"prefix,omitempty"` // put before the keys in the store
	RendezvousFile string `json:"file,omitempty"`   // where rank 0 publishes the store's port and, without MasterAddr, its host
}

// Size is the number of ranks, at least 1.
func (r *Rank) Size() int {
	if r == nil {
		return 1
	}
	return max(1, r.WorldSize)
}

// Leads reports whether this is rank 0, which keeps the run.
func (r *Rank) Leads() bool { return r == nil || r.Rank == 0 }

// SecretVariable names the environment variable that holds the secret of a job. All
// ranks of a job have the same secret. Without one, any process that knows the
// address of the job's store can join.
const SecretVariable = "KOALA_LM_RANK_SECRET"

// Threads is the number of threads that one of localRanks ranks of a host may use:
// the requested number if it is not 0, else the rank's part of the host's cores if
// several ranks share them, else 0, which leaves the choice to libtorch.
func Threads(requested, localRanks int) int {
	if requested > 0 || localRanks < 2 || os.Getenv("OMP_NUM_THREADS") != "" {
		return requested
	}
	return max(1, runtime.NumCPU()/localRanks)
}

// FromVariables returns the rank that torchrun or srun gave this process, nil if it
// was started alone. With a rendezvous file the variables need not name a host or a
// port.
func FromVariables(getenv func(string) string, rendezvousFile string) (*Rank, error) {
	e := variables{getenv: getenv}
	var r *Rank
	switch {
	case getenv("RANK") != "" && getenv("WORLD_SIZE") != "":
		r = e.torchrun()
	case getenv("SLURM_PROCID") != "" && e.inStep():
		r = e.slurm()
	case rendezvousFile != "":
		return nil, fmt.Errorf("a rendezvous file needs processes that know their rank: set RANK and WORLD_SIZE, or start them with srun")
	default:
		return nil, nil
	}
	if e.err != nil {
		return nil, e.err
	}
	if r.WorldSize == 1 {
		return nil, nil
	}
	if rendezvousFile != "" {
		r.meetAt(rendezvousFile, getenv("MASTER_ADDR"))
	}
	return r, r.check()
}

// meetAt replaces the store's address from the environment. MASTER_ADDR alone names
// the host of rank 0: Slurm's list says only where rank 0 ought to be.
func (r *Rank) meetAt(file, masterAddr string) {
	r.RendezvousFile, r.MasterAddr, r.MasterPort, r.AgentStore, r.Prefix = file, masterAddr, 0, false, ""
}

func (r *Rank) check() error {
	switch {
	case r.WorldSize < 1 || r.Rank < 0 || r.Rank >= r.WorldSize:
		return fmt.Errorf("rank %d of %d processes: ranks are from 0 to one less than the world size", r.Rank, r.WorldSize)
	case r.RendezvousFile != "":
		return nil
	case r.MasterAddr == "":
		return fmt.Errorf("MASTER_ADDR is not set: set it to the host of rank 0")
	case r.MasterPort < 1 || r.MasterPort > 65535:
		return fmt.Errorf("MASTER_PORT is %d: set it to a free port of MASTER_ADDR, 1 to 65535", r.MasterPort)
	}
	return nil
}

// variables reads environment variables and keeps the first error.
type variables struct {
	getenv func(string) string
	err    error
}

// number returns a variable's value, or otherwise if it is not set.
func (e *variables) number(name string, otherwise int) int {
	text := e.getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if (err != nil || n < 0) && e.err == nil {
		e.err = fmt.Errorf("%s is %q: it must be a whole number of at least 0", name, text)
	}
	return n
}

// torchrun reads RANK and the other variables of torchrun, which Kubeflow's
// PyTorchJob and users also set. Its agent may serve the store; the workers' keys
// then have a prefix that changes with each restart.
func (e *variables) torchrun() *Rank {
	r := &Rank{
		Rank: e.number("RANK", 0), WorldSize: e.number("WORLD_SIZE", 1),
		LocalRank: e.number("LOCAL_RANK", 0), LocalWorldSize: e.number("LOCAL_WORLD_SIZE", 0),
		MasterAddr: e.getenv("MASTER_ADDR"), MasterPort: e.number("MASTER_PORT", defaultPort),
		AgentStore: e.getenv("TORCHELASTIC_USE_AGENT_STORE") == "True",
	}
	if r.AgentStore {
		r.Prefix = "/koala-lm/attempt_" + strconv.Itoa(e.number("TORCHELASTIC_RESTART_COUNT", 0))
	}
	return r
}

// defaultPort is c10d's default.
const defaultPort = 29500

// inStep reports whether srun started this process as one of several. The shell of a
// batch job or an allocation has a SLURM_PROCID too.
func (e *variables) inStep() bool {
	return e.getenv("SLURM_STEP_NUM_TASKS") != "" || e.getenv("SLURM_NTASKS") != "" && e.getenv("MASTER_ADDR") != ""
}

// slurm takes the first host of the step for rank 0's, unless MASTER_ADDR names
// another. The port follows from the job, so that two jobs do not meet.
func (e *variables) slurm() *Rank {
	r := &Rank{
		Rank: e.number("SLURM_PROCID", 0), WorldSize: e.number("SLURM_STEP_NUM_TASKS", e.number("SLURM_NTASKS", 1)),
		LocalRank: e.number("SLURM_LOCALID", 0), LocalWorldSize: firstCount(e.getenv("SLURM_STEP_TASKS_PER_NODE")),
		MasterAddr: e.getenv("MASTER_ADDR"),
		MasterPort: e.number("MASTER_PORT", 20000+e.number("SLURM_JOB_ID", 0)%10000+e.number("SLURM_STEP_ID", 0)%1000),
	}
	if r.MasterAddr == "" {
		list := e.getenv("SLURM_STEP_NODELIST")
		if list == "" {
			list = e.getenv("SLURM_JOB_NODELIST")
		}
		r.MasterAddr = firstHost(list)
	}
	return r
}

// firstHost returns the first of Slurm's list of hosts: node[03-05,9],other is
// node03.
func firstHost(list string) string {
	open := strings.IndexByte(list, '[')
	if comma := strings.IndexByte(list, ','); comma >= 0 && (open < 0 || comma < open) {
		return list[:comma]
	}
	if open < 0 {
		return list
	}
	inner, after, _ := strings.Cut(list[open+1:], "]")
	first, _, _ := strings.Cut(inner, ",")
	first, _, _ = strings.Cut(first, "-")
	if comma := strings.IndexByte(after, ','); comma >= 0 {
		after = after[:comma]
	}
	return firstHost(list[:open] + first + after)
}

// firstCount returns the number of tasks of each host from Slurm's list, 4(x2) is 4,
// or 0 if hosts have different numbers.
func firstCount(counts string) int {
	if strings.Contains(counts, ",") {
		return 0
	}
	text, _, _ := strings.Cut(counts, "(")
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}
