// Package storetest makes stores for tests and measurements: a small store with a
// run of every kind, and a store of any size.
package storetest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/tracking"
	"github.com/koala-lm/koala-lm/tracking/environment"
)

// DangerousNames are allowed names of runs that must do no harm anywhere.
var DangerousNames = []string{
	`'; DROP TABLE runs; --`,
	`"quoted" & <b onclick="alert(1)">bold</b>`,
	"</script><script>alert('x')</script>",
	"two\nlines\tand a tab",
	"\x1b[31mred\x1b[0m \u202egnirts",
	"🐨 коала 考拉",
	"a|b,c;d=SUM(A1)",
	"../../etc/passwd",
}

// Fill adds to s one run of each status, a resumed run, a running one, and a run for
// each dangerous name.
func Fill(ctx context.Context, s *tracking.Store) error {
	random := rand.New(rand.NewPCG(1, 2))
	endings := []tracking.Status{tracking.Finished, tracking.Failed, tracking.Interrupted, tracking.Crashed}
	for i, optimizer := range []string{"koala-v", "koala-m", "koala++", "sgd"} {
		run, err := s.StartRun(ctx, Example(fmt.Sprintf("%s %d", optimizer, i), optimizer, i, 1+i/2))
		if err != nil {
			return err
		}
		if err := train(run, 1, 200, 300-30*float64(i), random); err != nil {
			return err
		}
		if err := run.Finish(endings[i], "this is how it went"); err != nil {
			return err
		}
		if i == 2 {
			if run, err = s.ResumeRun(ctx, run.ID(), 150, tracking.Resume{Device: "cpu", Threads: 2}); err != nil {
				return err
			}
			if err := train(run, 151, 250, 200, random); err != nil {
				return err
			}
			if err := run.Finish(tracking.Finished, ""); err != nil {
				return err
			}
		}
	}
	for i, name := range DangerousNames {
		n := Example(name, "adam", i, 1)
		n.Note, n.Tags, n.Settings["init"] = name, []string{name}, name
		n.Dataset.Name, n.Command = name, []string{"koala-lm", name}
		run, err := s.StartRun(ctx, n)
		if err != nil {
			return err
		}
		if err := train(run, 1, 20, 500, random); err != nil {
			return err
		}
		if err := run.Event(name, name); err != nil {
			return err
		}
		if err := run.Finish(tracking.Finished, name); err != nil {
			return err
		}
	}
	return nil
}

// Example is a run as a training loop would register it.
func Example(name, optimizer string, seed, model int) tracking.NewRun {
	return tracking.NewRun{
		Name: name, Tags: []string{"example"},
		Settings: map[string]any{
			"model.kind": "lstm", "model.layers": model, "model.hidden": 200, "model.embed": 200, "model.tied": true,
			"model.dropout.output": 0.2, "optimizer.kind": optimizer, "optimizer.lr": []float64{1, 20, 0.001}[seed%3],
			"optimizer.q": 10.0, "schedule.kind": "constant", "train.batch": 20, "train.bptt": 35, "train.seed": seed,
			"train.epochs": 2, "train.precision": "float32", "eval.every": 0, "checkpoint.keep": 1,
		},
		Dataset: tracking.Dataset{
			Name: "godoc", Path: "/data/godoc", Fingerprint: "5f2a9c0d1e7b4a68",
			Facts:   map[string]any{"tokenizer": "word", "vocabulary": 8000, "train_tokens": 3_100_000},
			Metrics: map[string]float64{metric.ValidUnigramPPL: 612.31, metric.TestUnigramPPL: 605.77},
		},
		Git:     environment.Git{Commit: "0123456789abcdef0123456789abcdef01234567"},
		Command: []string{"koala-lm", "train", "--data", "prepared/godoc", "--name", name},
		CPU:     "a processor", Device: "cpu", Threads: 2,
		Versions: map[string]string{"koala-lm": "devel", "go": "go1.26", "libtorch": "2.11.0"},
	}
}

// train logs a falling loss.
func train(run *tracking.Run, from, to int64, start float64, random *rand.Rand) error {
	for step := from; step <= to; step++ {
		ppl := start * math.Pow(float64(step), -0.25) * (1 + 0.02*random.NormFloat64())
		values := map[string]float64{
			metric.TrainLoss: math.Log(ppl), metric.TrainPPL: ppl, metric.LR: 1, metric.GradNorm: 1 + random.Float64(),
			metric.TokensPerSecond: 2000 + 100*random.NormFloat64(),
		}
		if step%50 == 0 || step == to {
			values[metric.ValidLoss], values[metric.ValidPPL] = math.Log(1.1*ppl), 1.1*ppl
			values[metric.TestLoss], values[metric.TestPPL] = math.Log(1.08*ppl), 1.08*ppl
			values[metric.ValidBitsPerByte] = math.Log2(1.1*ppl) / 5.7
		}
		if err := run.Log(tracking.Point{Step: step, Tokens: 700 * step, Values: values}); err != nil {
			return err
		}
	}
	return nil
}
