package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/tokenizer"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
	"github.com/koala-lm/koala-lm/lm/spec"
	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/tracking"
	"github.com/koala-lm/koala-lm/tracking/environment"
)

// A recording keeps a run while it trains: its record in the store, its checkpoints
// and its progress on the terminal.
type recording struct {
	store    *tracking.Store
	run      *tracking.Run
	keeper   *checkpoint.Keeper
	recorder *recorder
	progress *progress
	trainer  *lm.Trainer
	dataset  *data.Dataset

	// The run's final status, for close. A panic must not leave it "running".
	status tracking.Status
	reason string
}

// record starts a run's record, or continues a resumed run's, and adds it to the
// trainer's observers. precision is the line that says what train.precision auto took.
func (job Job) record(ctx context.Context, trainer *lm.Trainer, dataset *data.Dataset, from start, precision string) (*recording, error) {
	store, err := tracking.Open(job.Store)
	if err != nil {
		return nil, err
	}
	device := torch.DeviceName(trainer.Device)
	run, err := job.claim(ctx, store, dataset, from, device)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	r := &recording{
		store: store, run: run, trainer: trainer, dataset: dataset, status: tracking.Failed, reason: "the process panicked",
		progress: newProgress(job.Stderr, job.Quiet, trainer.TotalSteps(), from.step()),
	}
	r.announce(job, device, from, precision)
	if r.keeper, err = r.newKeeper(job, from); err != nil {
		r.status, r.reason = outcome(err)
		return nil, errors.Join(err, r.close())
	}
	r.recorder = &recorder{run: run, info: dataset.Info(), warn: r.progress.warn, last: map[string]lm.Evaluation{}}
	trainer.Observers = []lm.Observer{r.recorder, r.progress, r.keeper}
	return r, nil
}

// claim makes this process the run's only writer.
func (job Job) claim(ctx context.Context, store *tracking.Store, dataset *data.Dataset, from start, device string) (*tracking.Run, error) {
	if job.Resume != "" {
		length := map[string]any{}
		for _, kv := range job.Settings.Flat() {
			if slices.Contains([]string{"train.steps", "train.epochs", "train.time_limit"}, kv.Key) {
				length[kv.Key] = kv.Value
			}
		}
		return store.ResumeRun(ctx, job.Resume, from.step(), tracking.Resume{
			Command: job.Command, Device: device, Threads: torch.Threads(), DatasetPath: job.Data, Settings: length,
		})
	}
	known := map[string]float64{} // metrics of the dataset itself, at step 0
	for split, prefix := range metric.SplitPrefix {
		if _, ok := dataset.Split(split); !ok {
			continue
		}
		ppl, err := dataset.UnigramPPL(split)
		if err != nil {
			return nil, err
		}
		known[prefix+metric.UnigramPPL] = ppl
	}
	settings := map[string]any{}
	for _, kv := range job.Settings.Flat() {
		settings[kv.Key] = kv.Value
	}
	info := dataset.Info()
	folder, err := os.Getwd()
	if err != nil {
		folder = filepath.Dir(job.Store)
	}
	return store.StartRun(ctx, tracking.NewRun{
		Name: job.Name, Note: job.Note, Tags: job.Tags, Settings: settings,
		Dataset: tracking.Dataset{
			Name: dataset.Name(), Path: job.Data, Fingerprint: dataset.Fingerprint(),
			Facts:   map[string]any{"vocab": dataset.Vocab(), "tokenizer": info.Tokenizer.Kind, "train_tokens": info.Splits["train"].Tokens},
			Metrics: known,
		},
		Git: environment.ReadGit(folder), Command: job.Command, CPU: environment.CPU(), Device: device, Threads: torch.Threads(),
		Parent:   job.Fork,
		Versions: map[string]string{"koala-lm": job.Build, "go": runtime.Version(), "libtorch": torch.LibtorchVersion()},
	})
}

// announce prints the run's id, model, precision, device and start.
func (r *recording) announce(job Job, device string, from start, precision string) {
	if job.Settings.Train.Precision == spec.BFloat16 && !torch.FastBFloat16(r.trainer.Device) {
		r.progress.warn("this CPU has no instructions for bfloat16: train.precision float32 is faster on it")
	}
	ranks := ""
	if n := r.trainer.Group.Size(); n > 1 {
		ranks = fmt.Sprintf("%d processes, ", n)
	}
	parameters := humanize.Comma(lm.CountParams(r.trainer.Model)) + " parameters"
	if n := lm.CountFrozen(r.trainer.Model); n > 0 {
		parameters += ", " + humanize.Comma(n) + " of them frozen"
	}
	r.progress.say("run %s: %s with %s, %s, %s, on %s, %sthreads: %d", r.run.ID(), job.Settings.Model.Kind, job.Settings.Optimizer.Kind,
		parameters, job.Settings.Train.Precision, device, ranks, torch.Threads())
	r.progress.sayPrecision(precision)
	if from.checkpoint != nil {
		r.progress.say("continuing after step %s", humanize.Comma(from.step()))
	}
}

// flushTimeout bounds how long a checkpoint waits for a store that takes no writes.
const flushTimeout = 10 * time.Second

