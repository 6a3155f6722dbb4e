package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Files of other tools are converted to a tokenizer.json that gives the same ids:
// tiktoken's ranks, vocab.json with merges.txt, BERT's vocab.txt, Mistral's
// tekken.json, SentencePiece's .model (sentencepiece.go), RWKV's vocabulary (rwkv.go), and a
// model's folder with one of them.

// Load reads a tokenizer from a file of one of these formats, or from a model's
// folder.
func Load(path string) (Tokenizer, error) {
	stat, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	dir := ""
	if stat.IsDir() {
		dir = path
		if path, err = findInFolder(path); err != nil {
			return nil, err
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t, err := parseNamed(path, content)
	if p, ok := t.(*Pipeline); ok && err == nil && dir != "" {
		var folder modelFolder
		if folder, err = readModelFolder(dir); err == nil {
			t, err = folder.addTo(p)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// parseNamed reads a file in the format that its name and content show.
func parseNamed(path string, content []byte) (Tokenizer, error) {
	name := strings.ToLower(filepath.Base(path))
	head := bytes.TrimLeft(content[:min(len(content), 1<<10)], " \t\r\n")
	switch {
	case len(head) > 0 && head[0] == '{' && !strings.HasSuffix(name, ".txt"):
		return parseObject(path, content)
	case strings.Contains(name, "merges"):
		return parseMerges(path, content)
	case strings.HasSuffix(name, ".tiktoken") || isTiktoken(head):
		return parseTiktoken(content)
	case strings.HasSuffix(name, ".model") || len(content) > 0 && content[0] == '\n' && !strings.HasSuffix(name, ".txt"):
		return parseSentencePiece(content)
	case isRWKV(head):
		return parseRWKV(filepath.Dir(path), content)
	case strings.HasSuffix(name, ".txt"):
		return parseVocabTxt(path, content)
	}
	return Parse(content)
}

// parseObject reads a JSON file: tokenizer.json, tekken.json, or vocab.json with
// its merges.txt in the same folder.
func parseObject(path string, content []byte) (Tokenizer, error) {
	text := string(content)
	if raw, ok := divideFile(text); ok && raw.Model.vocab != "" {
		return parseDivided(raw, text)
	}
	var keys struct {
		Model  json.RawMessage `json:"model"`
		Config json.RawMessage `json:"config"`
		Vocab  json.RawMessage `json:"vocab"`
	}
	// A vocab.json may have tokens of these names.
	object := func(part json.RawMessage, start byte) bool { return len(part) > 0 && part[0] == start }
	if err := json.Unmarshal(content, &keys); err == nil && !object(keys.Model, '{') {
		if object(keys.Config, '{') && object(keys.Vocab, '[') {
			return parseTekken(content)
		}
		var vocab vocabObject
		if json.Unmarshal(content, &vocab) == nil && len(vocab) > 0 {
			for _, name := range beside(path, "vocab", "merges", ".txt") {
				if text, err := os.ReadFile(name); err == nil {
					return parseVocabMerges(filepath.Dir(path), vocab, text)
				}
			}
			return nil, errors.New("a vocab.json needs its merges.txt beside it")
		}
	}
	return Parse(content)
}

// beside returns the possible paths of a file's companion: x-merges.txt and
// merges.txt for x-vocab.json.
func beside(path, part, other, ending string) []string {
	dir, name := filepath.Split(path)
	name = strings.TrimSuffix(name, filepath.Ext(name))
	return []string{filepath.Join(dir, strings.Replace(name, part, other, 1)+ending), filepath.Join(dir, other+ending)}
}

// parseMerges reads merges.txt with the vocab.json in its folder.
func parseMerges(path string, content []byte) (Tokenizer, error) {
	for _, name := range beside(path, "merges", "vocab", ".json") {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var vocab vocabObject
		if err := json.Unmarshal(text, &vocab); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return parseVocabMerges(filepath.Dir(path), vocab, content)
	}
	return nil, errors.New("a merges.txt needs its vocab.json beside it")
}

// gpt2Classes are the classes of transformers that cut text as GPT-2 does.
var gpt2Classes = []string{"", "GPT2Tokenizer", "RobertaTokenizer", "BartTokenizer", "LongformerTokenizer", "LEDTokenizer", "CodeGenTokenizer", "WhisperTokenizer", "GPTNeoXTokenizer"}

// parseVocabMerges makes a tokenizer from a vocabulary and its merges: like GPT-2's, or
// like Qwen's if the folder says so.
func parseVocabMerges(dir string, vocab vocabObject, merges []byte) (Tokenizer, error) {
	folder, err := readModelFolder(dir)
	if err != nil {
		return nil, err
	}
	level := newByteLevel(true)
	level.AddPrefixSpace = folder.prefix
	f := file{AddedTokens: folder.specials(vocab), PreTokenizer: level, PostProcessor: newByteLevel(true), Decoder: newByteLevel(true)}
	switch {
	case folder.class == "Qwen2Tokenizer":
		f.Normalizer = map[string]any{"type": "NFC"}
		f.PreTokenizer = map[string]any{"type": "Sequence", "pretokenizers": []any{newSplit(qwen2Pattern), newByteLevel(false)}}
	case !slices.Contains(gpt2Classes, folder.class):
		return nil, fmt.Errorf("vocab.json and merges.txt do not say how a %s cuts text: save the tokenizer with transformers (save_pretrained) and use its tokenizer.json", folder.class)
	}
	pairs := [][2]string{} // not null, for a file without merges
	for line := range strings.Lines(string(merges)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "#version") || line == "" {
			continue
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok {
			return nil, fmt.Errorf("merges.txt: %q is not two tokens", line)
		}
		pairs = append(pairs, [2]string{left, right})
	}
	for _, e := range vocab {
		if strings.HasSuffix(e.token, "</w>") {
			return nil, errors.New("a vocabulary with </w> does not say how its text is cleaned: save the tokenizer with transformers (save_pretrained) and use its tokenizer.json")
		}
	}
	f.Model = bpeModel{Type: "BPE", Vocab: sparseVocab(vocab), Merges: pairs}
	return folder.build(f)
}

// build writes a tokenizer.json and reads it.
func build(f file) (Tokenizer, error) {
	var content bytes.Buffer
	if err := writeJSON(&content, f); err != nil {
		return nil, err
	}
	return Parse(content.Bytes())
}

// sparseVocab is marshalled as an object in the order of ids, which may have gaps.
type sparseVocab []vocabEntry

func (v sparseVocab) MarshalJSON() ([]byte, error) {
	sorted := slices.Clone(v)
	slices.SortFunc(sorted, func(a, b vocabEntry) int { return cmp.Compare(a.id, b.id) })
	b := []byte{'{'}
	for i, e := range sorted {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, quote(e.token)...)
		b = strconv.AppendUint(append(b, ':'), uint64(e.id), 10)
	}
	return append(b, '}'), nil
}

// parseVocabTxt reads BERT's vocabulary: a token a line. It is cased if any token
// has a capital, unless the folder's tokenizer_config.json says otherwise, which also says
// what becomes of accents and ideographs.
func parseVocabTxt(path string, content []byte) (Tokenizer, error) {
	var vocab []vocabEntry
	cased, unknown := false, false
	for line := range strings.Lines(string(content)) {
		token := strings.TrimRight(line, "\r\n")
		vocab = append(vocab, vocabEntry{token, uint32(len(vocab))})
		special := strings.HasPrefix(token, "[") && strings.HasSuffix(token, "]")
		cased = cased || !special && strings.ToLower(token) != token
		unknown = unknown || token == "[UNK]"
	}
	if !unknown {
		return nil, errors.New("not a vocab.txt of BERT: it has no [UNK]; a tokenizer is a tokenizer.json, .model, .tiktoken, tekken.json, vocab.json with merges.txt, RWKV's vocabulary, or a folder with one of them")
	}
	config := struct {
		Lower   *bool `json:"do_lower_case"`
		Strip   *bool `json:"strip_accents"` // null: as do_lower_case
		Chinese bool  `json:"tokenize_chinese_chars"`
	}{Chinese: true}
	if err := readBeside(filepath.Dir(path), "tokenizer_config.json", &config); err != nil {
		return nil, err
	}
	folder, err := readModelFolder(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if config.Lower != nil {
		cased = !*config.Lower
	}
	return folder.build(file{
		AddedTokens:  folder.specials(vocab),
		Normalizer:   map[string]any{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": config.Chinese, "strip_accents": config.Strip, "lowercase": !cased},
		PreTokenizer: map[string]any{"type": "BertPreTokenizer"},
		Decoder:      map[string]any{"type": "WordPiece", "prefix": "##", "cleanup": true},
		Model: map[string]any{
			"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": sparseVocab(vocab),
		},
	})
}

// isTiktoken reports whether a file starts with a line of base64, a space and a
// rank.
func isTiktoken(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	token, rank, ok := strings.Cut(strings.TrimSpace(string(line)), " ")
	if !ok || len(token)%4 != 0 {
		return false
	}
	_, err := base64.StdEncoding.DecodeString(token)
	_, numErr := strconv.ParseUint(rank, 10, 32)
	return err == nil && numErr == nil
}

// tiktokens are the known files of ranks: the number of ranks, and the split
// expression and special tokens, which the file does not contain.
var tiktokens = []struct {
	ranks   int
	pattern string
	nfc     bool
	special map[uint32]string
}{
	{50256, gpt2Pattern, false, map[uint32]string{50256: EndOfText}},
	{50257, gpt2Pattern, false, map[uint32]string{50257: EndOfText}}, // multilingual Whisper
	{100256, cl100kPattern, false, map[uint32]string{100257: EndOfText, 100258: "<|fim_prefix|>", 100259: "<|fim_middle|>", 100260: "<|fim_suffix|>", 100276: "<|endofprompt|>"}},
	{128000, cl100kPattern, false, map[uint32]string{128000: "<|begin_of_text|>", 128001: "<|end_of_text|>"}}, // Llama 3
	{151643, qwen2Pattern, true, map[uint32]string{151643: EndOfText, 151644: "<|im_start|>", 151645: "<|im_end|>"}},
	{199998, o200kPattern, false, map[uint32]string{199999: EndOfText, 200018: "<|endofprompt|>"}},
}

// parseTiktoken reads ranks: each line is a token in base64 and its rank.
func parseTiktoken(content []byte) (Tokenizer, error) {
	ranks := make([][]byte, 0, bytes.Count(content, []byte("\n")))
	for line := range strings.Lines(string(content)) {
		token, rank, ok := strings.Cut(strings.TrimSpace(line), " ")
		if token == "" {
			continue
		}
		text, err := base64.StdEncoding.DecodeString(strings.Trim(token, "=") + strings.Repeat("=", -len(strings.Trim(token, "="))&3))
		n, numErr := strconv.ParseUint(rank, 10, 32)
		if !ok || err != nil || numErr != nil || n != uint64(len(ranks)) {
			return nil, fmt.Errorf("line %d is not a token in base64 and the next rank", len(ranks)+1)
		}
		ranks = append(ranks, text)
	}
	for _, known := range tiktokens {
		if len(ranks) != known.ranks {
			continue
		}
		var normalizer any
		if known.nfc {
			normalizer = map[string]any{"type": "NFC"}
		}
		return buildRanks(ranks, 0, known.pattern, normalizer, known.special)
	}
	return nil, fmt.Errorf("the split expression of a file of %d ranks is not known: save the tokenizer with transformers (save_pretrained) and use its tokenizer.json", len(ranks))
}

// parseTekken reads Mistral's tekken.json: ranks in base64 with their split
// expression; the special tokens have the first ids.
func parseTekken(content []byte) (Tokenizer, error) {
	var read struct {
		Config struct {
			Pattern string `json:"pattern"`
			Size    int    `json:"default_vocab_size"`
			Special int    `json:"default_num_special_tokens"`
		} `json:"config"`
		Vocab []struct {
			Rank  int    `json:"rank"`
			Bytes []byte `json:"token_bytes"`
		} `json:"vocab"`
		Special []struct {
			Rank uint32 `json:"rank"`
			Text string `json:"token_str"`
		} `json:"special_tokens"`
	}
	if err := json.Unmarshal(content, &read); err != nil {
		return nil, jsonError("tekken.json", err)
	}
	c := read.Config
	if c.Special < 0 || c.Special > c.Size || c.Size-c.Special > len(read.Vocab) || c.Size > maxVocabulary {
		return nil, fmt.Errorf("config: %d ids with %d special ones do not fit a vocabulary of %d", c.Size, c.Special, len(read.Vocab))
	}
	ranks := make([][]byte, c.Size-c.Special)
	for i := range ranks {
		if read.Vocab[i].Rank != i {
			return nil, fmt.Errorf("vocab: entry %d has the rank %d", i, read.Vocab[i].Rank)
		}
		ranks[i] = read.Vocab[i].Bytes
	}
	special := map[uint32]string{}
	for i := range c.Special {
		special[uint32(i)] = fmt.Sprintf("<SPECIAL_%d>", i)
	}
	names := []string{
		"<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]",
		"[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
	}
	for i, name := range names[:min(len(names), c.Special)] {
		special[uint32(i)] = name
	}
	for _, s := range read.Special {
		special[s.Rank] = s.Text
	}
	return buildRanks(ranks, uint32(c.Special), c.Pattern, nil, special)
}

// buildRanks makes a tokenizer.json from ranks, whose ids start at first. tiktoken
// merges the two neighbours whose joined bytes have the lowest rank, and does not
// merge within a piece that is a token itself. So every division of a token into
// two tokens becomes a merge, in the order of the merged tokens' ranks.
func buildRanks(ranks [][]byte, first uint32, pattern string, normalizer any, special map[uint32]string) (Tokenizer, error) {
	byText := make(map[string]int, len(ranks))
	for i, text := range ranks {
		byText[string(text)] = i
	}
	spelled := make([]string, len(ranks))
	var vocab []vocabEntry
	var merges [][2]string
	type half struct{ left, right int }
	for i, text := range ranks {
		spelled[i] = string(bytesAsChars{}.see(nil, text))
		vocab = append(vocab, vocabEntry{spelled[i], first + uint32(i)})
		var halves []half
		for n := 1; n < len(text); n++ {
			left, okLeft := byText[string(text[:n])]
			right, okRight := byText[string(text[n:])]
			if okLeft && okRight && left < i && right < i {
				halves = append(halves, half{left, right})
			}
		}
		slices.SortFunc(halves, func(a, b half) int { return cmp.Or(cmp.Compare(a.left, b.left), cmp.Compare(a.right, b.right)) })
		for _, h := range halves {
			merges = append(merges, [2]string{spelled[h.left], spelled[h.right]})
		}
	}
	var added []addedToken
	for id, text := range special {
		added = append(added, addedToken{ID: id, Content: text, Special: true})
		vocab = append(vocab, vocabEntry{text, id}) // in the model, so that the id is kept
	}
	slices.SortFunc(added, func(a, b addedToken) int { return cmp.Compare(a.ID, b.ID) })
	level := newByteLevel(false)
	return build(file{
		AddedTokens: added, Normalizer: normalizer,
		PreTokenizer: map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Split", "pattern": map[string]any{"Regex": pattern}, "behavior": "Isolated", "invert": false}, level,
		}},
		PostProcessor: newByteLevel(true), Decoder: newByteLevel(true),
		Model: bpeModel{Type: "BPE", IgnoreMerges: true, Vocab: sparseVocab(vocab), Merges: merges},
	})
}
