package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
)

type generateOptions struct {
	app         *app
	model       modelFlags
	compute     computeFlags
	prompt      string
	prompts     string
	logProbs    bool
	tokens      int
	temperature float64
	topK        int
	topP        float64
	minP        float64
	repetition  float64
	frequency   float64
	presence    float64
	stop        []string
	seed        int64
	count       int
	format      string
	changed     func(flag string) bool
}

func newGenerateCmd(a *app) *cobra.Command {
	opts := &generateOptions{app: a}
	cmd := &cobra.Command{
		Use:   "generate RUN|CHECKPOINT",
		Short: "Write text with a model",
		Long: `Write text with a model, as it is sampled. The same seed gives the same text;
without --seed a random one is chosen and printed.

For a run, generate uses its best checkpoint, or the last one if it was never
evaluated.`,
		Example: `  koala-lm generate latest
  koala-lm generate best --prompt "Package http provides" --tokens 200 --temperature 0.8
  koala-lm generate gpt --top-k 40 --top-p 0.95 --seed 7 --count 3
  head -3 book.txt | koala-lm generate gpt --prompt -
  koala-lm generate gpt --prompts questions.txt --format json --log-probs`,
		Args: modelArgs(&opts.model, 1, 1, "a RUN or a CHECKPOINT"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.changed = cmd.Flags().Changed
			return runGenerate(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	opts.model.add(cmd)
	f.StringVarP(&opts.prompt, "prompt", "p", "", "`text` to continue; - reads standard input")
	f.StringVar(&opts.prompts, "prompts", "", "`file` with a prompt on each line; in a .jsonl file a string, or an object with the key prompt")
	f.IntVar(&opts.tokens, "tokens", 100, "largest number of new tokens in a sample")
	f.Float64Var(&opts.temperature, "temperature", 1, "below 1 is surer, above 1 wilder; 0 takes the likeliest token")
	f.IntVar(&opts.topK, "top-k", 0, "sample among this many likeliest tokens (0: all)")
	f.Float64Var(&opts.topP, "top-p", 1, "sample among the likeliest tokens that have this probability together")
	f.Float64Var(&opts.minP, "min-p", 0, "sample among tokens at least this times as likely as the likeliest")
	f.Float64Var(&opts.repetition, "repetition-penalty", 1, "divides positive logits of tokens that the prompt or the text has, and multiplies others")
	f.Float64Var(&opts.frequency, "frequency-penalty", 0, "number taken off a token's logit each time that the text has it")
	f.Float64Var(&opts.presence, "presence-penalty", 0, "number taken off a token's logit once the text has it")
	f.StringArrayVar(&opts.stop, "stop", nil, "end a sample before this `text` (repeatable)")
	f.Int64Var(&opts.seed, "seed", 0, "seed of the sampling (default: a random one, which is printed)")
	f.IntVar(&opts.count, "count", 1, "number of samples, of each prompt")
	f.BoolVar(&opts.logProbs, "log-probs", false, "print the model's log-probability of each token; with --format json")
	addFormatFlag(cmd, &opts.format, "text", "json")
	opts.compute.add(cmd)
	return cmd
}

func runGenerate(ctx context.Context, opts *generateOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	model, _, err := opts.model.resolve(ctx)
	if err != nil {
		return err
	}
	if err := opts.readPrompt(); err != nil {
		return err
	}
	if opts.prompts != "" {
		if opts.prompts, err = absolute(opts.prompts); err != nil {
			return err
		}
	}
	if !opts.changed("seed") {
		opts.seed = rand.Int64N(1_000_000)
		opts.app.notef("seed %d", opts.seed)
	}
	return request.Exec("generate", &request.Generate{
		Common: opts.compute.common(opts.app), Model: model,
		Prompt: opts.prompt, Prompts: opts.prompts, Tokens: opts.tokens,
		Temperature: opts.temperature, TopK: opts.topK, TopP: opts.topP,
		MinP: opts.minP, Repetition: opts.repetition, Frequency: opts.frequency, Presence: opts.presence, Stop: opts.stop,
		Seed: opts.seed, Count: opts.count, Format: opts.format, LogProbs: opts.logProbs,
	})
}

func (opts *generateOptions) check() error {
	finite := func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
	switch {
	case opts.tokens < 1 || opts.tokens > 1_000_000:
		return usagef("--tokens must be from 1 to 1000000, not %d", opts.tokens)
	case opts.temperature < 0 || !finite(opts.temperature):
		return usagef("--temperature must be a number of at least 0, not %v", opts.temperature)
	case opts.topK < 0:
		return usagef("--top-k must be at least 1, or 0 for all tokens, not %d", opts.topK)
	case !(opts.topP > 0 && opts.topP <= 1):
		return usagef("--top-p must be greater than 0 and at most 1, not %v", opts.topP)
	case !(opts.minP >= 0 && opts.minP <= 1):
		return usagef("--min-p must be from 0 to 1, not %v", opts.minP)
	case !(opts.repetition > 0) || !finite(opts.repetition):
		return usagef("--repetition-penalty must be a number above 0, not %v", opts.repetition)
	case !finite(opts.frequency) || !finite(opts.presence):
		return usagef("--frequency-penalty and --presence-penalty must be numbers, not %v and %v", opts.frequency, opts.presence)
	case slices.Contains(opts.stop, ""):
		return usagef("--stop is empty")
	case opts.prompts != "" && opts.changed("prompt"):
		return usagef("--prompt and --prompts cannot be given at once")
	case opts.logProbs && opts.format != "json":
		return usagef("--log-probs needs --format json")
	case opts.count < 1 || opts.count > 10_000:
		return usagef("--count must be from 1 to 10000, not %d", opts.count)
	}
	return opts.compute.check()
}

// readPrompt reads the prompt from standard input if asked to.
func (opts *generateOptions) readPrompt() error {
	const most = 100 << 10 // fits into a request unless many characters need escapes
	if opts.prompt == "-" {
		text, err := io.ReadAll(io.LimitReader(opts.app.io.In, most+1))
		if err != nil {
			return fmt.Errorf("read prompt: %w", err)
		}
		if len(text) > most {
			return fmt.Errorf("the prompt on standard input is longer than %d bytes", most)
		}
		opts.prompt = string(text)
	}
	if !utf8.ValidString(opts.prompt) {
		return fmt.Errorf("the prompt is not UTF-8")
	}
	return nil
}
