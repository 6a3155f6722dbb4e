package main

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/ranks"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
)

// A team is the processes that train together, as one of them sees it: c10d's
// store, where they meet, the circle, which says who is there, and the group, which
// adds up. Nil is a process alone.
type team struct {
	place   ranks.Place
	timeout time.Duration
	meeting ranks.Meeting // of rank 0 with a rendezvous file
	store   *torch.KVStore
	circle  *ranks.Circle // nil before join
	group   *torch.ProcessGroup
	local   *fleet // the ranks that this one started
}

var _ lm.ProcessGroup = (*team)(nil)

// newTeam finds this process's place. Rank 0 serves the store, and starts the
// others if it was told to.
func newTeam(ctx context.Context, r request.Train, stderr io.Writer) (*team, error) {
	t := &team{timeout: r.RankTimeout}
	switch {
	case r.NProc > 1:
		t.place = ranks.Place{Size: r.NProc, LocalSize: r.NProc, Host: "127.0.0.1"}
	case r.Place != nil:
		t.place = *r.Place
	default:
		return nil, nil
	}
	if t.place.Rank > 0 {
		return t, nil
	}
	if t.place.File != "" {
		t.meeting = ranks.NewMeeting(t.place.Host)
		t.place.Host, t.place.Prefix = "127.0.0.1", t.meeting.ID
	}
	if err := t.openStore(ctx, !t.place.Served); err != nil {
		return nil, err
	}
	t.place.Port = t.store.Port()
	if r.NProc > 1 {
		var err error
		if t.local, err = startFleet(ctx, r, t.place, stderr); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// leads says whether this process keeps the run: the store, the checkpoints and
// the progress are rank 0's.
func (t *team) leads() bool { return t == nil || t.place.Rank == 0 }

// share is the part of every batch that is this process's.
func (t *team) share() []data.BatchOption {
	if t == nil {
		return nil
	}
	return []data.BatchOption{data.Shard(t.place.Rank, t.place.Size)}
}

// device is this process's own of a host's.
func (t *team) device(name string) (gotch.Device, error) {
	d, err := torch.ParseDevice(name)
	if t == nil || err != nil || d.Name != "CUDA" {
		return d, err
	}
	return torch.ParseDevice("cuda:" + strconv.Itoa(t.place.Local))
}

// threads is what each of a host's ranks may use, if nobody says.
func threads(r request.Train) int {
	local := r.NProc
	if r.Place != nil {
		local = r.Place.LocalSize
	}
	if r.Threads > 0 || local < 2 || os.Getenv("OMP_NUM_THREADS") != "" {
		return r.Threads
	}
	return max(1, runtime.NumCPU()/local)
}

// join waits for all ranks to come with the same work, and connects them.
func (t *team) join(ctx context.Context, facts []ranks.Fact, device gotch.Device) (err error) {
	if t.place.Rank == 0 {
		err = t.lead(ctx, facts)
	} else {
		err = t.follow(ctx, facts)
	}
	if err != nil {
		return err
	}
	t.group, err = torch.OpenProcessGroup(t.circle.Lost(), t.store, torch.ProcessGroupOptions{
		Rank: t.place.Rank, Size: t.place.Size, Device: device, Address: t.circle.Address, Timeout: t.timeout,
	})
	if err != nil {
		return t.circle.Cause(err)
	}
	return nil
}

// Rank, Size and Sum are lm's Group.
func (t *team) Rank() int { return t.place.Rank }
func (t *team) Size() int { return t.place.Size }

func (t *team) AllReduce(tensors ...*ts.Tensor) error {
	t.circle.Summing()
	if err := t.group.AllReduce(t.circle.Lost(), tensors...); err != nil {
		return t.circle.Cause(err)
	}
	return nil
}

// NewReducer is lm's ProcessGroup's too. All-reduces overlap with backward where they
// wait for a network or a device; ranks that share the cores of one host would only
// take them from backward.
func (t *team) NewReducer(params []*ts.Tensor) (lm.Reducer, error) {
	r, err := t.group.NewReducer(params, t.group.CUDA() || t.circle.Hosts > 1)
	if err != nil {
		return nil, err
	}
	return reducer{r, t}, nil
}

// reducer names the rank that an all-reduce misses.
type reducer struct {
	*torch.Reducer
	team *team
}

func (r reducer) Finish(numbers []float64) ([]float64, error) {
	r.team.circle.Summing()
	sums, err := r.Reducer.Finish(r.team.circle.Lost(), numbers)
	if err != nil {
		return nil, r.team.circle.Cause(err)
	}
	return sums, nil
}

// parting is how long the ranks that rank 0 started have to end by themselves when
// all is over.
const parting = 3 * time.Second

// leave ends this process's part, with what it came to.
func (t *team) leave(err error) error {
	if t == nil {
		return err
	}
	switch {
	case t.circle == nil:
		t.local.kill()
	case err == nil:
		err = t.circle.Leave(nil)
	case errors.Is(err, lm.ErrInterrupted):
		_ = t.circle.Leave(nil) // a loss changes nothing any more
	default:
		err = t.circle.Leave(err)
	}
	t.local.wait(parting)
	var lost *ranks.LostError
	if err != nil && t.place.Local > 0 && (t.circle != nil || errors.As(err, &lost)) {
		return saidElsewhere{err}
	}
	return err
}

// saidElsewhere is an error that another rank on this host prints.
type saidElsewhere struct{ error }

func (e saidElsewhere) Unwrap() error { return e.error }
