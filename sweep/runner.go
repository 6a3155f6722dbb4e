package sweep

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/koala-lm/koala-lm/tracking"
)

// Prefixes of the tags that assign a run to a sweep, a search and a trial.
const (
	NameTag    = "sweep:"
	SearchTag  = "search:"
	TrialTag   = "trial:"
	StoppedTag = "stopped:" // a StopRule ended the run
)

// A Runner trains the trials of a sweep, each in its own process, so that a trial
// that fails or is killed does not affect the others.
type Runner struct {
	File    *File
	Trials  []Trial
	Dataset tracking.Dataset
	Store   string   // file
	Folder  string   // of the sweep: its lock, and a log for each trial
	Program string   // koala-lm
	Train   []string // arguments of `koala-lm train` for a new trial, such as --data
	Common  []string // further arguments, also of `koala-lm train --resume`
	Jobs    int      // trials at a time
	Retry   bool     // train failed trials again
	MaxRuns int      // largest number of trials to start; 0: no limit

	Notef func(format string, args ...any) // for messages
	Watch func(Progress)                   // called every second while trials train; may be nil

	mu       sync.Mutex
	started  time.Time
	phase    time.Time // start of this call of train
	launched int       // trials started
	pending  int       // trials of this call of train
	ended    int       // trials of this call that ended
	running  map[string]*active
	failed   []string
	stoppers map[string]*stopper // by search, of those with a StopRule
	reader   *tracking.Store     // while trials are watched
}

// active is a trial in training.
type active struct {
	trial   Trial
	started time.Time
	stop    context.CancelCauseFunc
	step    int64
	share   float64 // of its training; NaN if unknown
	best    float64 // NaN before the first evaluation
}

// Progress is the state of a sweep.
type Progress struct {
	Name           string
	Ended, Pending int
	Share          float64       // of the training, with that of the running trials
	Left           time.Duration // estimated; 0 if unknown
	Running        []TrialProgress
}

// TrialProgress is the state of a trial that trains.
type TrialProgress struct {
	Label        string
	Step, Steps  int64   // Steps is 0 if unknown
	Share        float64 // of its training that is done; NaN if unknown
	Metric       string
	Best         float64 // NaN before the first evaluation
	TrainingTime time.Duration
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
	r.started = time.Now()
	if err := r.train(ctx, r.Trials, true); err != nil {
		return err
	}
	if err := r.promote(ctx); err != nil {
		return err
	}
	known, err := r.Known(ctx)
	if err != nil {
		return err
	}
	repeats, err := r.Repeats(known)
	if err != nil {
		return err
	}
	if len(repeats) > 0 {
		r.Notef("sweep %s: the best point of each search again, with further seeds", r.File.Name)
		if err := r.train(ctx, repeats, false); err != nil {
			return err
		}
		if known, err = r.Known(ctx); err != nil {
			return err
		}
	}
	r.Notef("sweep %s: %s", r.File.Name, summary(append(slices.Clip(r.Trials), repeats...), known))
	return nil
}

// summary counts how trials ended, and says which part of their training was done: the
// rest is what a StopRule saved.
func summary(trials []Trial, known map[string]tracking.RunSummary) string {
	count := map[string]int{}
	share := 0.0
	for _, trial := range trials {
		run, ok := known[trial.ID]
		if part := run.Share(); ok && !math.IsNaN(part) {
			share += part
		}
		if ok {
			count[State(run)]++
		} else {
			count["not started"]++
		}
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		parts = append(parts, fmt.Sprintf("%d %s", count[kind], kind))
	}
	return fmt.Sprintf("%s: %s; %.0f %% of the whole training", counted(len(trials)), strings.Join(parts, ", "), 100*share/float64(max(1, len(trials))))
}

