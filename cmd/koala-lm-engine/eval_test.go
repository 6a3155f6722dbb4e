package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/koala-lm/koala-lm/cmd/internal/exit"
	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data/prepare"
	"github.com/koala-lm/koala-lm/metric"
)

// The parts of a loss add up to it, for a model that carries its state and for one that
// reads windows, with and without strides and document masks. Several texts give a line each.
func TestEvalByParts(t *testing.T) {
	w := newWorkshop(t)
	documents := filepath.Join(t.TempDir(), "documents.jsonl")
	var lines strings.Builder
	for i, line := range strings.Split(string(sentences(300)), "\n") {
		text, err := json.Marshal(map[string]string{"text": strings.Repeat(line+"\n", 1+i%3)})
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(text, '\n'))
	}
	if err := os.WriteFile(documents, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	w.data = filepath.Join(t.TempDir(), "data")
	opts := prepare.Options{Paths: []string{documents}, Field: "text", Out: w.data, Valid: 0.2, Tokenizer: "char"}
	if _, err := prepare.Run(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text.txt")
	if err := os.WriteFile(text, sentences(5), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string][]string{
		"lstm":     {"model.kind=lstm"},
		"gpt":      {"model.kind=transformer", "model.context=12", "model.heads=2"},
		"document": {"model.kind=transformer", "model.context=12", "model.heads=2", "train.document_mask=true"},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.another(t)
			w.train(w.request(settings(t, append(set, "train.steps=2")...), "")).mustEnd(t, exit.OK)
			trained, _ := w.run()
			r := request.Eval{
				Common: request.Common{Device: "cpu", Threads: 1}, Model: request.Model{Run: trained.ID, Store: w.store, Runs: w.runs},
				Data: w.data, Split: "valid", Format: "json", Batch: 3, By: []string{"document", "token"}, Baseline: true,
			}
			if name != "lstm" {
				r.By, r.Stride = append(r.By, "position"), 5
			}
			var whole evalResult
			if err := json.Unmarshal([]byte(ask(t, "eval", &r)), &whole); err != nil {
				t.Fatal(err)
			}
			near := func(what string, sum float64, tokens int64) {
				t.Helper()
				if tokens != whole.Tokens || !(math.Abs(sum/float64(tokens)-float64(*whole.Loss)) < 1e-6) {
					t.Errorf("by %s: %d tokens with the mean loss %.7f, want %d with %.7f", what, tokens, sum/float64(tokens), whole.Tokens, float64(*whole.Loss))
				}
			}
			sum, n := 0.0, int64(0)
			for _, token := range whole.evalParts.Tokens {
				sum += token.Loss
			}
			near("token", sum, int64(len(whole.evalParts.Tokens)))
			if sum = 0; len(whole.Documents) < 20 {
				t.Errorf("%d documents", len(whole.Documents))
			}
			for _, d := range whole.Documents {
				sum, n = sum+d.Loss*float64(d.Count), n+d.Count
			}
			near("document", sum, n)
			if sum, n = 0, 0; name != "lstm" {
				for i, p := range whole.Positions {
					sum, n = sum+p.Loss*float64(p.Count), n+p.Count
					if p.Position != int64(i)+1 {
						t.Errorf("position %d is number %d", p.Position, i)
					}
				}
				near("position", sum, n)
			}
			if whole.NGram == nil || whole.Unigram == nil || !(*whole.NGram < *whole.Unigram) {
				t.Errorf("5-gram perplexity %v, unigram %v", whole.NGram, whole.Unigram)
			} else if recorded := trained.Metrics[metric.Valid+metric.NGramPPL]; recorded.Last != float64(*whole.NGram) || recorded.Step != 2 {
				t.Errorf("5-gram perplexity %v, the run recorded %+v", *whole.NGram, recorded)
			}

			r.Data, r.Split, r.By, r.Baseline = "", "", []string{"document"}, false
			r.Texts = []string{text, text}
			out := strings.SplitAfter(ask(t, "eval", &r), "\n")
			var one evalResult
			if err := json.Unmarshal([]byte(out[0]), &one); err != nil || len(out) != 3 {
				t.Fatalf("%d lines: %v", len(out)-1, err)
			}
			if len(one.Documents) != 1 || one.Documents[0].Count != one.Tokens || one.Text != text {
				t.Errorf("a text has the documents %+v", one.Documents)
			}
		})
	}
}
