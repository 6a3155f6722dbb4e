package sweep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/koala-lm/koala-lm/tracking"
)

// Prefixes of the tags by which a run belongs to a sweep, a search and a trial.
const (
	NameTag   = "sweep:"
	SearchTag = "search:"
	TrialTag  = "trial:"
)

// A Runner trains the trials of a sweep, each in a process of its own: a trial
// that fails or is killed harms no other.
type Runner struct {
	File    *File
	Trials  []Trial
	Dataset string   // fingerprint of the dataset
	Store   string   // file
	Folder  string   // of the sweep: its lock, and a log for each trial
	Program string   // koala-lm
	Train   []string // arguments of `koala-lm train` for a new trial, such as --data
	Common  []string // further arguments, also of `koala-lm train --resume`
	Jobs    int      // trials at a time
	Retry   bool     // train failed trials again

	Notef func(format string, args ...any) // for messages

	mu     sync.Mutex
	ended  int // trials that ended in this call of train
	failed []string
}

// Where returns the filter that selects the sweep's runs.
func (r *Runner) Where() string { return fmt.Sprintf("'%s%s' in tags", NameTag, r.File.Name) }

// Run trains every trial that is not done, and then repeats the best point of each
// search with its best_seeds. Only one process can run a sweep at a time.
func (r *Runner) Run(ctx context.Context) error {
	unlock, err := lockFolder(r.Folder)
	if err != nil {
		return fmt.Errorf("sweep %s: %w", r.File.Name, err)
	}
	defer unlock()
	if err := r.train(ctx, r.Trials); err != nil {
		return err
	}
	known, err := r.Known(ctx)
	if err != nil {
		return err
	}
	repeats, err := r.Repeats(known)
	if err != nil || len(repeats) == 0 {
		return err
	}
	r.Notef("sweep %s: the best point of each search again, with further seeds", r.File.Name)
	return r.train(ctx, repeats)
}