// newKeeper makes the keeper of the run's checkpoints. All metrics up to a checkpoint
// are in the store before its file appears: a run that resumes from it logs only
// later ones.
func (r *recording) newKeeper(job Job, from start) (*checkpoint.Keeper, error) {
	settings, err := json.Marshal(job.Settings)
	if err != nil {
		return nil, fmt.Errorf("settings as JSON: %w", err)
	}
	folder := CheckpointFolder(job.Runs, r.run.ID())
	dataset, err := filepath.Rel(folder, job.Data) // a project moves as a whole
	if err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	return checkpoint.NewKeeper(checkpoint.Config{
		Folder: folder, Keep: job.Settings.Checkpoint.Keep,
		Origin: checkpoint.Origin{
			Run: r.run.ID(), Settings: settings, Dataset: dataset, Fingerprint: r.dataset.Fingerprint(),
			Tokenizer: r.dataset.Info().Tokenizer.SHA256, Vocab: r.dataset.Vocab(), Build: job.Build,
		},
		Before: func() error {
			ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
			defer cancel()
			// The recorder warns if the store takes no writes; the weights are worth
			// keeping without it. After a takeover only the other process writes
			// checkpoints.
			if err := r.run.Flush(ctx); errors.Is(err, tracking.ErrTakenOver) {
				return err
			}
			return nil
		},
		Publish: r.run.WhileOwned,
		Failed: func(err error) error {
			if errors.Is(err, tracking.ErrTakenOver) {
				return fmt.Errorf("checkpoint: %w", err)
			}
			if job.Settings.Checkpoint.OnError == spec.OnErrorStop {
				return fmt.Errorf("checkpoint: %w", err)
			}
			r.progress.warn("no checkpoint, training continues: %v", err)
			return nil
		},
		Untidy: func(err error) { r.progress.warn("checkpoints: %v", err) },
	}, from.checkpoint)
}

// finish takes training's error and returns the run's. A run has failed if its last
// state is not saved, even if it was only interrupted or reached its end.
func (r *recording) finish(ctx context.Context, err error) error {
	interrupted := errors.Is(err, lm.ErrInterrupted)
	if unsaved := r.keeper.Close(); unsaved != nil && (err == nil || interrupted) {
		err = unsaved
	} else if interrupted {
		err = fmt.Errorf("%w after step %d and is saved: `koala-lm train --resume %s` continues it", lm.ErrInterrupted, r.keeper.Saved(), r.run.ID())
	}
	if err == nil {
		if failed := r.baseline(ctx); failed != nil && ctx.Err() == nil {
			r.progress.warn("the n-gram model that the run is compared with: %v", failed)
		}
		if failed := r.sample(ctx); failed != nil {
			r.progress.warn("no sample is kept with the run: %v", failed)
		}
	}
	r.status, r.reason = outcome(err)
	return err
}

// close writes the run's end into the store.
func (r *recording) close() error {
	r.progress.close()
	return errors.Join(r.run.Finish(r.status, r.reason), r.store.Close())
}

// outcome returns the status of a run that has ended with err, and the reason.
func outcome(err error) (tracking.Status, string) {
	switch {
	case err == nil:
		return tracking.Finished, ""
	case errors.Is(err, lm.ErrInterrupted):
		return tracking.Interrupted, ""
	}
	return tracking.Failed, err.Error()
}

// A run that ends well records a sample of its text. The sample is long enough to show
// whether a low perplexity makes sense, and takes little time compared with an
// evaluation.
const (
	sampleTokens      = 120
	sampleTemperature = 0.8
)

// sample adds a text that the trained model generates to the run's events. The same
// weights and seed give the same text.
func (r *recording) sample(ctx context.Context) error {
	tok, err := r.dataset.Tokenizer()
	if err != nil {
		return fmt.Errorf("sample: %w", err)
	}
	prompt, err := PromptTokens(tok, "")
	if err != nil {
		return fmt.Errorf("sample: %w", err)
	}
	d, err := r.trainer.Model.NewDecoder(1)
	if err != nil {
		return fmt.Errorf("sample: %w", err)
	}
	defer d.Close()
	g := lm.Generation{
		Tokens: sampleTokens, Seed: uint64(r.trainer.Config.Seed),
		Sampler: lm.Sampler{Temperature: sampleTemperature},
	}
	var text strings.Builder
	stream := tokenizer.NewStream(tok, -1)
	err = lm.Generate(ctx, d, g, []lm.Text{{Prompt: prompt}}, func(_ int, token lm.Drawn) error {
		text.WriteString(stream.Next(uint32(token.ID)))
		return nil
	})
	if err != nil && !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("sample: %w", err)
	}
	text.WriteString(stream.Rest())
	return r.run.Event("sample", strings.TrimSpace(text.String()))
}

