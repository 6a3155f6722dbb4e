package tokenizer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// file is the layout of tokenizer.json. Parts whose layout depends on their type are
// `any` here and raw in rawFile.
type file struct {
	Version       string       `json:"version"`
	Truncation    any          `json:"truncation"`
	Padding       any          `json:"padding"`
	AddedTokens   []addedToken `json:"added_tokens"`
	Normalizer    any          `json:"normalizer"`
	PreTokenizer  any          `json:"pre_tokenizer"`
	PostProcessor any          `json:"post_processor"`
	Decoder       any          `json:"decoder"`
	Model         any          `json:"model"`
}

// wordLevelModel is the model part of word and character tokenizers.
type wordLevelModel struct {
	Type     string       `json:"type"`
	Vocab    orderedVocab `json:"vocab"`
	UnkToken string       `json:"unk_token"`
}

func writeJSON(w io.Writer, f file) error {
	f.Version = "1.0"
	buffered := bufio.NewWriter(w)
	enc := json.NewEncoder(buffered)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(f); err != nil {
		return err
	}
	return buffered.Flush()
}

// rawFile is a tokenizer.json whose parts are not parsed yet.
type rawFile struct {
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Padding       json.RawMessage `json:"padding"`
	Model         modelPart       `json:"model"`
}

// Parse reads the content of a tokenizer.json: one that this package wrote, or one of
// Hugging Face's tokenizers. A part that it does not support is an error that names
// the part.
func Parse(content []byte) (Tokenizer, error) {
	text := string(content)
	raw, ok := divideFile(text)
	if !ok {
		if err := json.Unmarshal(content, &raw); err != nil {
			return nil, fmt.Errorf("line %d: %w", errorLine(content, err), jsonError("", err))
		}
	}
	return parseDivided(raw, text)
}

func parseDivided(raw rawFile, content string) (Tokenizer, error) {
	if t, err := parseOwn(raw); t != nil || err != nil {
		return t, err
	}
	t, err := parsePipeline(raw, content)
	if err != nil {
		return nil, err
	}
	if isByte(t) {
		return Byte{}, nil
	}
	return t, nil
}

// divideFile does what json.Unmarshal does with a rawFile, in one pass. Of a file that it
// cannot read, encoding/json says what is wrong.
func divideFile(content string) (raw rawFile, ok bool) {
	s := scanner{text: content}
	ok = s.members(0, func(key string) bool {
		s.next()
		if key == "model" && s.next() == '{' {
			raw.Model = modelPart{}
			return raw.Model.divide(&s)
		}
		start := s.at
		if !s.skip(1) {
			return false
		}
		value := []byte(s.text[start:s.at])
		switch key {
		case "added_tokens":
			raw.AddedTokens = nil
			return json.Unmarshal(value, &raw.AddedTokens) == nil
		case "normalizer":
			raw.Normalizer = value
		case "pre_tokenizer":
			raw.PreTokenizer = value
		case "post_processor":
			raw.PostProcessor = value
		case "decoder":
			raw.Decoder = value
		case "padding":
			raw.Padding = value
		case "model":
			raw.Model = modelPart{fields: value}
		}
		return true
	})
	if !ok || s.next() != 0 || s.at != len(content) {
		return rawFile{}, false
	}
	return raw, true
}

// parseOwn reads this package's word and character tokenizers, whose behaviour the
// file does not fully describe: they treat an unfinished last line as finished. It
// returns nil for other files.
func parseOwn(raw rawFile) (Tokenizer, error) {
	if typeOf(raw.Model.fields) != "WordLevel" {
		return nil, nil
	}
	var model struct {
		Vocab    vocabObject `json:"-"`
		UnkToken string      `json:"unk_token"`
	}
	if err := raw.Model.read(&model, &model.Vocab, nil); err != nil {
		return nil, err
	}
	if model.UnkToken != UnknownToken {
		return nil, nil
	}
	lower, word := wordNormalizer(raw.Normalizer)
	chars := isNull(raw.Normalizer) && splitsChars(raw.PreTokenizer) && len(model.Vocab) > charSeparator
	if word = word && typeOf(raw.PreTokenizer) == "WhitespaceSplit"; !word && !chars {
		return nil, nil
	}
	tokens, err := model.Vocab.dense()
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if word {
		t, err := NewWord(tokens, lower)
		if err != nil {
			return nil, fmt.Errorf("model: vocab: %w", err)
		}
		return t, nil
	}
	if tokens[charUnknown] != UnknownToken || tokens[charSeparator] != EndOfText {
		return nil, nil
	}
	t, err := parseChar(tokens)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	return t, nil
}

// wordNormalizer reports whether a normalizer turns each line end into <eos> (ok),
// and whether it converts the text to lower case before (lower).
func wordNormalizer(part json.RawMessage) (lower, ok bool) {
	steps := []json.RawMessage{part}
	if typeOf(part) == "Sequence" {
		var sequence struct {
			Normalizers []json.RawMessage `json:"normalizers"`
		}
		if json.Unmarshal(part, &sequence) != nil {
			return false, false
		}
		steps = sequence.Normalizers
	}
	if len(steps) == 2 && typeOf(steps[0]) == "Lowercase" {
		lower, steps = true, steps[1:]
	}
	var replace struct {
		Type    string  `json:"type"`
		Pattern pattern `json:"pattern"`
		Content string  `json:"content"`
	}
	return lower, len(steps) == 1 && len(steps[0]) > 0 && json.Unmarshal(steps[0], &replace) == nil &&
		replace.Type == "Replace" && deref(replace.Pattern.String) == "\n" && replace.Content == " "+EndOfLine+" "
}

// newSplit is the pre-tokenizer whose pieces are the matches of an expression and the
// text between them.
func newSplit(pattern string) any {
	return map[string]any{"type": "Split", "pattern": map[string]any{"Regex": pattern}, "behavior": "Isolated", "invert": false}
}

// byteLevel is the pre-tokenizer, post-processor and decoder of byte-level BPE.
type byteLevel struct {
	Type           string `json:"type"`
	AddPrefixSpace bool   `json:"add_prefix_space"`
	TrimOffsets    bool   `json:"trim_offsets"`
	UseRegex       *bool  `json:"use_regex"`
}

func newByteLevel(useRegex bool) byteLevel {
	return byteLevel{Type: "ByteLevel", TrimOffsets: true, UseRegex: &useRegex}
}
