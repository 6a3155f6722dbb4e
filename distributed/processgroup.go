// Package distributed trains one model with several processes, in PyTorch's words: a
// launcher starts the ranks of a host, a rendezvous gives them rank 0's address, a
// membership checks that all are alive and have the same settings and data, and a
// process group all-reduces their gradients. A process alone is a group of one.
//
// The membership is plain TCP beside c10d's all-reduces: an all-reduce that does not
// end shows only that a rank is missing; the membership reports which rank and why.
package distributed

import (
	"context"
	"crypto/rand"
	"errors"
	"os/exec"
	"strconv"
	"time"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/distributed/environment"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
)

// Options say which rank of a job this process is.
type Options struct {
	// Rank is this process, as the environment says; nil is a process alone, or rank
	// 0 of NProc ranks on this host.
	Rank  *environment.Rank
	NProc int

	// Timeout bounds how long a rank waits for another one to join, or to reach an
	// all-reduce.
	Timeout time.Duration

	// Secret is the job's secret, the same in all ranks. Without one, the ranks of
	// NProc get a random one.
	Secret string

	// Start makes the command that runs another rank of NProc. The command gets the
	// secret as environment.SecretVariable.
	Start func(environment.Rank) (*exec.Cmd, error)

	// Waiting, if it is not nil, is called once with the reason why this rank has to
	// wait for rank 0.
	Waiting func(reason error)
}

// A ProcessGroup is the ranks of a job as one of them sees it.
type ProcessGroup struct {
	rank    environment.Rank
	timeout time.Duration
	secret  string
	waiting func(error)

	file       Rendezvous // rank 0's rendezvous file, if there is one
	store      *torch.KVStore
	membership *Membership // nil before Join, and for a process alone
	children   *launcher   // nil if this process has started no ranks
	comm       lm.ProcessGroup
}

var _ lm.ProcessGroup = (*ProcessGroup)(nil)

// Open finds this process's rank. Rank 0 serves the store, and starts the other
// ranks of NProc. Call Leave in any case, and Join before the first step.
func Open(ctx context.Context, o Options) (*ProcessGroup, error) {
	g := &ProcessGroup{timeout: o.Timeout, secret: o.Secret, waiting: o.Waiting, comm: lm.SingleProcess{}}
	switch {
	case o.NProc > 1:
		g.rank = environment.Rank{WorldSize: o.NProc, LocalWorldSize: o.NProc, MasterAddr: "127.0.0.1"}
	case o.Rank != nil:
		g.rank = *o.Rank
	}
	if g.Size() == 1 || g.rank.Rank > 0 {
		return g, nil
	}
	if g.rank.RendezvousFile != "" {
		g.file = NewRendezvous(g.rank.MasterAddr)
		// The name makes c10d serve the store at every address; a loopback address
		// would not.
		g.rank.MasterAddr, g.rank.Prefix = "localhost", g.file.ID
	}
	if err := g.openStore(ctx, !g.rank.AgentStore); err != nil {
		return nil, err
	}
	g.rank.MasterPort = g.store.Port()
	if o.NProc > 1 {
		if g.secret == "" {
			g.secret = rand.Text()
		}
		var err error
		g.children, err = launch(ctx, o.NProc, func(rank int) (*exec.Cmd, error) {
			r := g.rank
			r.Rank, r.LocalRank = rank, rank
			c, err := o.Start(r)
			if err == nil {
				c.Env = append(c.Environ(), environment.SecretVariable+"="+g.secret)
			}
			return c, err
		})
		if err != nil {
			return nil, err
		}
	}
	return g, nil
}

// Rank is this process's number, from 0.
func (g *ProcessGroup) Rank() int { return g.rank.Rank }

// Size is the number of ranks.
func (g *ProcessGroup) Size() int { return g.rank.Size() }

// Leads reports whether this is rank 0, which keeps the run: it alone writes the store
// and checkpoints, and shows progress.
func (g *ProcessGroup) Leads() bool { return g.rank.Leads() }