// RunOne trains the trial with this index in Trials, as one of many processes on one
// or more machines. A trial can be trained by one process at a time.
func (r *Runner) RunOne(ctx context.Context, index int) error {
	trial := r.Trials[index]
	unlock, err := lockFolder(filepath.Join(r.Folder, trial.ID))
	if err != nil {
		return fmt.Errorf("trial %d (%s): %w", index, trial.ID, err)
	}
	defer unlock()
	r.started = time.Now()
	return r.train(ctx, []Trial{trial}, true)
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
	// Compare the trials' ids, so that a renamed sweep keeps its runs. A run of
	// another search stays in that search.
	runs, err := store.Runs(ctx, tracking.Query{Tags: r.trialTags()})
	if err != nil {
		return nil, err
	}
	tagged, err := store.Runs(ctx, tracking.Query{Where: r.Where()})
	if err != nil {
		return nil, err
	}
	search := map[string]string{}
	for _, trial := range r.Trials {
		search[TrialTag+trial.ID] = trial.Search
	}
	belongs := func(run tracking.RunSummary, tag string) bool {
		return slices.Contains(run.Tags, NameTag+r.File.Name) || searchOf(run) == search[tag]
	}
	known := map[string]tracking.RunSummary{}
	for _, run := range append(runs, tagged...) {
		for _, tag := range run.Tags {
			if !belongs(run, tag) {
				continue
			}
			id, ok := strings.CutPrefix(tag, TrialTag)
			if ok && !known[id].Started.After(run.Started) {
				known[id] = run
			}
		}
	}
	return known, nil
}

// searchOf returns the name of the search that a run belongs to, or "".
func searchOf(run tracking.RunSummary) string {
	for _, tag := range run.Tags {
		if name, ok := strings.CutPrefix(tag, SearchTag); ok {
			return name
		}
	}
	return ""
}

func (r *Runner) trialTags() []string {
	tags := make([]string, len(r.Trials))
	for i, trial := range r.Trials {
		tags[i] = TrialTag + trial.ID
	}
	return tags
}

// adopt tags the runs of the trials that were trained under another name of the sweep.
func (r *Runner) adopt(ctx context.Context, known map[string]tracking.RunSummary) error {
	var strangers []string
	for _, run := range known {
		if !slices.Contains(run.Tags, NameTag+r.File.Name) {
			strangers = append(strangers, run.ID)
		}
	}
	if len(strangers) == 0 {
		return nil
	}
	store, err := tracking.Open(r.Store)
	if err != nil {
		return err
	}
	defer store.Close()
	for _, id := range strangers {
		if err := store.Tag(ctx, id, []string{NameTag + r.File.Name}, nil); err != nil {
			return err
		}
	}
	r.Notef("sweep %s: %d runs of these trials belong to another sweep; they now belong to this one too", r.File.Name, len(strangers))
	return nil
}

// Repeats returns the trials that repeat the best of the known ones.
func (r *Runner) Repeats(known map[string]tracking.RunSummary) ([]Trial, error) {
	return r.File.Repeats(r.Dataset.Fingerprint, func(trial string) (float64, bool) {
		run := known[trial]
		result := run.Result(r.File.Metric)
		if r.File.Highest {
			result.Best = -result.Best
		}
		return result.Best, result.Outcome == tracking.Reached && run.Status == tracking.Finished
	})
}

// Done reports whether a run completes its trial.
func (r *Runner) Done(run tracking.RunSummary) bool {
	return run.Status == tracking.Finished || run.Status == tracking.Failed && !r.Retry || stopped(run)
}

// stopped reports whether a StopRule ended the run.
func stopped(run tracking.RunSummary) bool {
	return slices.ContainsFunc(run.Tags, func(tag string) bool { return strings.HasPrefix(tag, StoppedTag) })
}

// State is how a trial stands: the status of its run, or that a StopRule ended it.
func State(run tracking.RunSummary) string {
	if stopped(run) {
		return "stopped early"
	}
	return string(run.Status)
}

