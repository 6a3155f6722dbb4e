package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/distributed"
	"github.com/koala-lm/koala-lm/distributed/environment"
	"github.com/koala-lm/koala-lm/internal/visible"
	"github.com/koala-lm/koala-lm/run"
)

// train makes the training run, or the learning-rate range test, of a request.
func train(ctx context.Context, text string, stdout, stderr io.Writer) error {
	var r request.Train
	if err := request.Parse(text, &r); err != nil {
		return err
	}
	job := newJob(r, stdout, stderr)
	if r.FindLR {
		return run.FindLR(ctx, job)
	}
	return run.Train(ctx, job)
}

func newJob(r request.Train, stdout, stderr io.Writer) run.Job {
	secret := os.Getenv(environment.SecretVariable)
	return run.Job{
		Data: r.Data, Settings: r.Settings,
		Store: r.Store, Runs: r.Runs, Name: r.Name, Tags: r.Tags, Note: r.Note,
		Resume: r.Resume, Fork: r.Fork, Init: r.Init,
		Device: string(r.Device), Threads: r.Threads,
		Ranks: distributed.Options{
			Rank: r.Place, NProc: r.NProc, Timeout: r.RankTimeout, Secret: secret,
			Waiting: func(reason error) {
				if !r.Quiet {
					visible.Fprintf(stderr, "koala-lm: waiting: %v\n", reason)
				}
			},
			Start: func(rank environment.Rank) (*exec.Cmd, error) { return rankCommand(r, rank, stderr) },
		},
		Build: r.Build, Command: r.Command,
		Quiet: r.Quiet, Stdout: stdout, Stderr: stderr,
	}
}

// rankCommand returns the command that runs this program with the same request as
// another rank. The rank gets the secret by its environment.
func rankCommand(r request.Train, rank environment.Rank, stderr io.Writer) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	r.NProc, r.Place = 0, &rank
	text, err := request.Encode(&r)
	if err != nil {
		return nil, err
	}
	c := exec.Command(self, "train", text)
	c.Stderr = stderr
	return c, nil
}
