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
	for _, prompt := range prompts {
		var err error
		if g.Prompt, err = run.PromptTokens(tok, prompt); err != nil {
			return err
		}
		for first := 0; first < r.Count; first += sideBySide {
			if err := out.generate(ctx, model, g, prompt, first, min(sideBySide, r.Count-first)); err != nil {
				return err
			}
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

// samples writes texts in their order. Of a batch of texts, the first is written
// while it is generated.
type samples struct {
	w       io.Writer
	r       request.Generate
	tok     tokenizer.Tokenizer
	written bool // an earlier batch was

	prompt  string
	first   int // number of texts[0]
	texts   []strings.Builder
	streams []*tokenizer.Stream
	tokens  [][]lm.Drawn
	held    []string // the end of each text, which may be the start of a stop text
	begun   bool
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

// generate continues the prompt by a batch of samples, of which first is the number of the
// first.
func (s *samples) generate(ctx context.Context, model *trained, g lm.Generation, prompt string, first, texts int) error {
	d, err := model.model.NewDecoder(texts)
	if err != nil {
		return err
	}
	defer d.Close()
	before := g.Prompt[len(g.Prompt)-1]
	if prompt == "" {
		before = -1 // the start token prints nothing
	}
	s.start(prompt, before, first, texts)
	if err = lm.Generate(ctx, d, g, first, texts, s.take); err == nil || ctx.Err() != nil {
		// Print what was generated so far, even after an interrupt.
		err = errors.Join(s.end(), err)
	}
	return err
}

// start begins a batch. before is the last token before the generated ones.
func (s *samples) start(prompt string, before int64, first, texts int) {
	s.prompt, s.first, s.begun = prompt, first, false
	s.texts, s.tokens, s.streams, s.held = make([]strings.Builder, texts), make([][]lm.Drawn, texts), nil, make([]string, texts)
	for range texts {
		s.streams = append(s.streams, tokenizer.NewStream(s.tok, before))
	}
}

func (s *samples) take(i int, token lm.Drawn) error {
	s.tokens[i] = append(s.tokens[i], token)
	text, ends := s.cut(i, s.streams[i].Next(uint32(token.ID)))
	if err := s.write(i, text); err != nil {
		return err
	}
	if ends {
		return lm.ErrTextEnds
	}
	return nil
}

// cut appends text to a sample's held text and returns the part that can be written.
// That part ends before a stop text, which ends the sample, or before a possible
// start of one.
func (s *samples) cut(i int, text string) (ready string, ends bool) {
	text = s.held[i] + text
	s.held[i] = ""
	first := -1
	for _, stop := range s.r.Stop {
		if at := strings.Index(text, stop); at >= 0 && (first < 0 || at < first) {
			first = at
		}
	}
	if first >= 0 {
		s.streams[i] = tokenizer.NewStream(s.tok, -1) // drops the bytes that it holds
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
	s.held[i] = text[len(text)-hold:]
	return text[:len(text)-hold], false
}

func (s *samples) write(i int, text string) error {
	if i > 0 || s.r.Format == "json" {
		s.texts[i].WriteString(text)
		return nil
	}
	if !s.begun {
		s.begun = true
		text = s.head(0) + text
	}
	_, err := io.WriteString(s.w, text)
	return err
}

// head returns the text before a sample: a separator, and the prompt.
func (s *samples) head(i int) string {
	head := s.prompt
	if s.written || i > 0 {
		head = "\n---\n" + head
	}
	return head
}

// end writes the rest of the samples.
func (s *samples) end() error {
	for i := range s.texts {
		rest, _ := s.cut(i, s.streams[i].Rest())
		s.texts[i].WriteString(rest + s.held[i])
		if err := s.finish(i); err != nil {
			return err
		}
	}
	s.written = true
	return nil
}

// finish writes the rest of a sample.
func (s *samples) finish(i int) error {
	if s.r.Format != "json" {
		head := s.head(i)
		if i == 0 && s.begun {
			head = ""
		}
		_, err := io.WriteString(s.w, head+s.texts[i].String()+"\n")
		return err
	}
	line := sample{Sample: s.first + i, Seed: s.r.Seed, Prompt: s.prompt, Text: s.texts[i].String(), Tokens: len(s.tokens[i])}
	for _, token := range s.tokens[i] {
		if s.r.LogProbs {
			line.IDs, line.LogProbs = append(line.IDs, token.ID), append(line.LogProbs, token.LogProb)
		}
	}
	encoder := json.NewEncoder(s.w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(line)
}