// Failure returns an error that names the trials that failed, or nil.
func (r *Runner) Failure() error {
	if len(r.failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of the sweep's trials failed: %s", len(r.failed), strings.Join(r.failed, "; "))
}

// Known returns the newest run of each trial, by the trial's id.
func (r *Runner) Known(ctx context.Context) (map[string]tracking.RunSummary, error) {
	store, err := tracking.OpenCurrent(r.Store)
	if errors.Is(err, tracking.ErrNoStore) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer store.Close()
	runs, err := store.Runs(ctx, tracking.Query{Where: r.Where()})
	if err != nil {
		return nil, err
	}
	known := map[string]tracking.RunSummary{}
	for _, run := range runs {
		for _, tag := range run.Tags {
			id, ok := strings.CutPrefix(tag, TrialTag)
			if ok && !known[id].Started.After(run.Started) {
				known[id] = run
			}
		}
	}
	return known, nil
}

// Repeats returns the trials that repeat the best of the known ones.
func (r *Runner) Repeats(known map[string]tracking.RunSummary) ([]Trial, error) {
	return r.File.Repeats(r.Dataset, func(trial string) (float64, bool) {
		ppl, ok := known[trial].Metrics["val_ppl"]
		return ppl.Best, ok && known[trial].Status == tracking.Finished && ppl.Best == ppl.Best
	})
}

// Done reports whether a run leaves nothing to train of its trial.
func (r *Runner) Done(run tracking.RunSummary) bool {
	return run.Status == tracking.Finished || run.Status == tracking.Failed && !r.Retry
}

// train trains the trials that are not done.
func (r *Runner) train(ctx context.Context, trials []Trial) error {
	known, err := r.Known(ctx)
	if err != nil {
		return err
	}
	r.ended = 0
	var pending []Trial
	for _, trial := range trials {
		if run, ok := known[trial.ID]; !ok || !r.Done(run) {
			pending = append(pending, trial)
		}
	}
	r.Notef("sweep %s: %d trials, %d done before, %d to run", r.File.Name, len(trials), len(trials)-len(pending), len(pending))
	forEach(ctx, pending, r.Jobs, func(ctx context.Context, trial Trial) {
		start := time.Now()
		var err error
		run, old := known[trial.ID]
		if old {
			run, err = r.await(ctx, trial, run)
		}
		if err == nil && !(old && r.Done(run)) {
			err = r.trainOne(ctx, trial, run.ID, old && run.Status != tracking.Failed)
		}
		if ctx.Err() == nil {
			r.report(ctx, trial, len(pending), time.Since(start), err)
		}
	})
	return context.Cause(ctx)
}

// await waits until no process trains the run: a trial survives the sweep that
// started it.
func (r *Runner) await(ctx context.Context, trial Trial, run tracking.RunSummary) (tracking.RunSummary, error) {
	if run.Status != tracking.Running {
		return run, nil
	}
	r.Notef("%s: process %d on %s still trains run %s: waiting for it", trial.Label, run.PID, run.Host, run.ID)
	store, err := tracking.OpenCurrent(r.Store)
	if err != nil {
		return run, err
	}
	defer store.Close()
	for run.Status == tracking.Running {
		select {
		case <-ctx.Done():
			return run, context.Cause(ctx)
		case <-time.After(time.Second):
		}
		detail, err := store.Run(ctx, run.ID)
		if err != nil {
			return run, err
		}
		run = detail.RunSummary
	}
	return run, nil
}

// trainOne trains one trial to its end. Its output goes to the trial's log.
func (r *Runner) trainOne(ctx context.Context, trial Trial, run string, resume bool) error {
	log, err := os.OpenFile(filepath.Join(r.Folder, trial.ID+".log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	defer log.Close()
	args := r.arguments(trial)
	if resume {
		args = []string{"train", "--resume", run}
	}
	cmd := exec.CommandContext(ctx, r.Program, append(args, r.Common...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	// In a process group of its own the child does not get the terminal's Ctrl-C:
	// cmd.Cancel sends it one signal, and a second would end it at once. The child
	// also survives a sweep that is killed; the next sweep waits for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s (%s)", lastLine(log), log.Name())
	}
	return err
}

// arguments are those of `koala-lm train` for a new run of the trial.
func (r *Runner) arguments(trial Trial) []string {
	name := r.File.Name
	for _, part := range []string{trial.Search, trial.Label} {
		if part != "" {
			name += " " + part
		}
	}
	args := append([]string{"train"}, r.Train...)
	args = append(args, "--name", name, "--tag", NameTag+r.File.Name, "--tag", TrialTag+trial.ID)
	if trial.Search != "" {
		args = append(args, "--tag", SearchTag+trial.Search)
	}
	for _, config := range r.File.Configs {
		args = append(args, "--config", config)
	}
	for _, assignment := range trial.Set {
		args = append(args, "--set", assignment)
	}
	return args
}

// report prints how a trial ended. A trial that diverged is a result of the search,
// and no failure of the sweep.
func (r *Runner) report(ctx context.Context, trial Trial, pending int, took time.Duration, err error) {
	reached := ""
	if known, err := r.Known(ctx); err == nil {
		if ppl, ok := known[trial.ID].Metrics["val_ppl"]; ok {
			reached = fmt.Sprintf(", val_ppl %.4g", ppl.Best)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended++
	outcome := "finished" + reached
	if err != nil {
		outcome = "failed: " + err.Error()
		if !strings.Contains(err.Error(), tracking.DivergedReason) {
			r.failed = append(r.failed, trial.Label)
		}
	}
	r.Notef("%d/%d  %s  %v  %s", r.ended, pending, trial.Label, took.Round(time.Second), outcome)
}

// forEach calls work for the trials in their order, at most jobs at a time, until
// ctx ends. It returns when every call has returned.
func forEach(ctx context.Context, trials []Trial, jobs int, work func(context.Context, Trial)) {
	next := make(chan Trial)
	var workers sync.WaitGroup
	for range min(jobs, len(trials)) {
		workers.Go(func() {
			for trial := range next {
				if ctx.Err() == nil {
					work(ctx, trial)
				}
			}
		})
	}
	defer workers.Wait()
	defer close(next)
	for _, trial := range trials {
		select {
		case <-ctx.Done():
			return
		case next <- trial:
		}
	}
}

// lastLine returns the last line with text in the last 4 KiB of a log.
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
		return "failed without a message"
	}
	return strings.TrimPrefix(string(text), "koala-lm: ")
}

// lockFolder makes a folder and locks it for this process. The lock ends with the
// process, however that ends.
func lockFolder(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.New("another process works on it")
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f.Close, nil
}
