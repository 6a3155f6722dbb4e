package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Format is the version of the dataset folder that this package writes.
const Format = 1

// Names of the files in a dataset folder.
const (
	InfoFile      = "dataset.json"
	TokenizerFile = "tokenizer.json"
)

// SplitNames are the splits that a dataset can have, in their order. Only
// train is always there.
var SplitNames = []string{"train", "valid", "test"}

// Info is the content of dataset.json.
type Info struct {
	Format    int                  `json:"format"`
	Name      string               `json:"name"`
	Tokenizer TokenizerInfo        `json:"tokenizer"`
	TokenType string               `json:"token_type"` // uint16 or uint32
	Splits    map[string]SplitInfo `json:"splits"`
	Split     SplitRule            `json:"split"`
	Corpus    *CorpusInfo          `json:"corpus,omitempty"`
	Sources   []SourceInfo         `json:"sources"`
	Skipped   int64                `json:"skipped_records,omitempty"` // records that could not be read
	Dropped   int64                `json:"dropped_duplicates,omitempty"`
	Sample    float64              `json:"sample,omitempty"`     // the fraction of the text that was used, if not all
	MaxTokens int64                `json:"max_tokens,omitempty"` // the limit of train, if it has one
	Mix       map[string]float64   `json:"mix,omitempty"`        // the weights of a mix's texts, by path
	Text      map[string]TextStats `json:"text,omitempty"`       // statistics of the splits; only after a dry run
}

// TextStats are statistics of a split's text.
type TextStats struct {
	Documents  int64              `json:"documents"`
	Duplicates int64              `json:"duplicates"` // documents whose text an earlier document of the split has
	Bytes      int64              `json:"bytes"`
	Words      int64              `json:"words"`
	Lines      int64              `json:"lines"`
	Types      int64              `json:"types"` // different words; the count ends shortly after two million
	Shortest   int64              `json:"shortest_document"`
	Median     int64              `json:"median_document"` // bytes
	Longest    int64              `json:"longest_document"`
	Scripts    map[string]float64 `json:"scripts"` // each script's share of the letters
}

// TokenizerInfo describes tokenizer.json.
type TokenizerInfo struct {
	Kind      string `json:"kind"`
	Vocab     int    `json:"vocab"`
	MinCount  int    `json:"min_count,omitempty"`
	Lower     bool   `json:"lower,omitempty"`
	Special   bool   `json:"special_in_text,omitempty"` // special tokens that are spelled out in text get their ids
	SHA256    string `json:"sha256"`
	Unknown   *int64 `json:"unknown,omitempty"`   // the id of the unknown token, if there is one
	Separator *int64 `json:"separator,omitempty"` // the id between documents, if there is one
	BOS       *int64 `json:"bos,omitempty"`       // the id at the start of each document, if there is one
	EOS       *int64 `json:"eos,omitempty"`       // the id at the end of each document, if there is one
}

// SplitInfo describes one split and its file.
type SplitInfo struct {
	File      string `json:"file"`
	Tokens    int64  `json:"tokens"`
	Words     int64  `json:"words"` // words between white space, and one for each line end: the unit of word_ppl
	Bytes     int64  `json:"bytes"` // length of the text in UTF-8
	Unknowns  int64  `json:"unknowns"`
	Documents int64  `json:"documents"`
	SHA256    string `json:"sha256"`
	Starts    string `json:"starts_sha256,omitempty"` // of the index of documents, StartsFile; "" in a dataset without one
}

// SplitRule says how the text was divided.
type SplitRule struct {
	By    string  `json:"by"` // documents, lines, words (of text without lines), characters (without words), layout, files or none
	Valid float64 `json:"valid"`
	Test  float64 `json:"test"`
	Seed  uint64  `json:"seed,omitempty"` // seed of the order in which documents were drawn
}

// CorpusInfo describes a named corpus.
type CorpusInfo struct {
	Name    string   `json:"name"`
	Version string   `json:"version,omitempty"`    // godoc: Go's version
	Seed    uint64   `json:"seed,omitempty"`       // markov
	Floor   *float64 `json:"floor_nats,omitempty"` // markov: entropy of the source, nats per word-level token
}

