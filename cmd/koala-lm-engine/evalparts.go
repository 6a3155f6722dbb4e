package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/lm"
)

// evalParts are the parts of a loss that a request asks for.
type evalParts struct {
	Documents []documentLoss `json:"by_document,omitempty"`
	Positions []positionLoss `json:"by_position,omitempty"`
	Tokens    []tokenLoss    `json:"by_token,omitempty"`
}

// documentLoss is the mean loss of a document's tokens that are predicted.
type documentLoss struct {
	Document int   `json:"document"` // from 0
	Start    int64 `json:"start"`    // position of its first token
	meanLoss
}

// positionLoss is the mean loss of the tokens that are predicted from this many others.
type positionLoss struct {
	Position int64 `json:"position"`
	meanLoss
}

type meanLoss struct {
	Count int64   `json:"tokens"`
	Loss  float64 `json:"loss"`
}

func (m *meanLoss) add(nats float64) {
	m.Count++
	m.Loss += (nats - m.Loss) / float64(m.Count)
}

// tokenLoss is the loss of one token.
type tokenLoss struct {
	Position int64   `json:"position"` // in the text
	ID       int64   `json:"id"`
	Token    string  `json:"token"`
	Loss     float64 `json:"loss"`
}

// scoreParts returns the loss of the batches, and its parts by document, position and token.
func scoreParts(ctx context.Context, r request.Eval, model *trained, text scoredText, reading lm.Reading, batches data.Batcher, device gotch.Device) (lm.Result, evalParts, error) {
	fail := func(err error) (lm.Result, evalParts, error) { return lm.Result{}, evalParts{}, err }
	by := func(what string) bool { return slices.Contains(r.By, what) }
	if by("position") && model.model.CarriesState() {
		return fail(fmt.Errorf("--by position needs a model that reads windows, and %s carries its state through the whole text", model.name))
	}
	// The same batches of a text whose tokens are their positions.
	positions := make([]uint32, text.tokens.Len())
	for i := range positions {
		positions[i] = uint32(i)
	}
	reading.WithinDocuments = false
	places, err := reading.Batches(model.model, data.NewTokens(positions))
	if err != nil {
		return fail(err)
	}
	starts := make([]int64, len(positions))
	if by("document") {
		if err := text.tokens.ReadStarts(starts, 0); err != nil {
			return fail(fmt.Errorf("--by document: %w", err))
		}
	}
	losses, read := make([]float64, len(positions)), make([]int64, len(positions))
	result, err := lm.EvaluateTokens(ctx, model.model, batches, device, func(b data.Batch, nats []float64) error {
		at, err := places.Next()
		if err != nil {
			return err
		}
		for i, target := range at.Targets {
			if b.Targets[i] == data.Ignore {
				continue
			}
			losses[target] = nats[i]
			if read[target] = int64(i%b.T) + 1; b.First != nil {
				read[target] -= b.First[i]
			}
		}
		return nil
	})
	if err != nil {
		return fail(err)
	}
	var parts evalParts
	if by("document") {
		for at := 1; at < len(losses); at++ {
			if n := len(parts.Documents); n == 0 || parts.Documents[n-1].Start != starts[at] {
				parts.Documents = append(parts.Documents, documentLoss{Document: n, Start: starts[at]})
			}
			parts.Documents[len(parts.Documents)-1].add(losses[at])
		}
	}
	if by("position") {
		parts.Positions = make([]positionLoss, slices.Max(read))
		for at := 1; at < len(losses); at++ {
			parts.Positions[read[at]-1].add(losses[at])
		}
		for i := range parts.Positions {
			parts.Positions[i].Position = int64(i) + 1
		}
		parts.Positions = slices.DeleteFunc(parts.Positions, func(p positionLoss) bool { return p.Count == 0 })
	}
	if by("token") {
		tok, err := model.tokenizer()
		if err != nil {
			return fail(err)
		}
		for at := 1; at < len(losses); at++ {
			id := text.tokens.At(at)
			parts.Tokens = append(parts.Tokens, tokenLoss{int64(at), int64(id), tok.Token(uint32(id)), losses[at]})
		}
	}
	return result, parts, nil
}
