package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/koala-lm/koala-lm/sweep"
	"github.com/koala-lm/koala-lm/tracking"
)

// sweeper trains the trials of a sweep, each in a `koala-lm train` of its own,
// so that one that fails or is killed harms no other.
type sweeper struct {
	app     *app
	file    *sweep.File
	trials  []sweep.Trial
	compute computeFlags
	data    string
	dataset string // fingerprint of data
	store   string
	runs    string
	program string // koala-lm
	jobs    int
	retry   bool

	mu     sync.Mutex
	ended  int // trials that ended now
	failed []string
}

// where selects the sweep's runs.
func (s *sweeper) where() string { return fmt.Sprintf("'%s' in tags", s.tag()) }

func (s *sweeper) tag() string { return "sweep:" + s.file.Name }

// known is the newest run of each trial that has one, by trial.
func (s *sweeper) known(ctx context.Context) (map[string]tracking.RunSummary, error) {
	store, err := openStore(s.store)
	if errors.Is(err, tracking.ErrNoStore) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer store.Close()
	runs, err := store.Runs(ctx, tracking.Query{Where: s.where()})
	if err != nil {
		return nil, err
	}
	known := map[string]tracking.RunSummary{}
	for _, run := range runs {
		for _, tag := range run.Tags {
			id, ok := strings.CutPrefix(tag, "trial:")
			if ok && !known[id].Started.After(run.Started) {
				known[id] = run
			}
		}
	}
	return known, nil
}

// trainAll trains the trials, and then the best again where the file asks for it.
func (s *sweeper) trainAll(ctx context.Context) error {
	if err := s.train(ctx, s.trials); err != nil {
		return err
	}
	known, err := s.known(ctx)
	if err != nil {
		return err
	}
	repeats, err := s.repeats(known)
	if err != nil || len(repeats) == 0 {
		return err
	}
	s.app.notef("sweep %s: the best of each search again, with further seeds", s.file.Name)
	return s.train(ctx, repeats)
}

// repeats are the trials that repeat the best ones of those that are known.
func (s *sweeper) repeats(known map[string]tracking.RunSummary) ([]sweep.Trial, error) {
	return s.file.Repeats(s.dataset, func(trial string) (float64, bool) {
		run := known[trial]
		ppl, ok := run.Metrics["val_ppl"]
		return ppl.Best, ok && run.Status == tracking.Finished && !math.IsNaN(ppl.Best)
	})
}

// train runs what is not done yet.
func (s *sweeper) train(ctx context.Context, trials []sweep.Trial) error {
	known, err := s.known(ctx)
	if err != nil {
		return err
	}
	s.ended = 0
	var pending []sweep.Trial
	for _, trial := range trials {
		if run, ok := known[trial.ID]; !ok || !s.done(run) {
			pending = append(pending, trial)
		}
	}
	s.app.notef("sweep %s: %d trials, %d done before, %d to run", s.file.Name, len(trials), len(trials)-len(pending), len(pending))
	sweep.Run(ctx, pending, s.jobs, func(ctx context.Context, trial sweep.Trial) {
		start := time.Now()
		var err error
		run, old := known[trial.ID]
		if old {
			run, err = s.await(ctx, trial, run)
		}
		if err == nil && !(old && s.done(run)) {
			err = s.trainOne(ctx, trial, run.ID, old && run.Status != tracking.Failed)
		}
		if ctx.Err() == nil {
			s.tell(ctx, trial, len(pending), time.Since(start), err)
		}
	})
	return context.Cause(ctx)
}

// done says that a run leaves nothing to train of its trial.
func (s *sweeper) done(run tracking.RunSummary) bool {
	return run.Status == tracking.Finished || run.Status == tracking.Failed && !s.retry
}