// SourceInfo is one file, archive or stream that text was read from.
type SourceInfo struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// ParseInfo reads and checks the content of dataset.json.
func ParseInfo(content []byte) (Info, error) {
	var info Info
	dec := json.NewDecoder(bytes.NewReader(content))
	if err := dec.Decode(&info); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("it ends too early")
		}
		return Info{}, fmt.Errorf("not a dataset.json: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Info{}, errors.New("not a dataset.json: something follows the object")
	}
	return info, info.check()
}

func (info Info) check() error {
	if info.Format != Format {
		return fmt.Errorf("format is %d, this program reads format %d", info.Format, Format)
	}
	vocab := int64(info.Tokenizer.Vocab)
	if vocab < 1 || vocab > math.MaxUint32 {
		return fmt.Errorf("tokenizer.vocab is %d, want 1 to %d", vocab, uint32(math.MaxUint32))
	}
	if want := TokenType(info.Tokenizer.Vocab); info.TokenType != want {
		return fmt.Errorf("token_type is %q, want %q for a vocabulary of %d", info.TokenType, want, vocab)
	}
	if _, ok := info.Splits["train"]; !ok {
		return errors.New("splits has no train")
	}
	for _, id := range []*int64{info.Tokenizer.Unknown, info.Tokenizer.Separator, info.Tokenizer.BOS, info.Tokenizer.EOS} {
		if id != nil && (*id < 0 || *id >= vocab) {
			return fmt.Errorf("tokenizer has a special id of %d in a vocabulary of %d", *id, vocab)
		}
	}
	for name, split := range info.Splits {
		if !slices.Contains(SplitNames, name) {
			return fmt.Errorf("splits.%s: unknown split, want %s", name, strings.Join(SplitNames, ", "))
		}
		if want := name + ".bin"; split.File != want {
			return fmt.Errorf("splits.%s.file is %q, want %q", name, split.File, want)
		}
		if split.Tokens < 1 || split.Tokens > math.MaxInt64/4 {
			return fmt.Errorf("splits.%s.tokens is %d, want at least 1", name, split.Tokens)
		}
		if split.Words < 0 || split.Bytes < 0 || split.Unknowns < 0 || split.Unknowns > split.Tokens {
			return fmt.Errorf("splits.%s: a count is out of range", name)
		}
		if !isSum(split.SHA256) {
			return fmt.Errorf("splits.%s.sha256 is %q, want 64 hexadecimal digits", name, split.SHA256)
		}
		if split.Starts != "" && !isSum(split.Starts) {
			return fmt.Errorf("splits.%s.starts_sha256 is %q, want 64 hexadecimal digits", name, split.Starts)
		}
		if split.Starts != "" && (split.Documents < 1 || split.Documents > math.MaxInt64/8) {
			return fmt.Errorf("splits.%s.documents is %d, want at least 1", name, split.Documents)
		}
	}
	return nil
}

func isSum(text string) bool {
	sum, err := hex.DecodeString(text)
	return err == nil && len(sum) == sha256.Size
}

// Fingerprint identifies the tokenizer and the token files by one SHA-256.
// Two datasets with the same fingerprint give the same batches. The index of
// documents is left out, so that a dataset keeps the fingerprint that it had
// before there was one.
func (info Info) Fingerprint() string {
	h := sha256.New()
	fmt.Fprintf(h, "koala-lm dataset %d\ntokenizer %s\n", info.Format, info.Tokenizer.SHA256)
	for _, name := range SplitNames {
		if split, ok := info.Splits[name]; ok {
			fmt.Fprintf(h, "%s %s %s\n", name, info.TokenType, split.SHA256)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TokenType is the type of ids in the token files of a vocabulary.
func TokenType(vocab int) string {
	if vocab <= 1<<16 {
		return "uint16"
	}
	return "uint32"
}
