package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/run"
)

// evalResult is what `koala-lm eval --format json` prints. An unknown value is null.
type evalResult struct {
	Model  string `json:"model"` // path of the weights' file
	Step   int64  `json:"step"`
	Text   string `json:"text"`
	Stride int    `json:"stride,omitempty"`

	Cache   *request.Cache   `json:"cache,omitempty"`
	Dynamic *request.Dynamic `json:"dynamic,omitempty"`

	evalParts

	Loss        *report.Number `json:"loss"` // nats per token
	PPL         *report.Number `json:"ppl"`
	WordPPL     *report.Number `json:"word_ppl"`
	BitsPerByte *report.Number `json:"bits_per_byte"`
	Unigram     *report.Number `json:"unigram_ppl,omitempty"` // of models that count the train split
	NGram       *report.Number `json:"kneser_ney_ppl,omitempty"`
	Tokens      int64          `json:"tokens"` // number of predicted tokens
	Words       int64          `json:"words"`
	Bytes       int64          `json:"bytes"`
	Unknowns    int64          `json:"unknowns"`
	UnknownRate float64        `json:"unknown_rate"`
	Seconds     float64        `json:"seconds"`
}

func newEvalResult(r request.Eval, model *trained, text scoredText, result lm.Result, took time.Duration) evalResult {
	metrics := run.SplitMetrics("", result, text.info)
	known := func(name string) *report.Number {
		v, ok := metrics[name]
		if !ok {
			return nil
		}
		return (*report.Number)(&v)
	}
	return evalResult{
		Model: model.path, Step: model.step, Text: text.name, Stride: r.Stride, Cache: r.Cache, Dynamic: r.Dynamic,
		Loss: known("loss"), PPL: known("ppl"), WordPPL: known("word_ppl"), BitsPerByte: known("bits_per_byte"),
		Tokens: result.Tokens, Words: text.info.Words, Bytes: text.info.Bytes, Unknowns: text.info.Unknowns,
		UnknownRate: float64(text.info.Unknowns) / float64(max(1, text.info.Tokens)), Seconds: took.Seconds(),
	}
}

func (e evalResult) write(w io.Writer, format string) error {
	if format == "json" {
		return json.NewEncoder(w).Encode(e)
	}
	number := func(v *report.Number, digits int) string {
		switch {
		case v == nil:
			return "-"
		case math.IsInf(float64(*v), 0):
			return "inf"
		}
		return humanize.CommafWithDigits(float64(*v), digits)
	}
	baseline := ""
	if e.NGram != nil {
		baseline = fmt.Sprintf("unigram_ppl    %s\n5-gram_ppl     %s (Kneser-Ney)\n", number(e.Unigram, 2), number(e.NGram, 2))
	}
	_, err := fmt.Fprintf(w, `text           %s
model          %s, step %s
loss           %s nats/token
ppl            %s
word_ppl       %s
bits_per_byte  %s
%stokens         %s in %s (%s/s)
unknown        %s (%.2f%%)
`, e.Text, e.Model, humanize.Comma(e.Step), number(e.Loss, 4), number(e.PPL, 2), number(e.WordPPL, 2), number(e.BitsPerByte, 4), baseline,
		humanize.Comma(e.Tokens), run.Rounded(time.Duration(e.Seconds*float64(time.Second))),
		humanize.Comma(int64(float64(e.Tokens)/max(e.Seconds, 1e-9))), humanize.Comma(e.Unknowns), 100*e.UnknownRate)
	return err
}
