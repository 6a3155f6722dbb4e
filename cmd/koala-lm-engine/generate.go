package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sugarme/gotch"
	"golang.org/x/term"
	"golang.org/x/text/encoding/unicode"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data/tokenizer"
	"github.com/koala-lm/koala-lm/internal/visible"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/run"
)

// generate writes text with a model.
func generate(ctx context.Context, text string, stdout, stderr io.Writer) error {
	var r request.Generate
	if err := request.Parse(text, &r); err != nil {
		return err
	}
	if f, ok := stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		stdout = visible.NewWriter(stdout)
	}
	return withTrained(ctx, r.Common, r.Model, stderr, func(model *trained, _ gotch.Device) error {
		tok, err := model.tokenizer()
		if err != nil {
			return err
		}
		return generateWith(ctx, r, model, tok, stdout)
	})
}

// sideBySide is the number of samples that are generated in one batch.
const sideBySide = 32

func generateWith(ctx context.Context, r request.Generate, model *trained, tok tokenizer.Tokenizer, stdout io.Writer) error {
	prompts := []string{r.Prompt}
	if r.Prompts != "" {
		var err error
		if prompts, err = readPrompts(r.Prompts); err != nil {
			return err
		}
	}
	g := lm.Generation{
		Tokens: r.Tokens, Stop: model.ends, Seed: uint64(r.Seed), LogProbs: r.LogProbs,
		Sampler: lm.Sampler{
			Temperature: r.Temperature, TopK: r.TopK, TopP: r.TopP, MinP: r.MinP,
			Repetition: r.Repetition, Frequency: r.Frequency, Presence: r.Presence,
		},
	}
	if id, ok := tok.Separator(); ok {
		g.Stop = append(g.Stop, int64(id))
	}
	out := &samples{w: stdout, r: r, tok: tok}
	var texts []lm.Text
	for _, prompt := range prompts {
		ids, err := run.PromptTokens(tok, prompt)
		if err != nil {
			return err
		}
		for i := range r.Count {
			texts = append(texts, lm.Text{Prompt: ids, Sample: i})
			out.texts = append(out.texts, &sampled{prompt: prompt})
		}
	}
	for _, batch := range lm.Batches(texts, r.Tokens, sideBySide) {
		if err := out.generate(ctx, model, g, texts, batch); err != nil {
			return err
		}
	}
	return nil
}

// readPrompts reads a file's prompts, one on each line that is not empty. In a .jsonl file a
// line is a string, or an object with the key prompt.
func readPrompts(path string) ([]string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("prompts: %w", err)
	}
	if line := invalidLine(content); line > 0 {
		return nil, fmt.Errorf("%s: line %d is not UTF-8", path, line)
	}
	var prompts []string
	for i, line := range strings.Split(string(content), "\n") {
		if line = strings.TrimSuffix(line, "\r"); line == "" {
			continue
		}
		if filepath.Ext(path) == ".jsonl" {
			prompt := jsonPrompt(line)
			if prompt == nil {
				return nil, fmt.Errorf("%s: line %d is no prompt: it must be a string, or an object such as {\"prompt\": \"Once\"}", path, i+1)
			}
			line = *prompt
		}
		prompts = append(prompts, line)
	}
	if len(prompts) == 0 {
		return nil, fmt.Errorf("%s has no prompt: it needs at least one line", path)
	}
	return prompts, nil
}

// jsonPrompt returns the prompt in a JSON string or object, nil if there is none.
func jsonPrompt(line string) *string {
	var text *string
	if json.Unmarshal([]byte(line), &text) == nil {
		return text
	}
	var object struct{ Prompt *string }
	if json.Unmarshal([]byte(line), &object) != nil {
		return nil
	}
	return object.Prompt
}

// samples writes texts in their order, whatever the order in which they are
// generated. The first text that is not written yet is written while it is generated.
type samples struct {
	w       io.Writer
	r       request.Generate
	tok     tokenizer.Tokenizer
	texts   []*sampled
	written int  // texts before this one are written, or never will be
	any     bool // a text is written
	begun   bool // the text of number written is written in part
}

// sampled is a text and what is not yet written of it.
type sampled struct {
	prompt string
	text   strings.Builder
	stream *tokenizer.Stream
	tokens []lm.Drawn
	held   string // the end of the text, which may be the start of a stop text
	ended  bool
}

