package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// bpeModel is the model part of tokenizer.json. The options that are pointers
// are null unless they change what the model does.
type bpeModel struct {
	Type                    string       `json:"type"`
	Dropout                 *float64     `json:"dropout"`
	UnkToken                *string      `json:"unk_token"`
	ContinuingSubwordPrefix *string      `json:"continuing_subword_prefix"`
	EndOfWordSuffix         *string      `json:"end_of_word_suffix"`
	FuseUnk                 bool         `json:"fuse_unk"`
	ByteFallback            bool         `json:"byte_fallback"`
	IgnoreMerges            bool         `json:"ignore_merges"`
	Vocab                   orderedVocab `json:"vocab"`
	Merges                  [][2]string  `json:"merges"`
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

// WriteJSON writes a BPE model, with the parts around it as they were read.
func (t *BPE) WriteJSON(w io.Writer) error {
	merges := make([][2]string, len(t.merges))
	for rank, m := range t.merges {
		merges[rank] = [2]string{t.written[m.left], t.written[m.right]}
	}
	var normalizer any
	if t.nfc {
		normalizer = map[string]any{"type": "NFC"}
	}
	return writeJSON(w, file{
		AddedTokens:   t.added,
		Normalizer:    normalizer,
		PreTokenizer:  t.parts.preTokenizer,
		PostProcessor: t.parts.postProcessor,
		Decoder:       t.parts.decoder,
		Model: bpeModel{
			Type: "BPE", IgnoreMerges: t.whole,
			Vocab: orderedVocab{t.model, t.Token}, Merges: merges,
		},
	})
}

// mergeList reads merges in both layouts: ["a", "b"], and "a b" as older
// files have it.
type mergeList [][2]string

func (l *mergeList) UnmarshalJSON(content []byte) error {
	var pairs [][]string
	if json.Unmarshal(content, &pairs) == nil {
		for i, p := range pairs {
			if len(p) != 2 {
				return fmt.Errorf("merges: merge %d has %d parts, want 2", i, len(p))
			}
			*l = append(*l, [2]string{p[0], p[1]})
		}
		return nil
	}
	var lines []string
	if err := json.Unmarshal(content, &lines); err != nil {
		return errors.New("merges must be a list of pairs of tokens")
	}
	for i, line := range lines {
		left, right, ok := strings.Cut(line, " ")
		if !ok || strings.Contains(right, " ") {
			return fmt.Errorf("merges: merge %d is %q, want two tokens", i, line)
		}
		*l = append(*l, [2]string{left, right})
	}
	return nil
}

// parseBPE reads a BPE model that is byte-level.
func parseBPE(raw rawFile) (Tokenizer, error) {
	var model struct {
		Dropout                 *float64  `json:"dropout"`
		UnkToken                *string   `json:"unk_token"`
		ContinuingSubwordPrefix *string   `json:"continuing_subword_prefix"`
		EndOfWordSuffix         *string   `json:"end_of_word_suffix"`
		ByteFallback            bool      `json:"byte_fallback"`
		IgnoreMerges            bool      `json:"ignore_merges"`
		Vocab                   vocab     `json:"vocab"`
		Merges                  mergeList `json:"merges"`
	}
	if err := readPart("model", raw.Model, &model); err != nil {
		return nil, err
	}
	unsupported := func(option string) error {
		return fmt.Errorf("model: BPE with %s is not supported, only byte-level BPE as GPT-2 has it", option)
	}
	switch {
	case model.Dropout != nil && *model.Dropout != 0:
		return nil, unsupported("dropout")
	case model.ContinuingSubwordPrefix != nil && *model.ContinuingSubwordPrefix != "":
		return nil, unsupported("continuing_subword_prefix")
	case model.EndOfWordSuffix != nil && *model.EndOfWordSuffix != "":
		return nil, unsupported("end_of_word_suffix")
	case model.ByteFallback:
		return nil, unsupported("byte_fallback")
	}
	kind := typeOf(raw.Normalizer)
	if kind != "" && kind != "NFC" {
		return nil, fmt.Errorf("BPE with normalizer %q is not supported, only without or with NFC", kind)
	}
	split, err := parseSplitter(raw.PreTokenizer)
	if err != nil {
		return nil, err
	}
	special := map[uint32]bool{}
	for _, a := range raw.AddedTokens {
		special[a.ID] = true
	}
	t, err := newBPE(model.Vocab, model.Merges, special)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if split == nil && len(t.merges) > 0 {
		return nil, errors.New("pre_tokenizer: ByteLevel without its regular expression is not supported: it would merge across words")
	}
	t.whole, t.nfc = model.IgnoreMerges, kind == "NFC"
	if err := t.addTokens(raw.AddedTokens); err != nil {
		return nil, err
	}
	if err := checkNormalized(t.added, !t.nfc); err != nil {
		return nil, err
	}
	if split == nil {
		return parseByte(t)
	}
	t.splitter = split
	t.parts = parts{raw.PreTokenizer, raw.PostProcessor, raw.Decoder}
	return t, nil
}

// parseSplitter finds the splitter that a pre_tokenizer describes: ByteLevel
// with its own regular expression (nil if that is off), or one of the known
// expressions before ByteLevel.
func parseSplitter(part json.RawMessage) (splitter, error) {
	kind := typeOf(part)
	if kind == "Sequence" {
		return parseSplitSequence(part)
	}
	if kind != "ByteLevel" {
		return nil, fmt.Errorf("BPE with pre_tokenizer %q is not supported, only with ByteLevel", kind)
	}
	useRegex, err := parseByteLevel(part)
	if err != nil || !useRegex {
		return nil, err
	}
	return newGPT2Splitter(), nil
}

func parseByteLevel(part json.RawMessage) (useRegex bool, err error) {
	var level byteLevel
	if err := readPart("pre_tokenizer", part, &level); err != nil {
		return false, err
	}
	if level.AddPrefixSpace {
		return false, errors.New("pre_tokenizer: ByteLevel with add_prefix_space is not supported")
	}
	return level.UseRegex == nil || *level.UseRegex, nil
}

// parseSplitSequence reads a Split by a known expression and a ByteLevel that
// does not split again.
func parseSplitSequence(part json.RawMessage) (splitter, error) {
	var sequence struct {
		Pretokenizers []json.RawMessage `json:"pretokenizers"`
	}
	if err := readPart("pre_tokenizer", part, &sequence); err != nil {
		return nil, err
	}
	steps := sequence.Pretokenizers
	if len(steps) != 2 || typeOf(steps[0]) != "Split" || typeOf(steps[1]) != "ByteLevel" {
		var kinds []string
		for _, step := range steps {
			kinds = append(kinds, typeOf(step))
		}
		return nil, fmt.Errorf("BPE with pre_tokenizers %s is not supported, only Split and ByteLevel", strings.Join(kinds, ", "))
	}
	var split struct {
		Pattern struct {
			Regex string `json:"Regex"`
		} `json:"pattern"`
		Behavior string `json:"behavior"`
		Invert   bool   `json:"invert"`
	}
	if err := readPart("pre_tokenizer", steps[0], &split); err != nil {
		return nil, err
	}
	useRegex, err := parseByteLevel(steps[1])
	if err != nil {
		return nil, err
	}
	if useRegex || split.Invert || !strings.EqualFold(split.Behavior, "isolated") {
		return nil, errors.New("pre_tokenizer: Split is supported with behavior Isolated and before a ByteLevel with use_regex false")
	}
	known := knownSplitter(split.Pattern.Regex)
	if known == nil {
		return nil, fmt.Errorf("pre_tokenizer: the regular expression %q is not one of the known ones", split.Pattern.Regex)
	}
	return known, nil
}

// knownSplitter returns the splitter that does what an expression says.
func knownSplitter(pattern string) splitter {
	switch pattern {
	case gpt2Pattern:
		return newGPT2Splitter()
	case cl100kPattern:
		return cl100kSplitter{classifier{classes()}, 3}
	case qwen2Pattern:
		return cl100kSplitter{classifier{classes()}, 1}
	}
	return nil
}
