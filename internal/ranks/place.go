package ranks

import (
	"fmt"
	"strconv"
	"strings"
)

// A Place is that of one process among those that train together.
type Place struct {
	Rank      int    `json:"rank"`       // from 0
	Size      int    `json:"size"`       // how many there are
	Local     int    `json:"local"`      // rank among those of this host
	LocalSize int    `json:"local_size"` // how many of them there are, 0 if that is not known
	Host      string `json:"host"`       // where c10d's store is, which is where rank 0 runs
	Port      int    `json:"port"`
	Served    bool   `json:"served,omitempty"` // the store is the launcher's, not rank 0's
	Prefix    string `json:"prefix,omitempty"` // of keys in the store
	File      string `json:"file,omitempty"`   // where rank 0 tells the port and, without Host, the host: a Meeting
}

// Leads says whether this is rank 0.
func (p *Place) Leads() bool { return p == nil || p.Rank == 0 }

// FromEnvironment returns the place that torchrun or srun gave this process, nil
// if it was started alone. With a rendezvous file (a [Meeting]) neither a port nor
// a host need be known.
func FromEnvironment(getenv func(string) string, file string) (*Place, error) {
	e := environment{getenv: getenv}
	var p *Place
	switch {
	case getenv("RANK") != "" && getenv("WORLD_SIZE") != "":
		p = e.torchrun()
	case getenv("SLURM_PROCID") != "" && e.inStep():
		p = e.slurm()
	case file != "":
		return nil, fmt.Errorf("a rendezvous file is for processes that know their rank: set RANK and WORLD_SIZE, or start them with srun")
	default:
		return nil, nil
	}
	if e.err != nil {
		return nil, e.err
	}
	if p.Size == 1 {
		return nil, nil
	}
	if file != "" {
		p.meetAt(file, getenv("MASTER_ADDR"))
	}
	return p, p.check()
}

// meetAt forgets what the environment says of a store. The host is that of rank 0
// if somebody said so: Slurm's list tells only where rank 0 ought to be.
func (p *Place) meetAt(file, host string) {
	p.File, p.Host, p.Port, p.Served, p.Prefix = file, host, 0, false, ""
}

func (p *Place) check() error {
	switch {
	case p.Size < 1 || p.Rank < 0 || p.Rank >= p.Size:
		return fmt.Errorf("rank %d of %d processes: ranks are from 0 to one less than the size", p.Rank, p.Size)
	case p.File != "":
		return nil
	case p.Host == "":
		return fmt.Errorf("MASTER_ADDR is not set: it is the host of rank 0")
	case p.Port < 1 || p.Port > 65535:
		return fmt.Errorf("MASTER_PORT is %d: it is a free port on MASTER_ADDR, 1 to 65535", p.Port)
	}
	return nil
}

// environment reads variables and keeps the first error.
type environment struct {
	getenv func(string) string
	err    error
}

// number reads a variable, or returns otherwise where it is not set.
func (e *environment) number(name string, otherwise int) int {
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

// torchrun sets RANK and its sisters, as do Kubeflow's PyTorchJob and people. Its
// agent may serve the store; the workers' keys are then below a prefix that a
// restart changes.
func (e *environment) torchrun() *Place {
	p := &Place{
		Rank: e.number("RANK", 0), Size: e.number("WORLD_SIZE", 1),
		Local: e.number("LOCAL_RANK", 0), LocalSize: e.number("LOCAL_WORLD_SIZE", 0),
		Host: e.getenv("MASTER_ADDR"), Port: e.number("MASTER_PORT", defaultPort),
		Served: e.getenv("TORCHELASTIC_USE_AGENT_STORE") == "True",
	}
	if p.Served {
		p.Prefix = "/koala-lm/attempt_" + strconv.Itoa(e.number("TORCHELASTIC_RESTART_COUNT", 0))
	}
	return p
}

// defaultPort is c10d's.
const defaultPort = 29500

// inStep says whether srun started this process as one of several. The shell of a
// batch job or an allocation has a SLURM_PROCID too.
func (e *environment) inStep() bool {
	return e.getenv("SLURM_STEP_NUM_TASKS") != "" || e.getenv("SLURM_NTASKS") != "" && e.getenv("MASTER_ADDR") != ""
}

// slurm: the first host of the step's has rank 0, unless MASTER_ADDR says
// otherwise; the port follows from the job, so that two jobs do not meet.
func (e *environment) slurm() *Place {
	p := &Place{
		Rank: e.number("SLURM_PROCID", 0), Size: e.number("SLURM_STEP_NUM_TASKS", e.number("SLURM_NTASKS", 1)),
		Local: e.number("SLURM_LOCALID", 0), LocalSize: firstCount(e.getenv("SLURM_STEP_TASKS_PER_NODE")),
		Host: e.getenv("MASTER_ADDR"),
		Port: e.number("MASTER_PORT", 20000+e.number("SLURM_JOB_ID", 0)%10000+e.number("SLURM_STEP_ID", 0)%1000),
	}
	if p.Host == "" {
		list := e.getenv("SLURM_STEP_NODELIST")
		if list == "" {
			list = e.getenv("SLURM_JOB_NODELIST")
		}
		p.Host = firstHost(list)
	}
	return p
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

// firstCount returns the first of Slurm's counts of tasks, 4(x2),3 is 4, if all
// hosts have as many; else 0.
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
