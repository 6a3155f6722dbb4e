package report

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/report/tensorboard"
	"github.com/koala-lm/koala-lm/tracking"
)

// ExportPoint is one line of JSON lines.
type ExportPoint struct {
	Run     string  `json:"run"`
	Name    string  `json:"name"`
	Metric  string  `json:"metric"`
	Step    int64   `json:"step"`
	Tokens  int64   `json:"tokens"`
	Time    string  `json:"time"`    // RFC 3339 in UTC
	Seconds float64 `json:"seconds"` // of training so far
	Value   Number  `json:"value"`
}

// eachPoint visits every logged value of runs, of the given metrics or of all.
func eachPoint(ctx context.Context, store *tracking.Store, runs []tracking.RunSummary, metrics []string, visit func(tracking.RunSummary, string, tracking.Logged) error) error {
	for _, run := range runs {
		for _, metric := range slices.Sorted(maps.Keys(run.Metrics)) {
			if len(metrics) > 0 && !slices.Contains(metrics, metric) {
				continue
			}
			err := store.Points(ctx, run.ID, metric, func(p tracking.Logged) error { return visit(run, metric, p) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// ExportCSV writes a line for each value.
func ExportCSV(ctx context.Context, w io.Writer, store *tracking.Store, runs []tracking.RunSummary, metrics []string) error {
	lines := csv.NewWriter(w)
	if err := lines.Write([]string{"run", "name", "metric", "step", "tokens", "time", "seconds", "value"}); err != nil {
		return err
	}
	err := eachPoint(ctx, store, runs, metrics, func(run tracking.RunSummary, metric string, p tracking.Logged) error {
		return lines.Write([]string{run.ID, csvCell(run.Name), csvCell(metric), plain(p.Step), plain(p.Tokens), plain(p.Time), plain(p.Seconds), plain(p.Value)})
	})
	if err != nil {
		return err
	}
	lines.Flush()
	return lines.Error()
}

// ExportJSONLines writes a line of JSON for each value.
func ExportJSONLines(ctx context.Context, w io.Writer, store *tracking.Store, runs []tracking.RunSummary, metrics []string) error {
	buffer := bufio.NewWriter(w)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	err := eachPoint(ctx, store, runs, metrics, func(run tracking.RunSummary, metric string, p tracking.Logged) error {
		return encoder.Encode(ExportPoint{run.ID, run.Name, metric, p.Step, p.Tokens, stamp(p.Time), p.Seconds, Number(p.Value)})
	})
	if err != nil {
		return err
	}
	return buffer.Flush()
}

// ExportTensorBoard writes an event file for each run, in a folder of its own under
// folder: metrics, settings as hyperparameters, and sample texts. It leaves out NaN,
// which TensorBoard cannot draw.
func ExportTensorBoard(ctx context.Context, folder string, store *tracking.Store, runs []tracking.RunSummary, metrics []string) error {
	for _, run := range runs {
		target := filepath.Join(folder, fileName(run))
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		file := filepath.Join(target, fmt.Sprintf("events.out.tfevents.%d.koala-lm", run.Started.Unix()))
		err := atomicfile.Write(file, func(w io.Writer) error {
			events := tensorboard.NewWriter(w, run.Started)
			if err := exportDetails(ctx, store, run, events); err != nil {
				return err
			}
			err := eachPoint(ctx, store, []tracking.RunSummary{run}, metrics, func(_ tracking.RunSummary, metric string, p tracking.Logged) error {
				if !math.IsNaN(p.Value) {
					events.Scalar(metric, p.Time, p.Step, p.Value)
				}
				return events.Err()
			})
			if err != nil {
				return err
			}
			return events.Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// exportDetails writes a run's settings, end and sample texts.
func exportDetails(ctx context.Context, store *tracking.Store, run tracking.RunSummary, events *tensorboard.Writer) error {
	detail, err := store.Run(ctx, run.ID)
	if err != nil {
		return err
	}
	settings := maps.Clone(detail.Settings)
	for key, value := range settings {
		if list, ok := value.([]any); ok {
			settings[key] = plain(list)
		}
	}
	events.HParams(run.Started, settings)
	if run.Status != tracking.Running {
		events.Ended(run.Ended, run.Status == tracking.Finished || run.Status == tracking.Interrupted)
	}
	samples := int64(0)
	for _, e := range detail.Events {
		if e.Kind == "sample" {
			samples++
			events.Text("sample", e.Time, samples, e.Message)
		}
	}
	return events.Err()
}

// fileName is the part of a run's name that every file system accepts, and its id. A
// store from elsewhere may have any id.
func fileName(run tracking.RunSummary) string {
	safe := func(text string) string {
		text = strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '+', r == '.':
				return r
			}
			return '_'
		}, text)
		return strings.Trim(text[:min(40, len(text))], "._")
	}
	return cmp.Or(strings.Trim(safe(run.Name)+"-"+safe(run.ID), "-"), "run")
}
