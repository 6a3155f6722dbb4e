package tokenizer

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"
)

// wordPiecePrefix starts the tokens that continue a word.
const wordPiecePrefix = "##"

var wordPieceKind = Kind{
	Name: "wordpiece", About: "BERT's parts of words; white space is lost (default 30522 ids)",
	MinVocab: 6, Flags: []string{"vocab-size", "min-count", "lower", "special-token", "train-by"}, // BERT's special tokens and a character
	NewTrainer: func(opts TrainOptions) (Trainer, error) {
		opts.Size = cmp.Or(opts.Size, 30522)
		words, err := newWordsTrainer(opts, bertFile(opts))
		return &wordPieceTrainer{words}, err
	},
}

// bertSpecial are BERT's special tokens, in the order of their ids.
var bertSpecial = []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}

// bertFile is the tokenizer.json of a tokenizer as BERT's, without its model.
func bertFile(opts TrainOptions) file {
	return file{
		AddedTokens: specialTokens(bertSpecial, opts.Special),
		Normalizer: map[string]any{
			"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil, "lowercase": opts.Lower,
		},
		PreTokenizer: map[string]any{"type": "BertPreTokenizer"},
		Decoder:      map[string]any{"type": "WordPiece", "prefix": wordPiecePrefix, "cleanup": true},
	}
}

// wordPieceTrainer learns a vocabulary as Hugging Face's WordPieceTrainer does: the
// tokens are those of BPE merges of characters. The library numbers the characters that
// continue words in the order of a hash table, which differs from run to run, and
// between pairs with equal counts the lower numbers win. Here their order is that of
// the characters.
type wordPieceTrainer struct{ wordsTrainer }

func (t *wordPieceTrainer) Train() (Tokenizer, error) {
	words, err := t.sortedWords()
	if err != nil {
		return nil, err
	}
	f := bertFile(t.opts)
	m := newMergeLearner(f.AddedTokens, wordPiecePrefix)
	m.addChars(words, nil)
	if len(m.vocabulary) > t.opts.Size {
		return nil, fmt.Errorf("a vocabulary of %d has no room for the text's characters: want at least %d", t.opts.Size, len(m.vocabulary))
	}
	m.learn(t.opts)
	f.Model = wordPieceModel{
		Type: "WordPiece", UnkToken: "[UNK]", Prefix: wordPiecePrefix, Longest: 100, Vocab: orderedTokens(m.vocabulary),
	}
	return parseTrained(f)
}

// addChars adds words whose symbols are their characters. Those after the first have
// the prefix; continuing numbers some of these first.
func (t *mergeLearner) addChars(words []countedWord, continuing []string) {
	first, later := map[rune]int64{}, map[rune]int64{}
	for _, w := range words {
		for i, r := range string(w.text) {
			first[r] += w.count
			if i > 0 {
				later[r] += w.count
			}
		}
	}
	for _, r := range sortedRunes(first) {
		t.id(string(r))
	}
	for _, token := range continuing {
		t.id(token)
	}
	for _, r := range sortedRunes(later) {
		t.id(t.prefix + string(r))
	}
	for _, w := range words {
		prefix := ""
		for len(w.text) > 0 {
			_, n := utf8.DecodeRune(w.text)
			t.symbols = append(t.symbols, t.ids[prefix+string(w.text[:n])])
			w.text, prefix = w.text[n:], t.prefix
		}
		t.endWord(w.count)
	}
}

func sortedRunes(set map[rune]int64) []rune {
	runes := make([]rune, 0, len(set))
	for r := range set {
		runes = append(runes, r)
	}
	slices.Sort(runes)
	return runes
}

// wordPieceModel is the model part of a WordPiece tokenizer.
type wordPieceModel struct {
	Type     string       `json:"type"`
	UnkToken string       `json:"unk_token"`
	Prefix   string       `json:"continuing_subword_prefix"`
	Longest  int          `json:"max_input_chars_per_word"`
	Vocab    orderedVocab `json:"vocab"`
}
