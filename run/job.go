// Package run makes a training run from a job: it opens the data, builds the model,
// joins the group of ranks, restores a checkpoint, records the run in the store,
// trains, and finishes. [Train] reads in that order.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/distributed"
	"github.com/koala-lm/koala-lm/distributed/environment"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
)

// A Job is a training run to make: new, resumed, forked or initialised from weights.
// Paths are absolute.
type Job struct {
	Data     string           // dataset folder
	Settings configs.Settings // resolved; the recorded ones of a run to resume

	Store string // SQLite file that records the run
	Runs  string // folder of the runs' folders, for checkpoints
	Name  string
	Tags  []string
	Note  string

	// At most one of these is not empty.
	Resume string // id of the run to continue
	Fork   string // id of the run whose weights to start from
	Init   string // file or folder of weights to start from

	Device  string // auto, cpu, cuda or cuda:N
	Threads int    // threads of one operator; 0 is libtorch's choice
	Ranks   distributed.Options

	Build   string   // version of koala-lm, for the record
	Command []string // command line, for the record

	Quiet  bool
	Stdout io.Writer // FindLR prints its result here
	Stderr io.Writer // progress and warnings
}

// Train makes the run, and returns when it has ended. Its error wraps
// lm.ErrInterrupted if ctx ended it: the run is then saved and can be resumed.
func Train(ctx context.Context, job Job) error {
	dataset, err := data.Open(job.Data)
	if err != nil {
		return err
	}
	return UntilBuilt(ctx, func(built func()) error {
		defer dataset.Close()
		return torch.Main(job.threads(), func() error { return job.train(ctx, dataset, built) })
	})
}

func (job Job) train(ctx context.Context, dataset *data.Dataset, built func()) (err error) {
	group, err := distributed.Open(ctx, job.Ranks)
	if err != nil {
		return err
	}
	defer func() { err = group.Leave(err) }()
	if !group.Leads() {
		job.Stderr = io.Discard
	}

	device, err := group.Device(job.Device)
	if err != nil {
		return err
	}
	var precision string
	job.Settings, precision = SettlePrecision(job.Settings, dataset.Vocab(), device)
	trainer, err := newTrainer(job.Settings, dataset, device, group.Shard())
	if err != nil {
		return err
	}
	defer closeTrainer(trainer)
	built()
	trainer.Group = group

	from, err := job.restore(trainer, dataset)
	if err != nil {
		return err
	}
	defer from.close()

	invariants, err := job.invariants(trainer, dataset, from)
	if err != nil {
		return err
	}
	if err := group.Join(ctx, invariants, device); err != nil {
		return err
	}
	if !group.Leads() {
		return trainer.Run(ctx)
	}

	recording, err := job.record(ctx, trainer, dataset, from, precision)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, recording.close()) }()
	return recording.finish(ctx, trainer.Run(ctx))
}

// buildGrace is the time that building a model has to end after an interruption.
const buildGrace = 500 * time.Millisecond

// UntilBuilt runs work and returns its error. A large model takes seconds to build,
// and libtorch cannot be interrupted meanwhile. So if ctx ends before work has
// called built, UntilBuilt returns without waiting for it: nothing is lost if the
// process ends now.
func UntilBuilt(ctx context.Context, work func(built func()) error) error {
	done, built := make(chan error, 1), make(chan struct{})
	go func() { done <- work(sync.OnceFunc(func() { close(built) })) }()
	var late <-chan time.Time
	for interrupted := ctx.Done(); ; interrupted = nil {
		select {
		case err := <-done:
			return err
		case <-built:
			return <-done
		case <-interrupted:
			late = time.After(buildGrace)
		case <-late:
			return context.Cause(ctx)
		}
	}
}

// threads returns the number of threads of one operator in this rank.
func (job Job) threads() int {
	local := job.Ranks.NProc
	if job.Ranks.Rank != nil {
		local = job.Ranks.Rank.LocalWorldSize
	}
	return environment.Threads(job.Threads, local)
}

// invariants are the values that must be the same in all ranks for their steps to be
// the same.
func (job Job) invariants(trainer *lm.Trainer, dataset *data.Dataset, from start) ([]distributed.Invariant, error) {
	if trainer.Group.Size() == 1 {
		return nil, nil // no other rank to compare a checksum of all weights with
	}
	weights, err := lm.Checksum(trainer.Model)
	if err != nil {
		return nil, err
	}
	kind := trainer.Device.Name
	if trainer.Device == gotch.CPU {
		kind = "a CPU with " + torch.CPUCapability()
	}
	all := []distributed.Invariant{
		{Name: "koala-lm", Value: job.Build}, {Name: "libtorch", Value: torch.LibtorchVersion()},
		{Name: "the device", Value: kind}, {Name: "the dataset's fingerprint", Value: dataset.Fingerprint()},
	}
	for _, kv := range job.Settings.Flat() {
		all = append(all, distributed.Invariant{Name: kv.Key, Value: fmt.Sprint(kv.Value)})
	}
	return append(all,
		distributed.Invariant{Name: "the step to continue after", Value: fmt.Sprint(from.step())},
		distributed.Invariant{Name: "the checksum of the weights to start from", Value: fmt.Sprintf("%08x", weights)},
	), nil
}
