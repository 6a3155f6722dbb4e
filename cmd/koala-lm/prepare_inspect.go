package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/visible"
)

// runInspect is prepare --verify and prepare --show: both read an existing dataset.
func runInspect(opts *prepareOptions) (err error) {
	if len(opts.Paths) > 0 || opts.verify != "" && opts.show != "" {
		return usagef("--verify and --show take a dataset folder and nothing else")
	}
	dir := opts.verify + opts.show
	d, err := data.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if _, err := d.Tokenizer(); err != nil {
		return err
	}
	if opts.verify != "" {
		_, err = fmt.Fprintf(opts.app.io.Out, "%s: whole\n", dir)
		return err
	}
	s, err := summarize(d)
	if err != nil {
		return err
	}
	if opts.format == "json" {
		enc := json.NewEncoder(opts.app.io.Out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	}
	return s.print(opts.app.io.Out)
}

// summary is the output of prepare --show.
type summary struct {
	Name        string         `json:"name"`
	Fingerprint string         `json:"fingerprint"`
	Tokenizer   string         `json:"tokenizer"`
	Vocab       int            `json:"vocab"`
	FloorPPL    *float64       `json:"floor_ppl,omitempty"` // of corpus markov
	SplitBy     string         `json:"split_by"`
	Splits      []splitSummary `json:"splits"`
	Frequent    []frequent     `json:"most_frequent"`

	dir string
}

type splitSummary struct {
	Split         string   `json:"split"`
	Tokens        int64    `json:"tokens"`
	Types         int      `json:"types"`
	Words         int64    `json:"words"`
	Bytes         int64    `json:"bytes"`
	Documents     int64    `json:"documents"`
	UnknownRate   float64  `json:"unknown_rate"`
	BytesPerToken float64  `json:"bytes_per_token"`
	UnigramPPL    *float64 `json:"unigram_ppl"` // null for a split of one token
}

type frequent struct {
	Token string  `json:"token"`
	Count int64   `json:"count"`
	Share float64 `json:"share"`
}

// mostFrequent is the number of tokens that prepare --show lists.
const mostFrequent = 20

func summarize(d *data.Dataset) (*summary, error) {
	info := d.Info()
	s := &summary{
		Name: d.Name(), Fingerprint: d.Fingerprint(), Tokenizer: info.Tokenizer.Kind,
		Vocab: d.Vocab(), SplitBy: info.Split.By, dir: d.Dir(),
	}
	if info.Corpus != nil && info.Corpus.Floor != nil {
		floor := math.Exp(*info.Corpus.Floor)
		s.FloorPPL = &floor
	}
	for _, name := range data.SplitNames {
		split, ok := info.Splits[name]
		if !ok {
			continue
		}
		counts, err := d.Counts(name)
		if err != nil {
			return nil, err
		}
		ppl, err := d.UnigramPPL(name)
		if err != nil {
			return nil, err
		}
		line := splitSummary{
			Split: name, Tokens: split.Tokens, Words: split.Words, Bytes: split.Bytes, Documents: split.Documents,
			Types:         len(slices.DeleteFunc(slices.Clone(counts), func(n int64) bool { return n == 0 })),
			UnknownRate:   float64(split.Unknowns) / float64(split.Tokens),
			BytesPerToken: float64(split.Bytes) / float64(split.Tokens),
		}
		if !math.IsNaN(ppl) {
			line.UnigramPPL = &ppl
		}
		s.Splits = append(s.Splits, line)
		if name == "train" {
			if s.Frequent, err = frequentTokens(d, counts); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func frequentTokens(d *data.Dataset, counts []int64) ([]frequent, error) {
	t, err := d.Tokenizer()
	if err != nil {
		return nil, err
	}
	ids := make([]int, len(counts))
	total := int64(0)
	for id, n := range counts {
		ids[id] = id
		total += n
	}
	slices.SortStableFunc(ids, func(a, b int) int { return cmp.Compare(counts[b], counts[a]) })
	var list []frequent
	for _, id := range ids[:min(mostFrequent, len(ids))] {
		if counts[id] == 0 {
			break
		}
		list = append(list, frequent{t.Token(uint32(id)), counts[id], float64(counts[id]) / float64(total)})
	}
	return list, nil
}

func (s *summary) print(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s tokenizer, %s ids, split by %s, fingerprint %.12s\n", s.dir, s.Tokenizer, humanize.Comma(int64(s.Vocab)), s.SplitBy, s.Fingerprint)
	fmt.Fprintf(w, "%-6s %14s %10s %12s %9s %12s %12s\n", "", "tokens", "types", "documents", "unknown", "bytes/token", "unigram ppl")
	for _, line := range s.Splits {
		ppl := "-"
		if line.UnigramPPL != nil {
			ppl = fmt.Sprintf("%.1f", *line.UnigramPPL)
		}
		fmt.Fprintf(w, "%-6s %14s %10s %12s %8.2f%% %12.2f %12s\n", line.Split, humanize.Comma(line.Tokens), humanize.Comma(int64(line.Types)),
			humanize.Comma(line.Documents), 100*line.UnknownRate, line.BytesPerToken, ppl)
	}
	if s.FloorPPL != nil {
		fmt.Fprintf(w, "the source's own perplexity: %.2f; no model of its words gets below it\n", *s.FloorPPL)
	}
	var tokens []string
	for _, f := range s.Frequent {
		tokens = append(tokens, fmt.Sprintf("%s %.1f%%", visible.Quoted(f.Token), 100*f.Share))
	}
	_, err := fmt.Fprintf(w, "most frequent: %s\n", strings.Join(tokens, ", "))
	return err
}
