package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/lm/spec"
	"github.com/koala-lm/koala-lm/tracking"
)

// fakeEngine replaces koala-lm-engine in tests: it prints its request. For train it
// records a run, as on a CPU without bfloat16, that ends as FAKE_ENGINE says: finished,
// interrupted, crash (it exits silently) or hang (until interrupted). If the request
// contains FAKE_ENGINE_FAILS, the run fails for the reason FAKE_ENGINE_REASON.
func fakeEngine() {
	if err := runFakeEngine(os.Args[1], strings.Join(os.Args[2:], " ")); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", request.EngineName, err)
		os.Exit(1)
	}
}

func runFakeEngine(verb, text string) error {
	switch verb {
	case "version":
		if os.Getenv("FAKE_ENGINE") == "crash" {
			return errors.New("libtorch_cpu.so: cannot open shared object file")
		}
		return json.NewEncoder(os.Stdout).Encode(request.Versions{
			Build: "devel", Gotch: gotchVersion, Libtorch: "2.11.0+fake", CPU: "AVX2", Devices: []string{"cpu", "cuda:0"},
		})
	case "train":
		var r request.Train
		if err := request.Parse(text, &r); err != nil {
			return err
		}
		if r.FindLR {
			break
		}
		if err := recordRun(&r, text); err != nil {
			return err
		}
	}
	fmt.Println(verb, text)
	return nil
}

func recordRun(r *request.Train, text string) error {
	if part := os.Getenv("FAKE_ENGINE_EARLY"); part != "" && strings.Contains(text, part) {
		return errors.New("cannot allocate memory")
	}
	ctx := context.Background()
	store, err := tracking.Open(r.Store)
	if err != nil {
		return err
	}
	dataset, err := data.Open(r.Data)
	if err != nil {
		return err
	}
	settings := map[string]any{}
	settled, _ := r.Settings.SettlePrecision(dataset.Vocab(), spec.Processor{})
	for _, kv := range settled.Flat() {
		settings[kv.Key] = kv.Value
	}
	var run *tracking.Run
	if r.Resume != "" {
		run, err = store.ResumeRun(ctx, r.Resume, 0, tracking.Resume{Threads: r.Threads, Device: string(r.Device)})
	} else {
		run, err = store.StartRun(ctx, tracking.NewRun{
			Name: r.Name, Tags: r.Tags, Note: r.Note, Settings: settings, Command: r.Command,
			Device: "cpu", Threads: 3, Parent: r.Fork,
			Dataset: tracking.Dataset{Name: dataset.Name(), Path: r.Data, Fingerprint: dataset.Fingerprint()},
		})
	}
	if err != nil {
		return err
	}
	if part := os.Getenv("FAKE_ENGINE_FAILS"); part != "" && strings.Contains(text, part) {
		reason := cmp.Or(os.Getenv("FAKE_ENGINE_REASON"), "the disk is full")
		return errors.Join(run.Finish(tracking.Failed, reason), errors.New(reason))
	}
	switch status := os.Getenv("FAKE_ENGINE"); status {
	case "crash":
		os.Exit(1)
	case "hang":
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt)
		select {
		case <-interrupted:
		case <-time.After(time.Minute):
		}
		err := run.Finish(tracking.Interrupted, "")
		if err == nil {
			os.Exit(exit.Interrupted)
		}
		return err
	case "":
		if err := run.Log(tracking.Point{Step: 1, Time: time.Now(), Values: map[string]float64{"val_ppl": 100 / r.Settings.Optimizer.Float("lr")}}); err != nil {
			return err
		}
		return run.Finish(tracking.Finished, "")
	default:
		return run.Finish(tracking.Status(status), "")
	}
	return nil
}