// await returns a trial's run once no process trains it: one that was started
// by a sweep that was killed goes on.
func (s *sweeper) await(ctx context.Context, trial sweep.Trial, run tracking.RunSummary) (tracking.RunSummary, error) {
	if run.Status == tracking.Running {
		s.app.notef("%s: run %s goes on as process %d on %s: waiting for it", trial.Label, run.ID, run.PID, run.Host)
	}
	for run.Status == tracking.Running {
		select {
		case <-ctx.Done():
			return run, context.Cause(ctx)
		case <-time.After(time.Second):
		}
		detail, err := findRun(ctx, s.store, run.ID)
		if err != nil {
			return run, err
		}
		run = detail.RunSummary
	}
	return run, nil
}

// trainOne trains one trial to its end, its messages going to its log.
func (s *sweeper) trainOne(ctx context.Context, trial sweep.Trial, run string, resume bool) error {
	log, err := os.OpenFile(filepath.Join(s.folder(), trial.ID+".log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	defer log.Close()
	args := s.arguments(trial)
	if resume {
		args = []string{"train", "--resume", run}
	}
	args = append(args, "--store", s.store, "--runs", s.runs)
	if s.compute.device != "auto" {
		args = append(args, "--device", s.compute.device)
	}
	if s.compute.threads > 0 {
		args = append(args, "--threads", strconv.Itoa(s.compute.threads))
	}
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	// A group of its own keeps a terminal's Ctrl-C from the child: it gets one
	// from here, and a second would end it at once. It also outlives a sweep
	// that is killed, and the next one waits for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s (%s)", lastLine(log), log.Name())
	}
	return err
}

func (s *sweeper) arguments(trial sweep.Trial) []string {
	name := s.file.Name
	for _, part := range []string{trial.Search, trial.Label} {
		if part != "" {
			name += " " + part
		}
	}
	args := []string{"train", "--data", s.data, "--name", name, "--tag", s.tag(), "--tag", "trial:" + trial.ID}
	if trial.Search != "" {
		args = append(args, "--tag", "search:"+trial.Search)
	}
	for _, config := range s.file.Configs {
		args = append(args, "--config", config)
	}
	for _, assignment := range trial.Set {
		args = append(args, "--set", assignment)
	}
	return args
}

// diverged is what the engine says where a run's loss was no number for long. Of a
// search over learning rates that is a result, and no failure of the sweep.
const diverged = "training diverged"

// tell says how a trial ended.
func (s *sweeper) tell(ctx context.Context, trial sweep.Trial, pending int, took time.Duration, err error) {
	result := s.result(ctx, trial)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended++
	outcome := "finished" + result
	if err != nil {
		outcome = "failed: " + err.Error()
		if !strings.Contains(err.Error(), diverged) {
			s.failed = append(s.failed, trial.Label)
		}
	}
	s.app.notef("%d/%d  %s  %v  %s", s.ended, pending, trial.Label, took.Round(time.Second), outcome)
}

// result is what the trial's run reached, to be told; nothing if it cannot be
// read.
func (s *sweeper) result(ctx context.Context, trial sweep.Trial) string {
	known, err := s.known(ctx)
	best, ok := known[trial.ID].Metrics["val_ppl"]
	if err != nil || !ok {
		return ""
	}
	return fmt.Sprintf(", val_ppl %.4g", best.Best)
}

// failure is an error if a trial failed.
func (s *sweeper) failure() error {
	if len(s.failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of the sweep's trials failed: %s", len(s.failed), strings.Join(s.failed, "; "))
}

// lastLine is the last line with anything on it, of a log's last 4 KiB.
func lastLine(log *os.File) string {
	const tail = 4 << 10
	info, err := log.Stat()
	if err != nil {
		return "failed"
	}
	text := make([]byte, min(tail, info.Size()))
	if _, err := log.ReadAt(text, info.Size()-int64(len(text))); err != nil {
		return "failed"
	}
	text = bytes.TrimSpace(text)
	text = text[bytes.LastIndexAny(text, "\n\r")+1:]
	if len(text) == 0 {
		return "failed without a word"
	}
	return strings.TrimPrefix(string(text), "koala-lm: ")
}
