package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/distributed/environment"
)

// ranksFlags choose the number of processes that train together. Processes of
// torchrun or srun read it from their environment.
type ranksFlags struct {
	nproc   int
	timeout time.Duration
	file    string            // for a rendezvous
	place   *environment.Rank // nil for a process that was started alone
}

// defaultRankTimeout is long enough for hosts that start one after another, and
// for the slowest part of a run that one rank does alone: writing a checkpoint.
const defaultRankTimeout = 5 * time.Minute

func (f *ranksFlags) add(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.nproc, "nproc", 1, "`number` of processes to start on this machine, each on its shard of train.batch")
	cmd.Flags().DurationVar(&f.timeout, "rank-timeout", defaultRankTimeout, "`timeout` for a rank to join or make progress")
	cmd.Flags().StringVar(&f.file, "rendezvous-file", "", "`file` on a disk that all hosts share, by which ranks find rank 0 without MASTER_ADDR and MASTER_PORT")
}

// check finds the process's rank and refuses flags that contradict it.
func (f *ranksFlags) check(findLR bool) error {
	if f.nproc < 1 || f.nproc > 1024 {
		return usagef("--nproc must be from 1 to 1024, not %d", f.nproc)
	}
	if f.timeout < time.Second {
		return usagef("--rank-timeout must be at least 1s, not %v", f.timeout)
	}
	if f.file != "" && f.nproc > 1 {
		return usagef("--rendezvous-file is for processes that another program starts: drop it, or --nproc")
	}
	file, err := absolute(f.file)
	if err != nil {
		return err
	}
	if f.place, err = environment.FromVariables(os.Getenv, file); err != nil {
		return &usageError{err}
	}
	if f.place != nil && f.nproc > 1 {
		return usagef("this process is already rank %d of %d (RANK, WORLD_SIZE): drop --nproc or unset them", f.place.Rank, f.place.WorldSize)
	}
	if findLR && (f.place != nil || f.nproc > 1) {
		return usagef("--find-lr runs in one process: drop --nproc, or unset RANK and WORLD_SIZE")
	}
	return nil
}

// put writes the ranks into a request, whose batch must have a text for each.
func (f *ranksFlags) put(r *request.Train) error {
	r.Place, r.RankTimeout = f.place, f.timeout
	if f.nproc > 1 {
		r.NProc = f.nproc
	}
	if f.file != "" {
		if _, err := os.Stat(filepath.Dir(f.file)); err != nil { // otherwise the other ranks would wait until the timeout
			return fmt.Errorf("--rendezvous-file %s: %w", f.file, err)
		}
	}
	if n, batch := r.Ranks(), r.Settings.Train.Batch; n > batch {
		return fmt.Errorf("train.batch is %d: it cannot be sharded over %d processes, each needs at least one text", batch, n)
	}
	return nil
}
