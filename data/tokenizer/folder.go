package tokenizer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A model's folder has a tokenizer's file and says more about it beside: the class that reads
// it, and tokens that the file may not have. transformers 5 adds these when it loads the
// folder (TokenizersBackend), and so does Load.

// findInFolder finds the tokenizer in a model's folder: the first file among the
// names that transformers looks for.
func findInFolder(dir string) (string, error) {
	for _, name := range []string{"tokenizer.json", "tekken.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	for _, pattern := range []string{"*.tiktoken", "*.model", "rwkv_vocab*.txt"} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("%s has no tokenizer in it: looked for tokenizer.json, tekken.json, *.model, vocab.json with merges.txt, vocab.txt, *.tiktoken, rwkv_vocab*.txt", dir)
}

// modelFolder is what the files beside a tokenizer say about it.
type modelFolder struct {
	class  string                 // without "Fast"
	prefix bool                   // a space comes before the text
	listed map[uint32]folderToken // tokens with the ids that they had when the folder was saved
	older  bool                   // the list is that of an older folder: it has the tokens of the tokenizer's file, too
	named  namedTokens
}

// readModelFolder reads tokenizer_config.json and, if that lists no added tokens,
// special_tokens_map.json and added_tokens.json, which stand beside it in older folders.
func readModelFolder(dir string) (m modelFolder, err error) {
	m.named.common = map[string]folderToken{}
	var config struct {
		Class  string                 `json:"tokenizer_class"`
		Prefix bool                   `json:"add_prefix_space"`
		Listed map[uint32]folderToken `json:"added_tokens_decoder"`
	}
	if err := readBeside(dir, "tokenizer_config.json", &config, &m.named); err != nil {
		return m, err
	}
	m.class, m.prefix, m.listed = strings.TrimSuffix(config.Class, "Fast"), config.Prefix, config.Listed
	if m.listed != nil {
		return m, nil
	}
	var ids vocabObject
	if err := cmp.Or(readBeside(dir, "special_tokens_map.json", &m.named), readBeside(dir, "added_tokens.json", &ids)); err != nil {
		return m, err
	}
	m.older, m.listed = true, map[uint32]folderToken{}
	for _, e := range ids {
		special := slices.ContainsFunc(m.named.all(), func(t folderToken) bool { return t.Content == e.token })
		m.listed[e.id] = folderToken{Content: e.token, Special: special, Normalized: !special}
	}
	return m, nil
}

// readBeside decodes a file of a model's folder, if it is there.
func readBeside(dir, name string, into ...any) error {
	content, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, into := range into {
		err = cmp.Or(err, jsonError("", json.Unmarshal(content, into)))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// folderToken is an added token as files beside the tokenizer write it: its text alone, which
// makes it special, or an object.
type folderToken addedToken

func (t *folderToken) UnmarshalJSON(content []byte) error {
	if content[0] != '{' {
		*t = folderToken{Special: true}
		return json.Unmarshal(content, &t.Content)
	}
	read := struct {
		*addedToken
		Normalized *bool `json:"normalized"`
	}{addedToken: (*addedToken)(t)}
	err := json.Unmarshal(content, &read)
	if t.Normalized = !t.Special; read.Normalized != nil {
		t.Normalized = *read.Normalized
	}
	return err
}

// commonNames are the names of special tokens that every tokenizer may have, in the order in
// which transformers adds these.
var commonNames = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// namedTokens are the special tokens that a folder names.
type namedTokens struct {
	common         map[string]folderToken // without content if the folder says that there is none
	objects, texts []folderToken          // with names of their own, such as image_token
	extra          []folderToken          // without a name
}

// all returns the tokens in the order in which transformers adds them.
func (s *namedTokens) all() (all []folderToken) {
	for _, name := range commonNames {
		all = append(all, s.common[name])
	}
	all = slices.Concat(all, s.objects, s.texts, s.extra)
	return slices.DeleteFunc(all, func(t folderToken) bool { return t.Content == "" })
}

// UnmarshalJSON takes the tokens of an object of many settings. They take the place of
// earlier ones with the same name.
func (s *namedTokens) UnmarshalJSON(content []byte) error {
	var err error
	read := func(value string, into any) { err = cmp.Or(err, json.Unmarshal([]byte(value), into)) }
	token := func(value string) (t folderToken) {
		read(value, &t)
		return t
	}
	var extra, older []folderToken
	var byName []folderToken
	for _, m := range objectMembers(string(content)) {
		switch first := m.value[0]; {
		case m.key == "extra_special_tokens" && first == '{':
			for _, named := range objectMembers(m.value) {
				byName = append(byName, token(named.value))
			}
		case m.key == "extra_special_tokens":
			read(m.value, &extra)
		case m.key == "additional_special_tokens": // its name before transformers 5
			read(m.value, &older)
		case slices.Contains(commonNames, m.key):
			s.common[m.key] = token(m.value)
		case strings.HasSuffix(m.key, "_token") && first == '{':
			s.objects = append(s.objects, token(m.value))
		case strings.HasSuffix(m.key, "_token") && first == '"':
			s.texts = append(s.texts, token(m.value))
		}
	}
	s.texts = append(s.texts, byName...)
	if len(extra) == 0 && len(s.extra) == 0 {
		extra = older
	}
	s.extra = append(s.extra, extra...)
	return err
}

// addTo returns a tokenizer with the added tokens that the folder names beside its file. A
// token that the tokenizer has keeps its id, and takes the flags with which the folder lists
// it; the others get the next ids.
func (m *modelFolder) addTo(t *Pipeline) (Tokenizer, error) {
	usual := m.classTokens()
	if t.pad != "" {
		usual["pad_token"] = t.pad
	}
	for name, token := range usual {
		if _, ok := m.named.common[name]; !ok {
			m.named.common[name] = folderToken{Content: token, Special: true}
		}
	}
	if m.older {
		for _, a := range t.added {
			m.listed[a.ID] = folderToken(a)
		}
	}
	added, next := slices.Clone(t.added), uint32(t.modelSize)
	beyond := maps.Clone(t.beyond)
	for _, a := range added {
		next = max(next, a.ID+1)
	}
	find := func(token folderToken) int {
		return slices.IndexFunc(added, func(a addedToken) bool { return a.Content == token.Content })
	}
	put := func(token folderToken) {
		a := addedToken(token)
		if i := find(token); i >= 0 {
			a.ID = added[i].ID
			added[i] = a
			return
		}
		var known bool
		if a.ID, known = t.ID(a.Content); !known {
			a.ID = next
			next++
			beyond[a.Content] = a.ID
		}
		added = append(added, a)
	}
	for _, id := range slices.Sorted(maps.Keys(m.listed)) {
		put(m.listed[id])
	}
	listed := len(added)
	named := m.named.all()
	for i, token := range named {
		if at := find(token); 0 <= at && at < listed {
			added[at].Special = true
		} else if !slices.Contains(named[:i], token) {
			token.Special = true
			put(token)
		}
	}
	if slices.Equal(added, t.added) {
		return t, nil
	}
	list, err := json.Marshal(added)
	if err != nil {
		return nil, err
	}
	content := t.content
	if t.modelIDs > t.modelSize { // with gaps
		content = withEntries(content, beyond)
	}
	// The list takes the place of the file's own, or stands first.
	from := strings.IndexByte(content, '{') + 1
	to, before, after := from, `"added_tokens":`, ","
	if m, ok := memberOf(content, "added_tokens"); ok {
		from, to, before, after = m.at, m.at+len(m.value), "", ""
	}
	return Parse([]byte(content[:from] + before + string(list) + after + content[to:]))
}

// withEntries returns a tokenizer.json with more entries in its model's vocabulary. A reader
// gives added tokens the numbers after the model's size. If the model's ids have gaps, those
// are in use, and only an entry of the model keeps a larger id.
func withEntries(content string, entries map[string]uint32) string {
	model, _ := memberOf(content, "model")
	vocab, _ := memberOf(model.value, "vocab")
	if len(entries) == 0 || !strings.HasPrefix(vocab.value, "{") {
		return content
	}
	text, _ := json.Marshal(entries) // cannot fail on strings and numbers
	at := model.at + vocab.at + 1
	return content[:at] + string(text[1:len(text)-1]) + "," + content[at:]
}

// memberOf returns an object's last member of a name.
func memberOf(text, key string) (last member, found bool) {
	for _, m := range objectMembers(text) {
		if m.key == key {
			last, found = m, true
		}
	}
	return last, found
}

// classTokens are the special tokens of transformers' classes, in the order of commonNames; "-"
// is none. A folder may name others.
var classTokens = []struct{ classes, tokens string }{
	{"Albert FNet RemBert", "[CLS] [SEP] <unk> [SEP] <pad> [CLS] [MASK]"},
	{"Bart Barthez Blenderbot Camembert LED LayoutLMv3 LayoutXLM Longformer Luke MBart MarkupLM Mvp Nllb Roberta XLMRoberta", "<s> </s> <unk> </s> <pad> <s> <mask>"},
	{"Bert DistilBert Electra LayoutLM LayoutLMv2 Lxmert MobileBert RoFormer Splinter SqueezeBert", "- - [UNK] [SEP] [PAD] [CLS] [MASK]"},
	{"BigBird", "<s> </s> <unk> [SEP] <pad> [CLS] [MASK]"},
	{"CLIP", "<|startoftext|> <|endoftext|> <|endoftext|> - <|endoftext|> - -"},
	{"Cohere", "<BOS_TOKEN> <|END_OF_TURN_TOKEN|> <UNK> <SEP> <PAD> <CLS> <MASK_TOKEN>"},
	{"Deberta DebertaV2", "[CLS] [SEP] [UNK] [SEP] [PAD] [CLS] [MASK]"},
	{"Funnel XLNet", "<s> </s> <unk> <sep> <pad> <cls> <mask>"},
	{"CodeGen GPT2 Whisper", "<|endoftext|> <|endoftext|> <|endoftext|> - - - -"},
	{"GPTNeoX", "<|endoftext|> <|endoftext|> <|endoftext|> - <|padding|> - -"},
	{"Gemma Siglip2", "<bos> <eos> <unk> - <pad> - <mask>"},
	{"Herbert", "- - <unk> </s> <pad> <s> <mask>"},
	{"MBart50", "- </s> <unk> </s> <pad> <s> <mask>"},
	{"MPNet", "<s> </s> [UNK] </s> <pad> <s> <mask>"},
	{"Nougat", "<s> </s> <unk> - <pad> - -"},
	{"OpenAIGPT", "- - <unk> - - - -"},
	{"Pegasus", "- </s> <unk> - <pad> - <mask_2>"},
	{"Qwen2", "- <|endoftext|> <|endoftext|> - <|endoftext|> - -"},
	{"Reformer", "- </s> <unk> - - - -"},
	{"SeamlessM4T XGLM", "<s> </s> <unk> </s> <pad> <s> -"},
	{"T5", "- </s> <unk> - <pad> - -"},
	{"Udop", "- </s> <unk> </s> <pad> - -"},
}

// classTokens returns the special tokens of the folder's class by name.
func (m *modelFolder) classTokens() map[string]string {
	tokens := map[string]string{}
	for _, c := range classTokens {
		if !slices.Contains(strings.Fields(c.classes), strings.TrimSuffix(m.class, "Tokenizer")) {
			continue
		}
		for i, token := range strings.Fields(c.tokens) {
			if token != "-" {
				tokens[commonNames[i]] = token
			}
		}
	}
	return tokens
}

// specialNames are the special tokens of files that do not mark special tokens.
var specialNames = []string{
	EndOfText, "<s>", "<pad>", "</s>", "<unk>", "<mask>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|startoftext|>",
}

// specials returns the special tokens among the entries of a vocabulary, if the folder's class
// does not say which those are.
func (m *modelFolder) specials(vocab []vocabEntry) (added []addedToken) {
	if len(m.classTokens()) > 0 {
		return nil
	}
	for _, e := range vocab {
		if slices.Contains(specialNames, e.token) {
			added = append(added, addedToken{ID: e.id, Content: e.token, Special: true})
		}
	}
	slices.SortFunc(added, func(a, b addedToken) int { return cmp.Compare(a.ID, b.ID) })
	return added
}

// build makes a tokenizer of a file and what the folder adds to it.
func (m *modelFolder) build(f file) (Tokenizer, error) {
	t, err := build(f)
	if p, ok := t.(*Pipeline); ok {
		return m.addTo(p)
	}
	return t, err
}
