package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
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
	prompt, err := run.PromptTokens(tok, r.Prompt)
	if err != nil {
		return err
	}
	g := lm.Generation{
		Prompt: prompt, Tokens: r.Tokens, Stop: model.ends, Seed: uint64(r.Seed),
		Sampler: lm.Sampler{
			Temperature: r.Temperature, TopK: r.TopK, TopP: r.TopP, MinP: r.MinP,
			Repetition: r.Repetition, Frequency: r.Frequency, Presence: r.Presence,
		},
	}
	if id, ok := tok.Separator(); ok {
		g.Stop = append(g.Stop, int64(id))
	}
	before := prompt[len(prompt)-1]
	if r.Prompt == "" {
		before = -1 // the start token prints nothing
	}
	out := newSamples(stdout, r, tok, before)
	for first := 0; first < r.Count; first += sideBySide {
		texts := min(sideBySide, r.Count-first)
		d, err := model.model.NewDecoder(texts)
		if err != nil {
			return err
		}
		out.start(first, texts)
		err = lm.Generate(ctx, d, g, first, texts, out.take)
		d.Close()
		if err == nil || ctx.Err() != nil {
			// Print what was generated so far, even after an interrupt.
			err = errors.Join(out.end(), err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// samples writes texts in their order. Of a batch of texts, the first is written
// while it is generated.
type samples struct {
	w      io.Writer
	r      request.Generate
	tok    tokenizer.Tokenizer
	before int64 // the last token before the generated ones

	first   int // number of texts[0]
	texts   []strings.Builder
	streams []*tokenizer.Stream
	tokens  []int
	held    []string // the end of each text, which may be the start of a stop text
	begun   bool
}

func newSamples(w io.Writer, r request.Generate, tok tokenizer.Tokenizer, before int64) *samples {
	return &samples{w: w, r: r, tok: tok, before: before}
}

// sample is one line of --format json.
type sample struct {
	Sample int    `json:"sample"` // from 0
	Seed   int64  `json:"seed"`
	Prompt string `json:"prompt"`
	Text   string `json:"text"` // the continuation
	Tokens int    `json:"tokens"`
}

func (s *samples) start(first, texts int) {
	s.first, s.begun = first, false
	s.texts, s.tokens, s.streams, s.held = make([]strings.Builder, texts), make([]int, texts), nil, make([]string, texts)
	for range texts {
		s.streams = append(s.streams, tokenizer.NewStream(s.tok, s.before))
	}
}

func (s *samples) take(i int, id int64) error {
	s.tokens[i]++
	text, ends := s.cut(i, s.streams[i].Next(uint32(id)))
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
	head := s.r.Prompt
	if s.first+i > 0 {
		head = "\n---\n" + head
	}
	return head
}

// end writes the rest of the samples.
func (s *samples) end() error {
	for i := range s.texts {
		rest, _ := s.cut(i, s.streams[i].Rest())
		s.texts[i].WriteString(rest + s.held[i])
		if s.r.Format == "json" {
			line := sample{s.first + i, s.r.Seed, s.r.Prompt, s.texts[i].String(), s.tokens[i]}
			encoder := json.NewEncoder(s.w)
			encoder.SetEscapeHTML(false)
			if err := encoder.Encode(line); err != nil {
				return err
			}
			continue
		}
		head := s.head(i)
		if i == 0 && s.begun {
			head = ""
		}
		if _, err := io.WriteString(s.w, head+s.texts[i].String()+"\n"); err != nil {
			return err
		}
	}
	return nil
}
