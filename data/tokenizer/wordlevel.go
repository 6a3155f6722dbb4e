package tokenizer

import (
	"encoding/json"
	"fmt"
)

// parseWordLevel reads a WordLevel model whose other parts say that it is the
// Word or the Char tokenizer.
func parseWordLevel(raw rawFile) (Tokenizer, error) {
	var model struct {
		Vocab    vocab  `json:"vocab"`
		UnkToken string `json:"unk_token"`
	}
	if err := readPart("model", raw.Model, &model); err != nil {
		return nil, err
	}
	if splitsChars(raw.PreTokenizer) && typeOf(raw.Normalizer) == "" {
		t, err := parseChar(model.Vocab)
		if err != nil {
			return nil, fmt.Errorf("model: %w", err)
		}
		return t, nil
	}
	if kind := typeOf(raw.PreTokenizer); kind != "WhitespaceSplit" {
		return nil, fmt.Errorf("WordLevel with pre_tokenizer %q is not supported, only with WhitespaceSplit", kind)
	}
	if model.UnkToken != UnknownToken {
		return nil, fmt.Errorf("WordLevel with unk_token %q is not supported, only with %s", model.UnkToken, UnknownToken)
	}
	lower, err := wordNormalizer(raw.Normalizer)
	if err != nil {
		return nil, err
	}
	t, err := NewWord(model.Vocab, lower)
	if err != nil {
		return nil, fmt.Errorf("model: vocab: %w", err)
	}
	return t, nil
}

// wordNormalizer checks that '\n' becomes <eos>, and tells whether the text
// is put in lower case before.
func wordNormalizer(part json.RawMessage) (lower bool, err error) {
	steps := []json.RawMessage{part}
	if typeOf(part) == "Sequence" {
		var sequence struct {
			Normalizers []json.RawMessage `json:"normalizers"`
		}
		if err := readPart("normalizer", part, &sequence); err != nil {
			return false, err
		}
		steps = sequence.Normalizers
	}
	if len(steps) == 2 && typeOf(steps[0]) == "Lowercase" {
		lower, steps = true, steps[1:]
	}
	var replace struct {
		Type    string `json:"type"`
		Pattern struct {
			String string `json:"String"`
		} `json:"pattern"`
		Content string `json:"content"`
	}
	if len(steps) == 1 && len(steps[0]) > 0 && json.Unmarshal(steps[0], &replace) == nil &&
		replace.Type == "Replace" && replace.Pattern.String == "\n" && replace.Content == " "+EndOfLine+" " {
		return lower, nil
	}
	return false, fmt.Errorf("WordLevel is supported with a normalizer that replaces each line end by %s, not with %q", EndOfLine, typeOf(part))
}