// train trains the trials that are not done. If stopping, each search's StopRule
// applies.
func (r *Runner) train(ctx context.Context, trials []Trial, stopping bool) error {
	known, err := r.Known(ctx)
	if err != nil {
		return err
	}
	if err := r.adopt(ctx, known); err != nil {
		return err
	}
	var pending []Trial
	for _, trial := range trials {
		if run, ok := known[trial.ID]; !ok || !r.Done(run) {
			pending = append(pending, trial)
		}
	}
	r.Notef("sweep %s: %s, %d done before, %d to run", r.File.Name, counted(len(trials)), len(trials)-len(pending), len(pending))
	r.mu.Lock()
	r.phase, r.pending, r.ended, r.running = time.Now(), len(pending), 0, map[string]*active{}
	r.mu.Unlock()
	finish, err := r.watch(ctx, known, stopping)
	if err != nil {
		return err
	}
	defer finish()
	kept := 0
	forEach(ctx, pending, r.Jobs, func(ctx context.Context, trial Trial) {
		if !r.mayStart() {
			r.mu.Lock()
			kept++
			r.mu.Unlock()
			return
		}
		run, old := known[trial.ID]
		start := time.Now()
		why, err := r.trainOrAwait(ctx, trial, run, old)
		if ctx.Err() == nil {
			r.report(ctx, trial, time.Since(start), why, err)
		}
	})
	if kept > 0 {
		r.Notef("sweep %s: %s left: the time limit or the number of runs is reached; start it again to continue", r.File.Name, counted(kept))
	}
	return context.Cause(ctx)
}

// promote continues the trials that asha paused and that are among the best of their
// rung, now that the others have reached it, until there are none.
func (r *Runner) promote(ctx context.Context) error {
	for {
		known, err := r.Known(ctx)
		if err != nil {
			return err
		}
		store, err := tracking.Open(r.Store)
		if err != nil {
			return err
		}
		trials, err := r.untag(ctx, store, known)
		store.Close()
		if err != nil || len(trials) == 0 {
			return err
		}
		r.Notef("sweep %s: %s among the best of a rung, now that the others have reached it", r.File.Name, counted(len(trials)))
		before := r.launched
		if err := r.train(ctx, trials, true); err != nil || r.launched == before {
			return err // the limits allow no more: the next start continues them
		}
	}
}

// untag finds the trials to promote, and takes the tag from them that says that they
// are done.
func (r *Runner) untag(ctx context.Context, store *tracking.Store, known map[string]tracking.RunSummary) ([]Trial, error) {
	r.newStoppers(ctx, store, known)
	var trials []Trial
	for _, trial := range r.Trials {
		run, stopper := known[trial.ID], r.stoppers[trial.Search]
		paused := slices.DeleteFunc(slices.Clone(run.Tags), func(tag string) bool { return !strings.HasPrefix(tag, StoppedTag+"asha") })
		if stopper == nil || len(paused) == 0 || stopper.stops(trial.ID) != "" {
			continue
		}
		if err := store.Tag(ctx, run.ID, nil, paused); err != nil {
			return nil, err
		}
		trials = append(trials, trial)
	}
	return trials, nil
}

// counted writes a number of trials.
func counted(trials int) string {
	if trials == 1 {
		return "1 trial"
	}
	return fmt.Sprintf("%d trials", trials)
}

// mayStart reports whether the limits allow another trial, and counts the trial.
func (r *Runner) mayStart() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.MaxRuns > 0 && r.launched >= r.MaxRuns || r.File.TimeLimit > 0 && time.Since(r.started) >= r.File.TimeLimit {
		return false
	}
	r.launched++
	return true
}

// errStopped is the cause of a trial's end by a StopRule.
type errStopped struct{ why string }

func (e errStopped) Error() string { return e.why }

// trainOrAwait trains a trial to its end, or waits for the process that trains it.
// why is not "" if the StopRule ended the trial.
func (r *Runner) trainOrAwait(ctx context.Context, trial Trial, run tracking.RunSummary, old bool) (why string, err error) {
	if old {
		if run, err = r.await(ctx, trial, run); err != nil || r.Done(run) {
			return "", err
		}
	}
	own, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.mu.Lock()
	r.running[trial.ID] = &active{trial: trial, started: time.Now(), stop: stop, share: math.NaN(), best: math.NaN()}
	r.mu.Unlock()
	err = r.trainOne(own, trial, run.ID, old && run.Status != tracking.Failed)
	r.mu.Lock()
	delete(r.running, trial.ID)
	r.mu.Unlock()
	var stopped errStopped
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.As(context.Cause(own), &stopped):
		return r.tagStopped(ctx, trial, stopped.why)
	case err != nil:
		return "", errors.Join(err, r.recordFailure(ctx, trial, err))
	}
	return "", nil
}

