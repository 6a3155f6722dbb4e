package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// A scoredText is the text that an evaluation scores.
type scoredText struct {
	name    string
	tokens  *data.Tokens
	info    data.SplitInfo
	dataset *data.Dataset // nil for a file
	close   func() error
}

// textToScore opens the text of a path, or the request's split if there is none.
func textToScore(r request.Eval, model *trained, path string) (scoredText, error) {
	if path != "" {
		return readText(path, model)
	}
	d, err := data.Open(r.Data)
	if err != nil {
		return scoredText{}, err
	}
	tokens, ok := d.Split(r.Split)
	if err = model.fits(d); err == nil && !ok {
		err = fmt.Errorf("dataset %s has no %s split", r.Data, r.Split)
	}
	if err != nil {
		_ = d.Close()
		return scoredText{}, err
	}
	return scoredText{r.Split + " of " + d.Dir(), tokens, d.Info().Splits[r.Split], d, d.Close}, nil
}

// readText encodes a file, or standard input, as one document.
func readText(path string, model *trained) (scoredText, error) {
	name, content, err := path, []byte(nil), error(nil)
	if path == "-" {
		name = "standard input"
		content, err = io.ReadAll(os.Stdin)
	} else {
		content, err = os.ReadFile(path)
	}
	if err != nil {
		return scoredText{}, fmt.Errorf("text: %w", err)
	}
	if line := invalidLine(content); line > 0 {
		return scoredText{}, fmt.Errorf("%s: line %d is not UTF-8", name, line)
	}
	tok, err := model.tokenizer()
	if err != nil {
		return scoredText{}, err
	}
	ids, err := tok.NewEncoder().Encode(nil, content, tokenizer.Document)
	if err != nil {
		return scoredText{}, fmt.Errorf("%s: %w", name, err)
	}
	words, lines := tokenizer.CountWords(content)
	info := data.SplitInfo{Tokens: int64(len(ids)), Words: int64(words + lines), Bytes: int64(len(content)), Documents: 1}
	if unknown, ok := tok.Unknown(); ok {
		for _, id := range ids {
			if id == unknown {
				info.Unknowns++
			}
		}
	}
	return scoredText{name, data.NewTokens(ids).WithDocuments([]int{0}), info, nil, func() error { return nil }}, nil
}

// invalidLine returns the number of the first line that is not UTF-8, 0 if all
// lines are.
func invalidLine(text []byte) int {
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size <= 1 {
			return 1 + bytes.Count(text[:at], []byte("\n"))
		}
		at += size
	}
	return 0
}
