package tokenizer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// file is the layout of tokenizer.json. Parts whose shape depends on their
// type are `any` when written and raw when read.
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

type addedToken struct {
	ID         uint32 `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	Lstrip     bool   `json:"lstrip"`
	Rstrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

type wordLevel struct {
	Type     string       `json:"type"`
	Vocab    orderedVocab `json:"vocab"`
	UnkToken string       `json:"unk_token"`
}

// orderedVocab is written as an object whose keys stand in the order of their
// ids, as Hugging Face writes it.
type orderedVocab struct {
	size  int
	token func(id uint32) string
}

func (v orderedVocab) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for id := range v.size {
		if id > 0 {
			b.WriteByte(',')
		}
		b.Write(quote(v.token(uint32(id))))
		fmt.Fprintf(&b, ":%d", id)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// quote is json.Marshal of a string without the escapes meant for HTML.
func quote(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string and a Buffer cannot fail
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
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

// rawFile is tokenizer.json as it is read.
type rawFile struct {
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         json.RawMessage `json:"model"`
}

// Load reads a tokenizer.json.
func Load(path string) (Tokenizer, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t, err := Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Parse reads the content of a tokenizer.json: one that this package wrote,
// or another tool's if it is of a kind that is known to give the same ids
// here. It refuses the others by the name of the part it does not know.
func Parse(content []byte) (Tokenizer, error) {
	var raw rawFile
	if err := json.Unmarshal(content, &raw); err != nil {
		return nil, fmt.Errorf("line %d: %w", errorLine(content, err), jsonError("", err))
	}
	kind := typeOf(raw.Model)
	switch kind {
	case "":
		return nil, errors.New("not a tokenizer.json: it has no model with a type")
	case "WordLevel":
		return parseWordLevel(raw)
	case "BPE":
		return parseBPE(raw)
	case "WordPiece":
		return parseWordPiece(raw, content)
	case "Unigram":
		return parseUnigram(raw, content)
	}
	return nil, fmt.Errorf("model type %q is not supported", kind)
}

// typeOf returns the "type" of a part, "" if it is absent or null.
func typeOf(part json.RawMessage) string {
	var typed struct {
		Type string `json:"type"`
	}
	if len(part) == 0 || json.Unmarshal(part, &typed) != nil {
		return ""
	}
	return typed.Type
}

// vocab is a vocabulary read from an object of token to id: each id once, and
// none left out.
type vocab []string

func (v *vocab) UnmarshalJSON(content []byte) error {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	start, err := dec.Token()
	if err != nil {
		return err
	}
	if start != json.Delim('{') {
		return fmt.Errorf("vocab must be an object of token to id")
	}
	type entry struct {
		token string
		id    int64
	}
	var entries []entry
	seen := map[string]bool{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		value, err := dec.Token()
		if err != nil {
			return err
		}
		if token := name.(string); seen[token] {
			return fmt.Errorf("vocab: %q is there twice", token)
		} else {
			seen[token] = true
		}
		number, ok := value.(json.Number)
		if !ok {
			return fmt.Errorf("vocab: the id of %q is not a number", name)
		}
		id, err := number.Int64()
		if err != nil || id < 0 {
			return fmt.Errorf("vocab: the id of %q is %s, want a whole number from 0", name, number)
		}
		entries = append(entries, entry{name.(string), id})
	}
	tokens := make([]string, len(entries))
	taken := make([]bool, len(entries))
	for _, e := range entries {
		if e.id >= int64(len(tokens)) {
			return fmt.Errorf("vocab: the id of %q is %d, but there are only %d entries", e.token, e.id, len(tokens))
		}
		if taken[e.id] {
			return fmt.Errorf("vocab: %q and %q have the same id %d", tokens[e.id], e.token, e.id)
		}
		tokens[e.id], taken[e.id] = e.token, true
	}
	*v = tokens
	return nil
}
