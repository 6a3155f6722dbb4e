package tokenizer

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// trained is what Hugging Face's trainers learn from text.txt
// (testdata/make_trained.py).
func trained(t *testing.T) (read struct {
	BPE struct {
		Vocab  []string
		Merges mergeList
	}
	WordPiece []string
	Unigram   json.RawMessage
}) {
	t.Helper()
	if err := json.Unmarshal(fixture(t, "trained.json"), &read); err != nil {
		t.Fatal(err)
	}
	return read
}

// BPE over documents learns what train_from_iterator learns, with a split expression,
// special tokens and the default minimal frequency.
func TestTrainOverDocuments(t *testing.T) {
	want := trained(t).BPE
	var documents []string
	for text := []rune(string(fixture(t, "text.txt"))); len(text) > 0; text = text[min(3000, len(text)):] {
		documents = append(documents, string(text[:min(3000, len(text))]))
	}
	ours := learn(t, bpeKind, TrainOptions{
		Size: 900, MinCount: 1, Split: "gpt4", Documents: true, Special: []string{"<|user|>", EndOfText, "<|bot|>"},
	}, 2, documents...).(*Pipeline)
	if diff := cmp.Diff(want.Vocab, tokensOf(ours)); diff != "" {
		t.Errorf("vocabulary (-theirs +ours):\n%s", diff)
	}
	var file struct{ Model struct{ Merges mergeList } }
	if err := json.Unmarshal([]byte(ours.content), &file); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Merges, file.Model.Merges); diff != "" {
		t.Errorf("merges (-theirs +ours):\n%s", diff)
	}
	if byLines := learn(t, bpeKind, TrainOptions{Size: 900, MinCount: 1, Split: "gpt4"}, 2, documents...); slices.Equal(tokensOf(byLines), want.Vocab) {
		t.Error("lines give the same tokens: the test does not tell them apart")
	}
}

// WordPiece learns the tokens that Hugging Face's trainer learned in a run, if the
// characters that continue words are numbered as they were in that run.
func TestTrainWordPiece(t *testing.T) {
	want := trained(t).WordPiece
	opts := TrainOptions{Size: 600, Lower: true}
	trainer, err := wordPieceKind.NewTrainer(opts)
	if err != nil {
		t.Fatal(err)
	}
	trainer.NewCounter().Add(fixture(t, "text.txt"), 0, Document)
	words, err := trainer.(*wordPieceTrainer).sortedWords()
	if err != nil {
		t.Fatal(err)
	}
	var continuing []string
	for _, token := range want {
		if rest, ok := strings.CutPrefix(token, wordPiecePrefix); ok && len([]rune(rest)) == 1 {
			continuing = append(continuing, token)
		}
	}
	m := newMergeLearner(bertFile(opts).AddedTokens, wordPiecePrefix)
	m.addChars(words, continuing)
	m.learn(opts)
	if diff := cmp.Diff(want, m.vocabulary); diff != "" {
		t.Errorf("vocabulary (-theirs +ours):\n%s", diff)
	}
	// In the order of the characters the vocabulary differs only by pairs with equal counts.
	tok, err := trainer.Train()
	if err != nil {
		t.Fatal(err)
	}
	if common := inCommon(want, tokensOf(tok)); common < len(want)*97/100 {
		t.Errorf("%d of %d tokens are the same", common, len(want))
	}
}

// Unigram learns the tokens that Hugging Face's trainer learned in a run, with nearly
// the same scores: the library sums in another order each time.
func TestTrainUnigram(t *testing.T) {
	var want unigramList
	if err := want.parse(string(trained(t).Unigram)); err != nil {
		t.Fatal(err)
	}
	scores, lowest := map[string]float64{}, 0.0
	for _, e := range want[2:] {
		if e.token != EndOfText { // which the text spells out: there a second entry, here none
			scores[e.token], lowest = e.score, min(lowest, e.score)
		}
	}
	lines := strings.SplitAfter(string(fixture(t, "text.txt")), "\n")
	one := learn(t, unigramKind, TrainOptions{Size: 500}, 1, lines...).(*Pipeline)
	common, largest := 0, 0.0
	for id, token := range tokensOf(one)[2:] {
		theirs, ok := scores[token]
		if !ok {
			continue
		}
		common++
		ours := one.model.(*unigram).scores[id+2]
		if d := math.Abs(theirs - ours); len([]rune(token)) == 1 && theirs < lowest+0.01 {
			if d > 0.01 { // characters without a score share the last places, in the order of a hash table
				t.Errorf("%q scores %v, want about %v", token, ours, theirs)
			}
		} else {
			largest = max(largest, d)
		}
	}
	if common < len(scores)-1 || largest > 1e-6 {
		t.Errorf("%d of %d tokens are the same, their scores differ by %g at most", common, len(scores), largest)
	}
	if diff := cmp.Diff(one.content, learn(t, unigramKind, TrainOptions{Size: 500}, 3, lines...).(*Pipeline).content); diff != "" {
		t.Error("the result depends on the number of counters")
	}
	if text := "koala  <|endoftext|> 考拉\n the\n\n"; Decode(one, encodeAll(t, one, strings.ReplaceAll(text, "考拉", ""))) != strings.ReplaceAll(text, "考拉", "") {
		t.Errorf("%q does not come back", text)
	}
}

func inCommon(a, b []string) (n int) {
	for _, token := range a {
		if slices.Contains(b, token) {
			n++
		}
	}
	return n
}

func encodeAll(t *testing.T, tok Tokenizer, text string) []uint32 {
	t.Helper()
	ids, err := Encode(tok, text)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// A vocabulary without room for the characters of the text is an error that says how
// large it must be.
func TestTrainTooSmall(t *testing.T) {
	for _, kind := range []Kind{wordPieceKind, unigramKind} {
		trainer, err := kind.NewTrainer(TrainOptions{Size: 10})
		if err != nil {
			t.Fatal(err)
		}
		trainer.NewCounter().Add([]byte("abcdefghijklmnop qrs"), 0, Document)
		if _, err := trainer.Train(); err == nil || !strings.Contains(err.Error(), "want at least") {
			t.Errorf("%s: error is %v", kind.Name, err)
		}
	}
}

// A text without a pair to merge makes a tokenizer too.
func TestTrainBPEWithoutMerges(t *testing.T) {
	const text = "x \ny \nz \nw \nv" // each word is one byte
	tokens := tokensOf(learn(t, bpeKind, TrainOptions{Size: 900, MinCount: 2, Documents: true}, 1, text))
	if n := len(tokens); n != 257 {
		t.Errorf("%d tokens, want the bytes and %s", n, EndOfText)
	}
}