// tagStopped marks the run of a trial that the StopRule ended, so that it is not
// resumed. It returns why, or "" if the trial had come to its end by itself.
func (r *Runner) tagStopped(ctx context.Context, trial Trial, why string) (string, error) {
	known, err := r.Known(ctx)
	if err != nil || known[trial.ID].Status == tracking.Finished {
		return "", err
	}
	store, err := tracking.Open(r.Store)
	if err != nil {
		return "", err
	}
	defer store.Close()
	kind, _, _ := strings.Cut(why, ":")
	return why, store.Tag(ctx, known[trial.ID].ID, []string{StoppedTag + kind}, nil)
}

// recordFailure records a trial that failed before it had a run, so that reports show
// it and the next start does not train it again.
func (r *Runner) recordFailure(ctx context.Context, trial Trial, failure error) error {
	known, err := r.Known(ctx)
	if err != nil {
		return err
	}
	if _, recorded := known[trial.ID]; recorded {
		return nil
	}
	store, err := tracking.Open(r.Store)
	if err != nil {
		return err
	}
	defer store.Close()
	settings := map[string]any{}
	for _, kv := range trial.Settings.Flat() {
		settings[kv.Key] = kv.Value
	}
	name, tags := r.nameAndTags(trial)
	run, err := store.StartRun(ctx, tracking.NewRun{Name: name, Tags: tags, Settings: settings, Dataset: r.Dataset,
		Command: append([]string{r.Program}, r.arguments(trial)...)})
	if err != nil {
		return err
	}
	return run.Finish(tracking.Failed, failure.Error())
}

// watch reads the running trials every second, applies the StopRules if stopping, and
// reports the progress. finish ends the watch.
func (r *Runner) watch(ctx context.Context, known map[string]tracking.RunSummary, stopping bool) (finish func(), err error) {
	r.stoppers = nil
	stopping = stopping && slices.ContainsFunc(r.File.searches, func(s search) bool { return s.stop.Kind != "" })
	if !stopping && r.Watch == nil {
		return func() {}, nil
	}
	store, err := tracking.OpenCurrent(r.Store)
	if err != nil {
		return nil, err
	}
	r.reader = store
	if stopping {
		r.newStoppers(ctx, store, known)
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				r.look(ctx, store)
			}
		}
	})
	return func() {
		cancel()
		watching.Wait()
		store.Close()
	}, nil
}

// newStoppers makes the stoppers of the searches, with the trials that do not train now.
func (r *Runner) newStoppers(ctx context.Context, store *tracking.Store, known map[string]tracking.RunSummary) {
	r.stoppers = map[string]*stopper{}
	for i := range r.File.searches {
		if s := &r.File.searches[i]; s.stop.Kind != "" {
			r.stoppers[s.name] = newStopper(s.stop, r.File.Highest)
		}
	}
	for id, run := range known {
		if run.Status != tracking.Running {
			r.addCurve(ctx, store, id, run)
		}
	}
}

// addCurve reads a run's evaluations for the StopRule. A curve that cannot be read now
// is read a second later.
func (r *Runner) addCurve(ctx context.Context, store *tracking.Store, trial string, run tracking.RunSummary) {
	stopper := r.stoppers[searchOf(run)]
	if stopper == nil {
		return
	}
	points, err := store.Curve(ctx, run.ID, r.File.Metric, tracking.FineCurve)
	if err != nil {
		return
	}
	list := make([]evaluation, len(points))
	for i, p := range points {
		list[i] = evaluation{p.Last, p.Value}
	}
	stopper.add(trial, list, run.Status == tracking.Finished)
}