// Shard makes batches hold this rank's shard of each global batch.
func (g *ProcessGroup) Shard() data.BatchOption { return data.Shard(g.Rank(), g.Size()) }

// Device returns the device of that name; "cuda" and "auto" select this rank's own
// CUDA device on the host.
func (g *ProcessGroup) Device(name string) (gotch.Device, error) {
	d, err := torch.ParseDevice(name)
	if g.Size() == 1 || err != nil || d.Name != "CUDA" {
		return d, err
	}
	return torch.ParseDevice("cuda:" + strconv.Itoa(g.rank.LocalRank))
}

// Join waits until all ranks have joined with the same invariants, and connects
// them.
func (g *ProcessGroup) Join(ctx context.Context, invariants []Invariant, device gotch.Device) (err error) {
	if g.Size() == 1 {
		return nil
	}
	if g.Leads() {
		err = g.lead(ctx, invariants)
	} else {
		err = g.follow(ctx, invariants)
	}
	if err != nil {
		return err
	}
	group, err := torch.OpenProcessGroup(g.membership.Failed(), g.store, torch.ProcessGroupOptions{
		Rank: g.Rank(), Size: g.Size(), Device: device, Address: g.membership.Address, Timeout: g.timeout,
	})
	if err != nil {
		return g.membership.Cause(err)
	}
	g.comm = watched{group, g.membership}
	return nil
}

// AllReduce replaces each tensor by its sum over the ranks.
func (g *ProcessGroup) AllReduce(tensors ...*ts.Tensor) error { return g.comm.AllReduce(tensors...) }

// NewReducer makes a reducer of the gradients of params.
func (g *ProcessGroup) NewReducer(params []*ts.Tensor) (lm.Reducer, error) {
	return g.comm.NewReducer(params)
}

// shutdownGrace is the time that the ranks started by rank 0 have to end by
// themselves.
const shutdownGrace = 3 * time.Second

// Leave ends this rank's work, with err if it failed, and returns the error of the
// job. An error that another rank of this host prints is a ReportedError.
func (g *ProcessGroup) Leave(err error) error {
	switch {
	case g.membership == nil:
		g.children.kill()
	case err == nil:
		err = g.membership.Leave(nil)
	case errors.Is(err, lm.ErrInterrupted):
		_ = g.membership.Leave(nil) // a failure now changes nothing
	default:
		err = g.membership.Leave(err)
	}
	g.children.wait(shutdownGrace)
	var failed *RankError
	if err != nil && g.rank.LocalRank > 0 && (g.membership != nil || errors.As(err, &failed)) {
		return ReportedError{err}
	}
	return err
}

// A ReportedError is an error that another rank of this host prints.
type ReportedError struct{ Err error }

func (e ReportedError) Error() string { return e.Err.Error() }
func (e ReportedError) Unwrap() error { return e.Err }

// watched is c10d's process group, whose errors name the rank that failed.
type watched struct {
	*torch.ProcessGroup
	membership *Membership
}

func (w watched) AllReduce(tensors ...*ts.Tensor) error {
	w.membership.ReachedAllReduce()
	if err := w.ProcessGroup.AllReduce(w.membership.Failed(), tensors...); err != nil {
		return w.membership.Cause(err)
	}
	return nil
}

// NewReducer overlaps all-reduces with backward if they wait for a network or a
// device. Between ranks that share one host's cores, an all-reduce would only take
// cores from backward.
func (w watched) NewReducer(params []*ts.Tensor) (lm.Reducer, error) {
	r, err := w.ProcessGroup.NewReducer(params, w.CUDA() || w.membership.Hosts > 1)
	if err != nil {
		return nil, err
	}
	return watchedReducer{r, w.membership}, nil
}

type watchedReducer struct {
	*torch.Reducer
	membership *Membership
}

func (r watchedReducer) Finish(numbers []float64) ([]float64, error) {
	r.membership.ReachedAllReduce()
	sums, err := r.Reducer.Finish(r.membership.Failed(), numbers)
	if err != nil {
		return nil, r.membership.Cause(err)
	}
	return sums, nil
}