// PromptTokens returns the ids of a prompt. An empty prompt gives the token that
// precedes a text.
func PromptTokens(tok tokenizer.Tokenizer, prompt string) ([]int64, error) {
	ids, err := tokenizer.Encode(tok, prompt)
	if err != nil {
		return nil, err
	}
	eos, lines := tok.ID(tokenizer.EndOfLine)
	if tok.Words() && lines && len(ids) > 0 && !strings.HasSuffix(prompt, "\n") {
		ids = ids[:len(ids)-1] // the text continues the prompt's last line
	}
	if len(ids) == 0 {
		start := uint32(0)
		if id, ok := tok.Separator(); ok {
			start = id
		} else if lines {
			start = eos
		} else if line, err := tokenizer.Encode(tok, "\n"); err == nil && len(line) > 0 {
			start = line[0]
		}
		ids = []uint32{start}
	}
	out := make([]int64, len(ids))
	for i, id := range ids {
		out[i] = int64(id)
	}
	return out, nil
}

// recorder writes what the training loop announces into the store. Losing a metric is
// no reason to lose the training: each kind of store failure is reported once.
type recorder struct {
	lm.NoObserver
	run  *tracking.Run
	info data.Info
	last map[string]lm.Evaluation // of each split
	warn func(format string, args ...any)
	told struct{ lost, waiting, moved bool }
}

func (r *recorder) log(step, tokens int64, values map[string]float64) error {
	lost := r.run.Log(tracking.Point{Step: step, Tokens: tokens, Values: values})
	waiting := r.run.Err()
	if errors.Is(lost, tracking.ErrTakenOver) || errors.Is(waiting, tracking.ErrTakenOver) {
		return fmt.Errorf("run %s: %w", r.run.ID(), tracking.ErrTakenOver)
	}
	if first(&r.told.lost, lost != nil) {
		r.warn("the store takes no metrics, training continues without them: %v", lost)
	} else if first(&r.told.waiting, waiting != nil) {
		r.warn("the store takes no writes, metrics wait in memory and training continues: %v", waiting)
	}
	if first(&r.told.moved, r.run.Moved()) {
		r.warn("the store was deleted or replaced: this run's record, whole, is in a new one in its place")
	}
	return nil
}

// first reports whether something happens for the first time.
func first(told *bool, happens bool) bool {
	if !happens || *told {
		return false
	}
	*told = true
	return true
}

func (r *recorder) Stepped(s lm.Step) error {
	r.run.Reached(s.Step, s.Tokens)
	return nil
}

func (r *recorder) Logged(l lm.Log) error {
	o := l.Step.Optimizer
	milliseconds := func(d time.Duration) float64 { return 1000 * d.Seconds() }
	values := map[string]float64{
		metric.TrainLoss: l.Nats, metric.TrainPPL: math.Exp(l.Nats),
		metric.LR: l.Step.LR, metric.GradNorm: o.GradNorm,
		metric.TokensPerSecond: l.TokensPerSecond,
		metric.ForwardMS:       milliseconds(l.Phases.Forward),
		metric.LossMS:          milliseconds(l.Phases.Loss),
		metric.BackwardMS:      milliseconds(l.Phases.Backward),
		metric.OptimizerMS:     milliseconds(l.Phases.Optimizer),
		metric.RSSBytes:        float64(residentBytes()),
		metric.SkippedSteps:    float64(l.Skipped),
	}
	for name, v := range map[string]float64{
		metric.ReduceMS:     milliseconds(l.Phases.Reduce),
		metric.StepMatrices: o.Length.Matrices, metric.StepEmbeddings: o.Length.Embeddings, metric.StepNorms: o.Length.Norms,
	} {
		if v != 0 {
			values[name] = v
		}
	}
	if o.R > 0 { // a filter took the measurement
		values[metric.KoalaSigma], values[metric.KoalaR], values[metric.KoalaGain] = o.Sigma, o.R, o.Gain
		values[metric.KoalaInnovation], values[metric.KoalaStep] = o.Innovation, o.EffectiveLR
	}
	return r.log(l.Step.Step, l.Step.Tokens, values)
}

func (r *recorder) EpochEnded(e lm.Epoch) error {
	return r.log(e.Step, e.Tokens, map[string]float64{metric.EpochLoss: e.Nats, metric.EpochPPL: math.Exp(e.Nats)})
}

func (r *recorder) Evaluated(e lm.Evaluation) error {
	r.last[e.Split] = e
	prefix := metric.SplitPrefix[e.Split]
	values := SplitMetrics(prefix, e.Result, r.info.Splits[e.Split])
	if e.Raw != nil {
		values[metric.Raw+prefix+metric.Loss], values[metric.Raw+prefix+metric.PPL] = e.Raw.Nats, e.Raw.Perplexity()
	}
	return r.log(e.Step, e.Tokens, values)
}

// SplitMetrics returns the metrics of an evaluation under their names in the store.
func SplitMetrics(prefix string, r lm.Result, split data.SplitInfo) map[string]float64 {
	m := map[string]float64{prefix + metric.Loss: r.Nats, prefix + metric.PPL: r.Perplexity()}
	if split.Words > 0 {
		m[prefix+metric.WordPPL] = r.WordPerplexity(split.Tokens, split.Words)
	}
	if split.Bytes > 0 {
		m[prefix+metric.BitsPerByte] = r.BitsPerByte(split.Tokens, split.Bytes)
	}
	return m
}