// sample is one line of --format json.
type sample struct {
	Sample   int       `json:"sample"` // from 0
	Seed     int64     `json:"seed"`
	Prompt   string    `json:"prompt"`
	Text     string    `json:"text"` // the continuation
	Tokens   int       `json:"tokens"`
	IDs      []int64   `json:"token_ids,omitempty"` // with --log-probs
	LogProbs []float64 `json:"log_probs,omitempty"`
}

// generate continues a batch of texts.
func (s *samples) generate(ctx context.Context, model *trained, g lm.Generation, texts []lm.Text, batch []int) error {
	d, err := model.model.NewDecoder(len(batch))
	if err != nil {
		return err
	}
	defer d.Close()
	prompts := make([]lm.Text, len(batch))
	for i, n := range batch {
		prompts[i] = texts[n]
		before := texts[n].Prompt[len(texts[n].Prompt)-1]
		if s.texts[n].prompt == "" {
			before = -1 // the start token prints nothing
		}
		s.texts[n].stream = tokenizer.NewStream(s.tok, before)
	}
	err = lm.Generate(ctx, d, g, prompts, func(i int, token lm.Drawn) error { return s.take(batch[i], token) })
	if err == nil || ctx.Err() != nil {
		// Print what was generated so far, even after an interrupt.
		err = errors.Join(s.end(batch, err != nil), err)
	}
	return err
}

func (s *samples) take(n int, token lm.Drawn) error {
	t := s.texts[n]
	t.tokens = append(t.tokens, token)
	text, ends := s.cut(t, t.stream.Next(uint32(token.ID)))
	t.text.WriteString(text)
	if n == s.written && s.r.Format != "json" {
		if err := s.write(t); err != nil {
			return err
		}
	}
	if ends {
		return lm.ErrTextEnds
	}
	return nil
}

// cut appends text to a sample's held text and returns the part that can be written.
// That part ends before a stop text, which ends the sample, or before a possible
// start of one.
func (s *samples) cut(t *sampled, text string) (ready string, ends bool) {
	text = t.held + text
	t.held = ""
	first := -1
	for _, stop := range s.r.Stop {
		if at := strings.Index(text, stop); at >= 0 && (first < 0 || at < first) {
			first = at
		}
	}
	if first >= 0 {
		t.stream = tokenizer.NewStream(s.tok, -1) // drops the bytes that it holds
		return text[:first], true
	}
	hold := 0
	for _, stop := range s.r.Stop {
		for n := min(len(stop)-1, len(text)); n > hold; n-- {
			if strings.HasSuffix(text, stop[:n]) {
				hold = n
			}
		}
	}
	t.held = text[len(text)-hold:]
	return text[:len(text)-hold], false
}

// write writes what is not yet written of a text, at first after a separator and the prompt.
func (s *samples) write(t *sampled) error {
	text := t.text.String()
	t.text.Reset()
	if !s.begun {
		s.begun = true
		text = t.prompt + text
		if s.any {
			text = "\n---\n" + text
		}
	}
	_, err := io.WriteString(s.w, text)
	return err
}

// end ends a batch and writes the texts that have ended, up to the first that is yet
// to be generated. After an interrupt none is.
func (s *samples) end(batch []int, interrupted bool) error {
	for _, n := range batch {
		t := s.texts[n]
		rest, _ := s.cut(t, t.stream.Rest())
		t.text.WriteString(rest + t.held)
		t.ended = true
	}
	for ; s.written < len(s.texts) && (s.texts[s.written].ended || interrupted); s.written++ {
		if err := s.finish(s.texts[s.written]); err != nil {
			return err
		}
		s.texts[s.written] = nil
	}
	return nil
}

// finish writes the rest of a text.
func (s *samples) finish(t *sampled) error {
	if !t.ended {
		return nil
	}
	defer func() { s.any, s.begun = true, false }()
	if s.r.Format != "json" {
		t.text.WriteString("\n")
		return s.write(t)
	}
	// Bytes that are no characters become one U+FFFD for each start of a character, as in
	// Python and the decoders of tokenizers; encoding/json would write one for each byte.
	text, err := unicode.UTF8.NewDecoder().String(t.text.String())
	if err != nil {
		return err
	}
	line := sample{Sample: s.written % s.r.Count, Seed: s.r.Seed, Prompt: t.prompt, Text: text, Tokens: len(t.tokens)}
	for _, token := range t.tokens {
		if s.r.LogProbs {
			line.IDs, line.LogProbs = append(line.IDs, token.ID), append(line.LogProbs, token.LogProb)
		}
	}
	encoder := json.NewEncoder(s.w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(line)
}