// look reads the state of the running trials from the store.
func (r *Runner) look(ctx context.Context, store *tracking.Store) {
	r.mu.Lock()
	tags := []string{}
	for id := range r.running {
		tags = append(tags, TrialTag+id)
	}
	r.mu.Unlock()
	runs, err := store.Runs(ctx, tracking.Query{Tags: tags, Where: "status == 'running'"})
	if err != nil {
		return // try again in a second
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, run := range runs {
		for _, tag := range run.Tags {
			id, ok := strings.CutPrefix(tag, TrialTag)
			a := r.running[id]
			if !ok || a == nil {
				continue
			}
			a.step, a.share = run.Steps, run.Share()
			if m, measured := run.Metrics[r.File.Metric]; measured {
				a.best = m.Best
				r.addCurve(ctx, store, id, run)
			}
			if stopper := r.stoppers[a.trial.Search]; stopper != nil && !(a.share >= 1) { // at its end there is nothing to save
				if why := stopper.stops(id); why != "" {
					a.stop(errStopped{why})
				}
			}
		}
	}
	if r.Watch != nil {
		r.Watch(r.progress())
	}
}

// progress estimates the time left from what was trained so far. A trial that a
// StopRule ended is done: the trials to come are taken to be like those before. The
// caller holds the lock.
func (r *Runner) progress() Progress {
	p := Progress{Name: r.File.Name, Ended: r.ended, Pending: r.pending}
	done := float64(r.ended)
	for _, a := range r.running {
		t := TrialProgress{Label: a.trial.Label, Step: a.step, Steps: int64(a.trial.Settings.Train.Steps),
			Share: a.share, Metric: r.File.Metric, Best: a.best, TrainingTime: time.Since(a.started)}
		if !math.IsNaN(t.Share) {
			done += t.Share
		}
		p.Running = append(p.Running, t)
	}
	slices.SortFunc(p.Running, func(a, b TrialProgress) int { return cmp.Compare(b.TrainingTime, a.TrainingTime) })
	if done > 0 {
		p.Share = done / float64(r.pending)
		p.Left = time.Duration(float64(time.Since(r.phase)) * (float64(r.pending) - done) / done)
	}
	return p
}

// await waits until no process trains the run, since a trial survives the sweep that
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
	// In its own process group the child does not get the terminal's Ctrl-C.
	// cmd.Cancel sends it one signal; a second one would end it at once. The child
	// also survives a sweep that is killed; the next sweep waits for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s (%s)", lastLine(log), log.Name())
	}
	return err
}

// nameAndTags returns the name and the tags of a trial's run.
func (r *Runner) nameAndTags(trial Trial) (name string, tags []string) {
	name = r.File.Name
	for _, part := range []string{trial.Search, trial.Label} {
		if part != "" {
			name += " " + part
		}
	}
	tags = []string{NameTag + r.File.Name, TrialTag + trial.ID}
	if trial.Search != "" {
		tags = append(tags, SearchTag+trial.Search)
	}
	return name, tags
}

// arguments returns the arguments of `koala-lm train` for a new run of the trial.
func (r *Runner) arguments(trial Trial) []string {
	name, tags := r.nameAndTags(trial)
	args := append([]string{"train"}, r.Train...)
	args = append(args, "--name", name)
	for _, tag := range tags {
		args = append(args, "--tag", tag)
	}
	for _, config := range r.File.Configs {
		args = append(args, "--config", config)
	}
	for _, assignment := range trial.Set {
		args = append(args, "--set", assignment)
	}
	return args
}

// report prints how a trial ended. Divergence is a result of the search, not a
// failure of the sweep.
func (r *Runner) report(ctx context.Context, trial Trial, took time.Duration, why string, err error) {
	outcome, share := "finished", ""
	if known, err := r.Known(ctx); err == nil {
		r.mu.Lock()
		r.addCurve(ctx, r.reader, trial.ID, known[trial.ID])
		r.mu.Unlock()
		if part := known[trial.ID].Share(); !math.IsNaN(part) {
			share = fmt.Sprintf(", after %.0f %% of its training", 100*part)
		}
		switch result := known[trial.ID].Result(r.File.Metric); result.Outcome {
		case tracking.Reached:
			outcome = fmt.Sprintf("finished, %s %.4g", r.File.Metric, result.Best)
		case tracking.Diverged:
			outcome = fmt.Sprintf("diverged, %s %v", r.File.Metric, result.Last)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended++
	if why != "" {
		outcome = "stopped by " + why + share
	}
	if err != nil {
		outcome = "failed: " + err.Error()
		if !strings.Contains(err.Error(), tracking.DivergedReason) {
			r.failed = append(r.failed, trial.Label)
		}
	}
	r.Notef("%d/%d  %s  %v  %s", r.ended, r.pending, trial.Label, took.Round(time.Second), outcome)
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

// lockFolder makes a folder and locks it for this process. The lock is released when
// the process ends, even if it is killed.
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
