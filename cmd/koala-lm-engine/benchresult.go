package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"

	"github.com/koala-lm/koala-lm/report"
)

// benchResult is what `koala-lm bench --format json` prints: a name that also
// occurs in the peers' lines in bench/ has the same meaning there.
type benchResult struct {
	Model           string  `json:"model"`
	Parameters      int64   `json:"parameters"`
	Vocab           int     `json:"vocab"`
	Optimizer       string  `json:"optimizer"`
	Batch           int     `json:"batch"`
	Length          int     `json:"length"` // tokens of a sequence
	Precision       string  `json:"precision"`
	Device          string  `json:"device"`
	Threads         int     `json:"threads"`
	Steps           int     `json:"steps"`
	StepMS          float64 `json:"ms_per_step"` // median
	MinMS           float64 `json:"ms_min"`
	ForwardMS       float64 `json:"forward_ms"` // mean, as backward_ms
	LossMS          float64 `json:"loss_ms"`
	BackwardMS      float64 `json:"backward_ms"`
	OptimizerMS     float64 `json:"optimizer_ms"`
	ForwardGFLOP    float64 `json:"forward_gflop"`        // of the matrix products in a step
	LossGFLOP       float64 `json:"loss_gflop,omitempty"` // absent with an adaptive softmax, whose products depend on the text
	BackwardGFLOP   float64 `json:"backward_gflop"`
	ProductRate     float64 `json:"product_gflop_per_second,omitempty"` // of a large product, at best
	TokensPerSecond float64 `json:"tokens_per_second"`
	PeakRSS         int64   `json:"peak_rss_bytes"` // this process, with libtorch
}

func (b benchResult) write(w io.Writer, format string) error {
	if format == "json" {
		return json.NewEncoder(w).Encode(b)
	}
	fmt.Fprintf(w, "%s: %s parameters, vocabulary %s, %s, batch %d x %d, %s, %s, threads: %d\n\n",
		b.Model, humanize.Comma(b.Parameters), humanize.Comma(int64(b.Vocab)), b.Optimizer, b.Batch, b.Length, b.Precision, b.Device, b.Threads)
	phases := report.Table{Columns: []report.Column{
		{Name: "phase", Title: "phase"}, {Name: "ms", Title: "ms", Right: true}, {Name: "share", Title: "share", Right: true},
		{Name: "rate", Title: "GFLOP/s", Right: true}, {Name: "of_product", Title: "of a product's", Right: true},
	}}
	total := b.ForwardMS + b.LossMS + b.BackwardMS + b.OptimizerMS
	for _, p := range []struct {
		name      string
		ms, gflop float64
	}{{"forward", b.ForwardMS, b.ForwardGFLOP}, {"loss", b.LossMS, b.LossGFLOP}, {"backward", b.BackwardMS, b.BackwardGFLOP}, {"optimizer", b.OptimizerMS, 0}} {
		rate, share := "", ""
		if perSecond := 1000 * p.gflop / max(p.ms, 1e-9); p.gflop > 0 {
			rate = fmt.Sprintf("%.0f", perSecond)
			if b.ProductRate > 0 {
				share = fmt.Sprintf("%.0f%%", 100*perSecond/b.ProductRate)
			}
		}
		phases.Rows = append(phases.Rows, []any{p.name, fmt.Sprintf("%.2f", p.ms), fmt.Sprintf("%.0f%%", 100*p.ms/max(total, 1e-9)), rate, share})
	}
	if err := (report.Output{W: w, Format: report.Aligned}).Render(phases); err != nil {
		return err
	}
	if b.ProductRate > 0 {
		fmt.Fprintf(w, "\nproduct    %s GFLOP/s at best (2048 x 384 x 1536)\n", humanize.Comma(int64(b.ProductRate)))
	} else {
		fmt.Fprintln(w)
	}
	_, err := fmt.Fprintf(w, "step       %.2f ms (median of %d; %.2f at best)\nspeed      %s tokens/s\nmemory     %s at its peak\n",
		b.StepMS, b.Steps, b.MinMS, humanize.Comma(int64(b.TokensPerSecond)), humanize.IBytes(uint64(b.PeakRSS)))
	return err
}
